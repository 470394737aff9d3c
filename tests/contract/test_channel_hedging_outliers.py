"""Hedged calls and outlier ejection: an endpoint that is overtaken again and again is taken out. Mesh channels only."""

from __future__ import annotations

import dataclasses
import time

import grpc
import pytest

from meshsdk.model.policy import OutlierDetection
from meshsdk.model.snapshot import Snapshot
from tests.contract import test_channel_hedging as hedging
from tests.contract.channel_backend import Backend
from tests.contract.channel_callers import PATIENCE

pytestmark = pytest.mark.parametrize("path", ["mesh"])

STREAK = 3
other = hedging.other
shape = hedging.shape


def judged(snapshot: Snapshot) -> Snapshot:
    """The same with outlier ejection, which nobody comes back from while the test runs."""
    cluster = snapshot.clusters["c"]
    policy = OutlierDetection(consecutive_5xx=STREAK, base_ejection_time=3600.0, max_ejection_percent=50)
    leaves = tuple(
        dataclasses.replace(leaf, cluster=dataclasses.replace(leaf.cluster, outlier=policy)) for leaf in cluster.leaves
    )
    cluster = dataclasses.replace(cluster, cluster=leaves[0].cluster, leaves=leaves)
    return dataclasses.replace(snapshot, clusters={"c": cluster})


def test_overtaken_endpoint_is_ejected(lab, backend: Backend, other: Backend, shape: str) -> None:
    """A server whose attempts are overtaken, and so never end by themselves, gets no more of them after the streak."""
    caller = lab.open("", first=judged(hedging.hedged(backend.address, other.address)))
    deadline = time.monotonic() + PATIENCE
    seen: set[bytes] = set()
    while seen != {b"a", b"b"}:
        seen |= {caller.ask("stream_unary", b"who:").answers[0]}
        assert time.monotonic() < deadline
    request = b"each:a=hang:0;b=metadata:"
    while backend.executed.count(request.decode()) < STREAK:
        assert caller.ask(shape, request).code is grpc.StatusCode.OK
        assert time.monotonic() < deadline
    asked = backend.executed.count(request.decode())
    for _ in range(40):
        assert caller.ask(shape, request).code is grpc.StatusCode.OK
    assert backend.executed.count(request.decode()) == asked
