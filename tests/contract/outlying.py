"""Backends that fail on demand, and a look at what a mesh channel makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import grpc

from meshsdk.channel.balancer import ClusterBalancer
from meshsdk.model.policy import LbConfig, OutlierDetection
from meshsdk.model.snapshot import Snapshot
from tests.contract import channel_backend
from tests.contract.channels import TARGET, Lab, resolved, route, snapshot_of
from tests.contract.test_channel_connecting import QUICK, wait


class Failing(channel_backend.Scripted):
    """Handlers that end every call with `code` while it is set."""

    code: grpc.StatusCode | None = None

    def act(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """See `Scripted`."""
        if self.code is not None:
            self.executed.append(request.decode())
            context.abort(self.code, "scripted to be broken")
        yield from super().act(request, context)


class FailingBackend(channel_backend.Backend):
    """A backend whose `script.code` may be set at any time."""

    scripted = Failing
    script: Failing


def configuration(
    addresses: Iterable[str], policy: OutlierDetection | None = None, lb: LbConfig | None = None
) -> Snapshot:
    """One cluster of endpoints with an outlier policy; without panic, unless `lb` says otherwise."""
    found = resolved("c", addresses, lb or LbConfig(panic_threshold=0.0))
    cluster = replace(found.cluster, outlier=policy)
    leaves = tuple(replace(leaf, cluster=cluster) for leaf in found.leaves)
    return snapshot_of([route("c")], replace(found, cluster=cluster, leaves=leaves))


def opened(lab: Lab, first: Snapshot) -> Any:
    """A caller on a channel of `first`, once all its endpoints are connected."""
    caller = lab.open("", first=first, options=QUICK)
    caller.ask("unary_unary", b"say:warm", wait_for_ready=True)
    wait(lambda: balancer(lab).settled)
    return caller


def balancer(lab: Lab) -> ClusterBalancer:
    """The balancer of the only cluster."""
    return next(iter(lab.scopes[0]._watched[TARGET].target._balancers.values()))


def ejected(lab: Lab) -> set[str]:
    """Who is out now."""
    return set(balancer(lab).outliers.ejections)
