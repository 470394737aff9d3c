"""What the shim's Envoy is to have, from what targets resolve to and from the state of the application.

Fed by the xDS client's thread and by `presence`; each change makes new `Contents` and hands them to the ADS server. The
routes and clusters are the control plane's own bytes (`xds.routes`, `xds.clusters`), the endpoints come from the
snapshot, whatever source they have there: EDS, LEDS or a service registry.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from meshsdk.model.resources import (
    AggregateSource,
    Cluster,
    ClusterEndpoints,
    EdsSource,
    Kind,
    RegistrySource,
)
from meshsdk.model.snapshot import Key, ResolvedCluster, Snapshot, Unresolvable
from meshsdk.shim.settings import Settings
from meshsdk.shim.xds.clusters import inbound_cluster, outbound_cluster
from meshsdk.shim.xds.contents import Contents
from meshsdk.shim.xds.listeners import inbound_listener, inbound_name, inbound_routes, outbound_listener
from meshsdk.shim.xds.routes import OUTBOUND, Reached, Unreached, inlined_routes, routes
from meshsdk.xds_client.names import Target
from meshsdk.xds_client.store import Entry

_LOG = logging.getLogger("meshsdk.shim")
_MOST_CLUSTERS = 64  # nested aggregates, see gRFC A37

Built = tuple[Cluster, bytes]


class Store(Protocol):
    """What is seen of the xDS client (`XdsClient.entry`)."""

    def entry(self, key: Key) -> Entry | None:
        """Returns what is known of a resource."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one target adds."""

    target: Reached | Unreached
    clusters: Mapping[str, Built] = field(default_factory=dict)
    endpoints: Mapping[str, ClusterEndpoints] = field(default_factory=dict)


class Desired:
    """Methods are for any thread. `_lock` guards all fields but `known`."""

    def __init__(
        self, settings: Settings, targets: Iterable[Target], store: Store, publish: Callable[[Contents], None]
    ) -> None:
        self.known = threading.Event()  # every target has been resolved, or is known to be out of reach
        self._settings = settings
        self._store = store
        self._publish = publish
        self._lock = threading.Lock()
        self._parts: dict[Target, _Part | None] = dict.fromkeys(targets)
        self._draining = False
        self._routes: bytes = b""
        self._ignored: tuple[str, ...] = ()
        self._fixed = _inbound(settings)

    @property
    def problems(self) -> list[str]:
        """What of the configuration cannot be used or has no effect, in words."""
        with self._lock:
            ignored = list(self._ignored)
        return [*self.unresolved, *ignored]

    @property
    def unresolved(self) -> list[str]:
        """The targets that are out of reach, and why."""
        with self._lock:
            parts = list(self._parts.values())
        lost = [one.target for one in parts if one is not None and isinstance(one.target, Unreached)]
        return [f"{one.name}: {one.problem}" for one in lost]

    def begin(self) -> None:
        """Publishes what is known at first: the way in."""
        with self._lock:
            self._say()

    def draining(self, *, draining: bool) -> None:
        """Whether answers of the application tell peers of the SDK to leave."""
        with self._lock:
            self._draining = draining
            self._say()

    def resolved(self, target: Target, result: Snapshot | Unresolvable) -> None:
        """A target has been resolved, anew or at first."""
        with self._lock:
            before = self._parts.get(target)
            part = _part(target, result, before, self._store)
            if part is None:
                _LOG.error("%s: its routes are not among the resources that it was resolved from", target.text)
                return
            self._parts[target] = part
            if before is None or before.target != part.target:
                self._routes = b""
            self._say()

    def _say(self) -> None:
        """Publishes. Called with the lock held, so that contents are published in order."""
        parts = [one for one in self._parts.values() if one is not None]
        listeners, clusters = self._fixed
        names = range(len(self._settings.inbound))
        routed = {inbound_name(one): inbound_routes(one, draining=self._draining) for one in names}
        known = len(parts) == len(self._parts)
        if self._settings.outbound and known:
            if not self._routes:
                self._routes, ignored = routes(one.target for one in parts)
                self._ignored = tuple(ignored)
            routed[OUTBOUND] = self._routes
            listeners = {**listeners, OUTBOUND: outbound_listener(self._settings.outbound)}
        built = {name: raw for one in parts for name, (_, raw) in one.clusters.items()}
        endpoints = {name: found for one in parts for name, found in one.endpoints.items()}
        self._publish(Contents(listeners, routed, {**clusters, **built}, endpoints))
        if known:
            self.known.set()


def _inbound(settings: Settings) -> tuple[Mapping[str, bytes], Mapping[str, bytes]]:
    numbered = list(enumerate(settings.inbound))
    listeners = {inbound_name(number): inbound_listener(number, one) for number, one in numbered}
    named = [(inbound_name(number), one) for number, one in numbered]
    return listeners, {name: inbound_cluster(name, one.target, one.protocol) for name, one in named}


def _part(target: Target, result: Snapshot | Unresolvable, before: _Part | None, store: Store) -> _Part | None:
    if isinstance(result, Unresolvable):
        return _Part(Unreached(target.host, result.problem))
    raw = _raw_routes(target, result, store)
    if raw is None:
        return None
    build = partial(_built, before.clusters if before else {}, store)
    clusters: dict[str, Built] = {}
    endpoints: dict[str, ClusterEndpoints] = {}
    for resolved in result.clusters.values():
        if isinstance(resolved, ResolvedCluster):
            for cluster in _clusters(resolved, store):
                clusters[cluster.name] = build(cluster)
            for leaf in resolved.leaves:
                if isinstance(leaf.cluster.source, (EdsSource, RegistrySource)):
                    name = leaf.cluster.name
                    endpoints[name] = leaf.endpoints or ClusterEndpoints(name, ())
    reached = Reached(target.host, result.virtual_host, raw, result.listener.max_duration)
    return _Part(reached, clusters, endpoints)


def _raw_routes(target: Target, snapshot: Snapshot, store: Store) -> bytes | None:
    """Returns the bytes of the route configuration that the snapshot came from; None if they are not there."""
    if target.source is not None:
        return b""
    listener = snapshot.listener
    if listener.route_config_name is not None:
        entry = store.entry(Key(Kind.ROUTE, listener.route_config_name))
        return entry.raw if entry and entry.raw else None
    entry = store.entry(Key(Kind.LISTENER, target.listener))
    return inlined_routes(entry.raw) if entry and entry.raw else None


def _built(before: Mapping[str, Built], store: Store, cluster: Cluster) -> Built:
    known = before.get(cluster.name)
    if known is not None and known[0] is cluster:
        return known
    entry = store.entry(Key(Kind.CLUSTER, cluster.name))
    return cluster, outbound_cluster(cluster, entry.raw if entry else b"")


def _clusters(resolved: ResolvedCluster, store: Store) -> list[Cluster]:
    """Returns the leaves, and the aggregates above them."""
    found = {leaf.cluster.name: leaf.cluster for leaf in resolved.leaves}
    waiting = [resolved.cluster]
    while waiting and len(found) < _MOST_CLUSTERS:
        cluster = waiting.pop()
        found[cluster.name] = cluster
        if isinstance(cluster.source, AggregateSource):
            entries = (store.entry(Key(Kind.CLUSTER, name)) for name in cluster.source.clusters if name not in found)
            waiting += [one.resource for one in entries if one is not None and isinstance(one.resource, Cluster)]
    return list(found.values())
