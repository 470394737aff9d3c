"""Clusters, selections and backends for the tests of load balancing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping

from meshsdk.lb.backend import Backend, Connectivity
from meshsdk.lb.picker import Picker, build
from meshsdk.lb.selection import Selection, select
from meshsdk.model.endpoints import Endpoint, EndpointMap, Health
from meshsdk.model.policy import LbConfig
from meshsdk.model.resources import Cluster, ClusterEndpoints, Drop, EdsSource, Locality, LocalityEndpoints
from meshsdk.model.snapshot import Leaf, ResolvedCluster

NOWHERE = Locality()


def address(number: int, net: int = 0) -> str:
    """The address of endpoint `number` in network `net`."""
    return f"10.{net}.{number // 256}.{number % 256}:80"


def endpoints(count: int, net: int = 0, health: Health = Health.HEALTHY, weight: int = 1) -> list[Endpoint]:
    """So many like endpoints."""
    return [Endpoint(address(number, net), weight, health) for number in range(count)]


def mixed(net: int = 0, **counts: int) -> list[Endpoint]:
    """Endpoints by health: `mixed(healthy=3, draining=1)`."""
    kinds = [Health(kind) for kind, count in counts.items() for _ in range(count)]
    return [Endpoint(address(number, net), health=kind) for number, kind in enumerate(kinds)]


def locality(members: Iterable[Endpoint], priority: int = 0, weight: int = 1, zone: str = "") -> LocalityEndpoints:
    """One locality in region "r" (none for zone "")."""
    where = Locality("r", zone) if zone else Locality()
    return LocalityEndpoints(where, priority, weight, EndpointMap.of(members))


def cluster(*localities: LocalityEndpoints, lb: LbConfig | None = None, drops: Iterable[Drop] = ()) -> ResolvedCluster:
    """A cluster `orders` that is its own only leaf."""
    own = Cluster("orders", EdsSource("orders"), lb or LbConfig())
    return ResolvedCluster(own, (Leaf(own, ClusterEndpoints("orders", localities, tuple(drops))),))


def selected(*localities: LocalityEndpoints, lb: LbConfig | None = None, zone: str = "", seed: int = 1) -> Selection:
    """The selection of a client in `zone` of region "r"."""
    return select(cluster(*localities, lb=lb), Locality("r", zone) if zone else NOWHERE, seed, None)


def backends(
    selection: Selection, state: Connectivity = Connectivity.READY, **by_net: Connectivity
) -> dict[str, Backend]:
    """A backend in `state` for each endpoint chosen; `net1=...` sets another state for those of network 1."""
    made = {one: Backend(endpoint) for one, endpoint in selection.endpoints.items()}
    for one, backend in made.items():
        backend.state = by_net.get("net" + one.split(".")[1], state)
    return made


def draws(seed: int = 7) -> random.Random:
    """A seeded source of numbers: `.random` is a draw."""
    return random.Random(seed)


def picker(selection: Selection, made: Mapping[str, Backend], now: float = 0.0, seed: int = 7) -> Picker:
    """The picker, which must be one."""
    built = build(selection, made, now, draws(seed).random)
    assert isinstance(built, Picker), built
    return built


def tallied(built: Picker, calls: int, keys: Iterable[int | None] | None = None) -> Counter[str]:
    """How often each address is picked."""
    return Counter(built.pick(key).endpoint.address for key in (keys or [None] * calls))


def by_net(counts: Mapping[str, int]) -> dict[str, float]:
    """Shares of picks by network number."""
    total: Counter[str] = Counter()
    for one, count in counts.items():
        total[one.split(".")[1]] += count
    return {net: count / sum(counts.values()) for net, count in total.items()}
