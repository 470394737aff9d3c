"""The pure walk from a listener to its endpoints: what a target's calls need, and what is still lacking (gRFC A74).

Called by the session for every target whose resources changed. Subscriptions follow from what it returns; it starts
nothing, keeps nothing, and gives the same answer for the same store; `walked` is how it spares itself what it knows.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import lru_cache
from typing import Protocol

from meshsdk.model.collection import EndpointCollection
from meshsdk.model.endpoints import Endpoint, EndpointMap
from meshsdk.model.resources import (
    AggregateSource,
    Cluster,
    ClusterEndpoints,
    DnsSource,
    EdsSource,
    Kind,
    Listener,
    Locality,
    LocalityEndpoints,
    RegistrySource,
    Resource,
    RouteConfiguration,
    VirtualHost,
)
from meshsdk.model.snapshot import BrokenCluster, Key, Leaf, Resolution, ResolvedCluster, Unresolvable
from meshsdk.routing.domains import best_match
from meshsdk.xds_client.instances import instances_key, why_none
from meshsdk.xds_client.named_clusters import named_clusters
from meshsdk.xds_client.store import FROM_DISK, Entry, EntryStatus
from meshsdk.xds_client.walked import Part, Walked

_DEPTH = 16  # A37: aggregate clusters nested deeper are refused
_DNS_LEAVES = 1024  # kept, so that an unchanged DNS cluster stays the same object from one snapshot to the next


class Entries(Protocol):
    """What `resolve` sees of the store."""

    def get(self, key: Key) -> Entry | None:
        """Returns what is known about a key, None for one that nothing asked for yet."""


def resolve(
    store: Entries,
    target: str,
    listener_name: str,
    authority: str,
    previous: Resolution | None = None,
    changed: AbstractSet[Key] = frozenset(),
) -> Resolution:
    """Walks LDS -> RDS -> virtual host for `authority` -> the clusters it names -> their leaves -> EDS.

    `snapshot` is None while a wanted resource is merely awaited, so that no partial configuration is published. Where
    a server was unreachable for a wanted resource, the answer says so in words and the key is in `missing`: whoever
    has a complete configuration in force keeps it. A resource that was once good counts, whatever came after (A88).

    `previous`: what was returned for this target before, if `changed` has every key whose entry changed since. Then
    only clusters that looked at those are walked again, with the same result.
    """
    walked = previous.walked if previous is not None else None
    if isinstance(walked, Walked):
        touched = walked.touched(changed)
        if touched is not None:
            return walked.stepped({name: _part(store, name) for name in touched}).resolution()
    walk = _Walk(store)
    found = _host(walk, target, listener_name, authority)
    if isinstance(found, Unresolvable):
        return Resolution(None if walk.awaited else found, frozenset(walk.wanted), frozenset(walk.missing))
    parts = {name: _part(store, name) for name in named_clusters(*found)}
    return Walked.of(target, *found, walk.wanted, parts).resolution()


def resolve_cluster(
    store: Entries,
    target: str,
    way: tuple[Listener, VirtualHost],
    name: str,
    previous: Resolution | None,
    changed: AbstractSet[Key],
) -> Resolution:
    """Walks from the cluster `name` on; `way` leads to it and came from no server. The rest as `resolve`."""
    walked = previous.walked if previous is not None else None
    if isinstance(walked, Walked):
        return walked.stepped({one: _part(store, one) for one in walked.touched(changed) or ()}).resolution()
    return Walked.of(target, *way, (), {name: _part(store, name)}).resolution()


def _part(store: Entries, name: str) -> Part:
    walk = _Walk(store)
    cluster = _cluster(walk, name)
    return Part(cluster, frozenset(walk.wanted), frozenset(walk.missing), walk.awaited)


class _Walk:
    """One look through the store, to the virtual host or at one cluster. Lives for one `resolve`, in one thread."""

    __slots__ = ("_store", "awaited", "missing", "wanted")

    def __init__(self, store: Entries) -> None:
        self._store = store
        self.wanted: set[Key] = set()
        self.missing: set[Key] = set()
        self.awaited = False  # something is neither there nor declared missing

    def look(self, kind: Kind, name: str) -> tuple[Resource | None, str]:
        """Returns (resource, "") or (None, why there is none); notes what is wanted and what is lacking."""
        key = Key(kind, name)
        self.wanted.add(key)
        entry = self._store.get(key)
        if entry is not None and entry.resource is not None:
            return entry.resource, ""
        status = EntryStatus.REQUESTED if entry is None else entry.status
        if status in {EntryStatus.REQUESTED, EntryStatus.UNREACHABLE}:
            self.missing.add(key)
        if status is EntryStatus.REQUESTED:
            self.awaited = True
        problem = entry.problem if entry is not None else ""
        return None, f"{_words(kind)} {name!r}: {problem or status.value}"

    def entry(self, kind: Kind, name: str) -> Entry | None:
        """Returns what is known of a resource that was looked at."""
        return self._store.get(Key(kind, name))

    def leaf(self, cluster: Cluster) -> Leaf:
        """Returns a cluster with its endpoints, and whom to tell about its calls."""
        leaf = _leaf(self, cluster)
        entry = self._store.get(Key(Kind.CLUSTER, cluster.name)) if cluster.reports else None
        if entry is None or entry.server == FROM_DISK:
            return leaf
        return replace(leaf, report_to=entry.server)

    def why_none(self, key: Key) -> str:
        """Returns what a registry says to having no instance, "" where it has some."""
        entry = self._store.get(key)
        return why_none(entry) if entry is not None else ""


def _words(kind: Kind) -> str:
    return {
        Kind.LISTENER: "listener",
        Kind.ROUTE: "route configuration",
        Kind.CLUSTER: "cluster",
        Kind.LB_ENDPOINTS: "LEDS collection",
        Kind.INSTANCES: "instances",
    }.get(kind, "endpoints")


def _host(walk: _Walk, target: str, listener_name: str, authority: str) -> tuple[Listener, VirtualHost] | Unresolvable:
    listener, problem = walk.look(Kind.LISTENER, listener_name)
    if not isinstance(listener, Listener):
        entry = walk.entry(Kind.LISTENER, listener_name)
        return Unresolvable(target, problem, absent=entry is not None and entry.status is EntryStatus.ABSENT)
    routes: Resource | None = listener.route_config
    if listener.route_config_name is not None:
        routes, problem = walk.look(Kind.ROUTE, listener.route_config_name)
    if not isinstance(routes, RouteConfiguration):
        return Unresolvable(target, problem)
    host = best_match(authority, routes.virtual_hosts)
    if host is None:
        where = (
            f"route configuration {routes.name!r}" if listener.route_config is None else f"listener {listener_name!r}"
        )
        return Unresolvable(target, f"{where}: no virtual host has a domain that matches {authority!r}")
    return listener, host


def _cluster(walk: _Walk, name: str) -> ResolvedCluster | BrokenCluster:
    cluster, problem = walk.look(Kind.CLUSTER, name)
    if not isinstance(cluster, Cluster):
        return BrokenCluster(name, problem)
    if not isinstance(cluster.source, AggregateSource):
        return ResolvedCluster(cluster, (walk.leaf(cluster),))
    graph = _Graph(walk)
    graph.visit(cluster, ())
    if graph.problem:
        return BrokenCluster(name, f"cluster {name!r}: {graph.problem}")
    return ResolvedCluster(cluster, tuple(graph.leaves.values()))


class _Graph:
    """The leaves below one cluster, depth first, each once (A37). Lives for one `resolve`, in one thread."""

    __slots__ = ("_done", "_walk", "leaves", "problem")

    def __init__(self, walk: _Walk) -> None:
        self._walk = walk
        self._done: set[str] = set()  # aggregates whose leaves are all in
        self.leaves: dict[str, Leaf] = {}
        self.problem = ""  # why the graph as a whole cannot be used

    def visit(self, cluster: Cluster, above: tuple[str, ...]) -> None:
        """Adds the leaves of `cluster`, which stands below the aggregates `above`."""
        if not isinstance(cluster.source, AggregateSource):
            self.leaves.setdefault(cluster.name, self._walk.leaf(cluster))
            return
        path = (*above, cluster.name)
        if len(path) >= _DEPTH:
            self.problem = f"aggregate clusters are nested more than {_DEPTH} deep"
        for name in cluster.source.clusters:
            if self.problem:
                return
            if name in path:
                self.problem = f"aggregate clusters form a cycle: {' -> '.join((*path, name))}"
            elif name not in self._done and name not in self.leaves:
                self._child(name, path)
        self._done.add(cluster.name)

    def _child(self, name: str, path: tuple[str, ...]) -> None:
        child, problem = self._walk.look(Kind.CLUSTER, name)
        if isinstance(child, Cluster):
            self.visit(child, path)
        else:  # the other leaves go on without it (A37)
            self.leaves[name] = Leaf(Cluster(name, EdsSource(name)), None, problem)


def _leaf(walk: _Walk, cluster: Cluster) -> Leaf:
    source = cluster.source
    if isinstance(source, EdsSource):
        endpoints, problem = walk.look(Kind.ENDPOINTS, source.resource_name)
        if not isinstance(endpoints, ClusterEndpoints):
            return Leaf(cluster, None, problem)
        return _filled(walk, cluster, endpoints)
    if isinstance(source, RegistrySource):
        # The registry's word counts, whatever an EDS resource of the same name may say.
        key = instances_key(source)
        endpoints, problem = walk.look(key.kind, key.name)
        if not isinstance(endpoints, ClusterEndpoints):
            return Leaf(cluster, None, problem)
        return Leaf(cluster, endpoints, walk.why_none(key))
    if isinstance(source, DnsSource):
        return Leaf(cluster, _dns(cluster.name, source))
    if isinstance(source, AggregateSource):  # visited, never a leaf
        return Leaf(cluster, None, f"cluster {cluster.name!r} is an aggregate")
    return Leaf(cluster, source.endpoints)


def _filled(walk: _Walk, cluster: Cluster, endpoints: ClusterEndpoints) -> Leaf:
    """Puts the endpoints of LEDS collections into the localities that name them; a collection that is absent is empty.

    Localities that did not change hold the very `EndpointMap` as before, which is how `lb.selection` tells.
    """
    localities: list[LocalityEndpoints] = []
    problems: list[str] = []
    for one in endpoints.localities:
        if not one.collection:
            localities.append(one)
            continue
        found, problem = walk.look(Kind.LB_ENDPOINTS, one.collection)
        if isinstance(found, EndpointCollection):
            localities.append(replace(one, endpoints=found.endpoints))
        else:
            localities.append(one)
            problems.append(problem)
    if problems and len(problems) == len(localities):
        return Leaf(cluster, None, problems[0])
    if any(one.collection for one in localities):
        endpoints = replace(endpoints, localities=tuple(localities))
    return Leaf(cluster, endpoints)


@lru_cache(maxsize=_DNS_LEAVES)
def _dns(name: str, source: DnsSource) -> ClusterEndpoints:
    """Returns the one endpoint of a LOGICAL_DNS cluster: the channel resolves the name, and again when it must."""
    host = f"[{source.host}]" if ":" in source.host else source.host
    endpoint = Endpoint(f"dns:///{host}:{source.port}")
    return ClusterEndpoints(name, (LocalityEndpoints(Locality(), 0, 1, EndpointMap.of([endpoint])),))
