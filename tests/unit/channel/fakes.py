"""Fake links, a scripted source and a scope whose time is an argument, for the tests of the channel layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from meshsdk.channel.balancer import Surroundings
from meshsdk.channel.pool import Pool
from meshsdk.channel.scope import Scope
from meshsdk.channel.stack import Target
from meshsdk.lb.backend import Connectivity
from meshsdk.model.endpoints import Endpoint, EndpointMap
from meshsdk.model.matching import PathKind, PathMatch, RouteMatch
from meshsdk.model.policy import LbConfig
from meshsdk.model.resources import (
    Cluster,
    ClusterEndpoints,
    Drop,
    EdsSource,
    Forward,
    Listener,
    Locality,
    LocalityEndpoints,
    Route,
    VirtualHost,
    WeightedCluster,
)
from meshsdk.model.snapshot import BrokenCluster, Leaf, ResolvedCluster, Snapshot, Unresolvable
from meshsdk.xds_client.load_counts import LoadCounts


class FakeLink:
    """A link whose state the test sets."""

    def __init__(self, address: str, authority: str) -> None:
        self.address = address
        self.authority = authority
        self.channel = object()
        self.state = Connectivity.CONNECTING
        self.probes = 0
        self.closed = False

    def ready(self) -> bool:
        """See Link."""
        return self.state is Connectivity.READY

    def probe(self) -> Connectivity:
        """See Link."""
        self.probes += 1
        return self.state

    def close(self) -> None:
        """See Link."""
        assert not self.closed
        self.closed = True


@dataclass
class World:
    """A pool of fake links, and a time that only the test moves."""

    now: float = 1000.0
    links: list[FakeLink] = field(default_factory=list)
    pool: Pool = field(init=False)

    def __post_init__(self) -> None:
        self.pool = Pool(self.dial)

    def dial(self, address: str, authority: str) -> FakeLink:
        """Makes a link."""
        self.links.append(FakeLink(address, authority))
        return self.links[-1]

    def around(self) -> Surroundings:
        """The surroundings of a balancer."""
        return Surroundings(self.pool, Locality(), 1, lambda: self.now, lambda: self.now)

    def link(self, address: str) -> FakeLink:
        """The open link to an address."""
        (found,) = [link for link in self.links if link.address == address and not link.closed]
        return found

    def set(self, state: Connectivity, *addresses: str) -> None:
        """Sets the state of links, of all without addresses."""
        for link in self.links:
            if not addresses or link.address in addresses:
                link.state = state

    @property
    def open(self) -> set[str]:
        """The addresses of links that are not closed."""
        return {link.address for link in self.links if not link.closed}


@dataclass
class FakeWatch:
    """A watch that tells whether it was cancelled."""

    deliver: Callable[[Snapshot | Unresolvable], None]
    cancelled: bool = False

    def cancel(self) -> None:
        """See Watch."""
        self.cancelled = True


class FakeSource:
    """Watches by target."""

    def __init__(self) -> None:
        self.watches: dict[str, list[FakeWatch]] = {}
        self.loads = LoadCounts()

    def watch(self, target: str, on_resolution: Callable[[Snapshot | Unresolvable], None]) -> Any:
        """See Source."""
        self.watches.setdefault(target, []).append(FakeWatch(on_resolution))
        return self.watches[target][-1]

    def progress(self, target: str) -> str:
        """See Source."""
        return f"progress of {target}"


class PlainScope(Scope):
    """A scope without monitor: the test looks."""

    def __init__(self, world: World, source: FakeSource) -> None:
        super().__init__(source, world.dial, Locality(), 1)
        self.woken = 0

    def hurry(self) -> None:
        """The test looks when it wants to."""

    def _ask(self, asked: Any, period: float) -> bool:
        """No endpoint is asked."""
        return False

    def _deliver(self, target: Target, resolution: Snapshot | Unresolvable) -> None:
        target.adopt(resolution)

    def _changed(self) -> None:
        self.woken += 1


def cluster(
    *addresses: str | Endpoint, name: str = "c", lb: LbConfig | None = None, drops: Iterable[Drop] = ()
) -> ResolvedCluster:
    """A cluster of endpoints in one locality."""
    endpoints = EndpointMap.of(where if isinstance(where, Endpoint) else Endpoint(where) for where in addresses)
    load = ClusterEndpoints(name, (LocalityEndpoints(Locality(), 0, 1, endpoints),), tuple(drops))
    made = Cluster(name, EdsSource(name), lb or LbConfig())
    return ResolvedCluster(made, (Leaf(made, load),))


def route(*clusters: str, prefix: str = "/", **forward: Any) -> Route:
    """A route to clusters of equal weight."""
    weighted = tuple(WeightedCluster(name, 1) for name in clusters)
    return Route("r", RouteMatch(PathMatch(PathKind.PREFIX, prefix)), Forward(weighted, **forward))


def snapshot(*clusters: ResolvedCluster | BrokenCluster, routes: Iterable[Route] | None = None) -> Snapshot:
    """One route to the first cluster unless `routes` says otherwise."""
    named = {one.name if isinstance(one, BrokenCluster) else one.cluster.name: one for one in clusters}
    host = VirtualHost("orders", ("*",), tuple(routes or [route(next(iter(named)))]))
    return Snapshot("xds:///orders", Listener("orders"), host, named)
