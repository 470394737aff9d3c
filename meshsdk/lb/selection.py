"""The endpoints of a cluster that this client uses: its priorities in order, each narrowed to a subset.

`select` runs once per snapshot, on the thread that receives it; connectivity does not enter here. Its result is frozen
and holds what the next `select` needs to follow a change at the cost of that change.

Draining endpoints are left alone, as long as there are others. Where all are draining, they are used as if they were
not: they still serve, and whoever drains waits for as long as it is called. (A single instance that goes offline for a
moment, or all of an application at once, would be an outage otherwise; Kubernetes does alike, KEP-1669.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from types import MappingProxyType

from meshsdk.lb.maglev import Table
from meshsdk.lb.ring_hash import Ring
from meshsdk.lb.subsetting import Ranking, Tally, quotas, ranked, reranked
from meshsdk.model.endpoints import Endpoint, EndpointMap, Health
from meshsdk.model.policy import LbConfig, Maglev, RingHash
from meshsdk.model.resources import Drop, Locality, LocalityEndpoints
from meshsdk.model.snapshot import ResolvedCluster

_HASHED_SUBSET = 1024


@dataclass(frozen=True, slots=True)
class Members:
    """One locality of one priority: the endpoints chosen from it, by rank, and the tally of all its endpoints.

    `local`: it is in the zone of this client.
    """

    locality: Locality
    weight: int
    local: bool
    endpoints: tuple[Endpoint, ...]
    tally: Tally


@dataclass(frozen=True, slots=True)
class Group:
    """One priority of one leaf cluster. `overprovisioning` 1.4: full load down to 1/1.4 of its endpoints."""

    cluster: str
    priority: int
    localities: tuple[Members, ...]
    overprovisioning: float
    drops: tuple[Drop, ...]


RankingKey = tuple[str, int, Locality]  # leaf cluster, priority, locality
TableKey = tuple[object, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What this client uses of a cluster. `groups` are in the order in which they take over from each other.

    `groups` and `endpoints` are the very objects of the previous selection where nothing in them changed, so that
    `is` tells whether connections or pickers need a look.

    Thread rule: frozen but for `tables`, a cache of hash rings and Maglev tables that `picker.build` fills; two
    builders at once may both compute the same table, to no harm.
    """

    cluster: str
    lb: LbConfig
    groups: tuple[Group, ...]
    endpoints: Mapping[str, Endpoint]
    """All chosen endpoints by address; connections to others may go once their calls are done."""
    problems: tuple[str, ...]
    """Why leaves have no endpoints to offer, in words."""
    seed: int
    rankings: Mapping[RankingKey, Ranking]
    tables: dict[TableKey, Ring | Table] = field(default_factory=dict)

    @property
    def addresses(self) -> frozenset[str]:
        """The addresses of all chosen endpoints."""
        return frozenset(self.endpoints)


def subset_limit(lb: LbConfig) -> int:
    """Returns how many endpoints of one priority a client uses at most.

    Hash policies promise that all clients send one key to one endpoint, which clients with different subsets cannot
    keep: there the limit is at least 1,024. Above that, a key stays with one endpoint for each client only.
    """
    if isinstance(lb.policy, RingHash | Maglev):
        return max(lb.subset_size, _HASHED_SUBSET)
    return max(lb.subset_size, 1)


def select(cluster: ResolvedCluster, local: Locality, seed: int, previous: Selection | None) -> Selection:
    """Returns the endpoints to use of `cluster` for a client in `local` with the subsetting `seed` (64 bits).

    `previous` is the last selection of the same cluster, or None. The aggregate's own `lb` rules all its leaves (A37).
    """
    lb = cluster.cluster.lb
    known: Mapping[RankingKey, Ranking] = {}
    if previous is not None and previous.seed == seed and subset_limit(previous.lb) == subset_limit(lb):
        known = previous.rankings
    rankings: dict[RankingKey, Ranking] = {}
    groups = _groups(cluster, local, seed, known, rankings)
    if _only_draining(groups):
        groups = _groups(cluster, local, seed, known, rankings, draining=True)
    problems = tuple(leaf.problem for leaf in cluster.leaves if leaf.problem or leaf.endpoints is None)
    return _finish(cluster, groups, problems, seed, rankings, previous)


