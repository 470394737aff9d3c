"""What `resolve` publishes: everything calls to one target need, frozen (gRFC A74 `XdsConfig`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from meshsdk.model.resources import (
    NO_METHODS,
    Cluster,
    ClusterEndpoints,
    Kind,
    Listener,
    Methods,
    RuntimeLayer,
    VirtualHost,
)


class Key(NamedTuple):
    """Names one resource of one authority's store: type and full resource name (xdstp names included).

    A tuple, because a look at the configuration of 1,000 services hashes thousands of them.
    """

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf of a cluster's graph: itself, or a leaf of its aggregate. In order, leaves are groups of priorities.

    `endpoints` is None with a `problem` in words where the leaf has no endpoints to offer (resource missing or bad); a
    registry that has answered with none is a `problem` beside empty endpoints. `report_to`: the URI of the xDS server
    that gave the cluster and asked for the counts of its calls (A27 `lrs_server`); "": none did.
    """

    cluster: Cluster
    endpoints: ClusterEndpoints | None
    problem: str = ""
    report_to: str = ""


@dataclass(frozen=True, slots=True)
class ResolvedCluster:
    """A cluster that routes name, with its leaves. An aggregate's own `cluster.lb` rules all their endpoints."""

    cluster: Cluster
    leaves: tuple[Leaf, ...]

    @property
    def methods(self) -> Methods:
        """What the servers behind it say of their methods, below anything that configuration says.

        Known where the endpoints come from a registry. Of several leaves, what all of them say alike.
        """
        said = [leaf.endpoints.methods for leaf in self.leaves if leaf.endpoints is not None]
        if len(said) == 1 or not any(said):
            return said[0] if said else NO_METHODS
        return {name: one for name, one in said[0].items() if all(other.get(name) == one for other in said[1:])}


@dataclass(frozen=True, slots=True)
class BrokenCluster:
    """A cluster that routes name and that cannot be used: calls routed to it fail UNAVAILABLE with `problem` (A74)."""

    name: str
    problem: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Complete configuration of one target.

    Every cluster named by `virtual_host` is in `clusters`: of its routes, their mirrors and its filters; so are the
    clusters that the filters of `listener` name.
    """

    target: str
    listener: Listener
    virtual_host: VirtualHost
    clusters: Mapping[str, ResolvedCluster | BrokenCluster]
    version: int = 0


@dataclass(frozen=True, slots=True)
class Unresolvable:
    """The target cannot be used: calls fail UNAVAILABLE with `problem`, naming the resource and the server asked.

    `absent`: the server that was asked has no such target at all; it is not merely out of reach or out of order.
    """

    target: str
    problem: str
    absent: bool = field(default=False, compare=False)  # the words differ where this does


@dataclass(frozen=True, slots=True)
class Resolution:
    """Outcome of one `resolve`: what can be published, and every key that the target needs (subscriptions follow it).

    `snapshot` is None while something in `missing` has neither arrived nor been declared missing: keep what is in
    force. A `RuntimeLayer` is the answer of a watch on one (`xds_client.layer`). `walked`: the walk's own notes, so
    that the next one costs what changed; nobody else reads it.
    """

    snapshot: Snapshot | Unresolvable | RuntimeLayer | None
    wanted: frozenset[Key]
    missing: frozenset[Key]
    walked: object | None = field(default=None, compare=False, repr=False)