def _groups(
    cluster: ResolvedCluster,
    local: Locality,
    seed: int,
    known: Mapping[RankingKey, Ranking],
    rankings: dict[RankingKey, Ranking],
    *,
    draining: bool = False,
) -> tuple[Group, ...]:
    """Narrows all priorities. `draining`: all endpoints are, and count as healthy."""
    groups: list[Group] = []
    for leaf in cluster.leaves:
        source = leaf.endpoints
        if source is None:
            continue
        for priority, of_priority in groupby(source.localities, key=lambda one: one.priority):
            localities = tuple(of_priority)
            if draining:
                localities = tuple(map(_as_healthy, localities))
            ranks = _Ranks(leaf.cluster.name, priority, subset_limit(cluster.cluster.lb), seed, known)
            members = _members(localities, local, ranks, rankings)
            groups.append(Group(leaf.cluster.name, priority, members, source.overprovisioning, source.drops))
    return tuple(groups)


def _only_draining(groups: tuple[Group, ...]) -> bool:
    tallies = [members.tally for group in groups for members in group.localities]
    return not any(tally.staying for tally in tallies) and any(tally.draining for tally in tallies)


def _as_healthy(locality: LocalityEndpoints) -> LocalityEndpoints:
    endpoints = (replace(endpoint, health=Health.HEALTHY) for endpoint in locality.endpoints)
    return replace(locality, endpoints=EndpointMap.of(endpoints))


@dataclass(frozen=True, slots=True)
class _Ranks:
    """How the localities of one priority are ranked."""

    cluster: str
    priority: int
    limit: int
    seed: int
    known: Mapping[RankingKey, Ranking]

    def of(self, locality: LocalityEndpoints) -> tuple[RankingKey, Ranking]:
        """Returns the locality's ranking, from the known one where there is one."""
        key = (self.cluster, self.priority, locality.locality)
        keep = 2 * self.limit
        known = self.known.get(key)
        if known is None:
            return key, ranked(locality.endpoints, keep, self.seed)
        return key, reranked(known, locality.endpoints, self.limit, keep, self.seed)


def _members(
    localities: tuple[LocalityEndpoints, ...], local: Locality, ranks: _Ranks, rankings: dict[RankingKey, Ranking]
) -> tuple[Members, ...]:
    """Narrows the localities of one priority, and notes their rankings for the next time."""
    found = [ranks.of(locality) for locality in localities]
    rankings.update(found)
    counts = quotas([ranking.tally.staying for _, ranking in found], ranks.limit)
    return tuple(
        Members(
            locality=locality.locality,
            weight=locality.weight,
            local=bool(local.zone) and (local.region, local.zone) == (locality.locality.region, locality.locality.zone),
            endpoints=ranking.best(count),
            tally=ranking.tally,
        )
        for locality, (_, ranking), count in zip(localities, found, counts, strict=True)
    )


def _finish(
    cluster: ResolvedCluster,
    groups: tuple[Group, ...],
    problems: tuple[str, ...],
    seed: int,
    rankings: Mapping[RankingKey, Ranking],
    previous: Selection | None,
) -> Selection:
    endpoints: Mapping[str, Endpoint] = MappingProxyType(
        {
            endpoint.address: endpoint
            for group in reversed(groups)  # of an address in several groups, the first one counts
            for members in group.localities
            for endpoint in members.endpoints
        }
    )
    if previous is not None:
        groups = previous.groups if groups == previous.groups else groups
        endpoints = previous.endpoints if endpoints == previous.endpoints else endpoints
    tables = {} if previous is None else previous.tables
    return Selection(cluster.cluster.name, cluster.cluster.lb, groups, endpoints, problems, seed, rankings, tables)
