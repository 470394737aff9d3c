"""What the meshes of this process hold, as metrics: endpoints, calls by cluster, ejections, breakers, xDS.

Read at collection time from what calls and balancers keep anyway: a call pays nothing for it. Called by
`meshsdk.telemetry`; `Mesh` asks to be read as it is made.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from meshsdk.channel.balancer import ClusterBalancer
from meshsdk.channel.scope import Scope
from meshsdk.lb.backend import Connectivity
from meshsdk.telemetry.families import Family, Kind, Point
from meshsdk.telemetry.growing import Growing
from meshsdk.telemetry.switch import SWITCH
from meshsdk.xds_client import xds_metrics
from meshsdk.xds_client.load_counts import Counts, Tally

if TYPE_CHECKING:
    from meshsdk.channel.mesh import Mesh

_meshes: weakref.WeakSet[Mesh] = weakref.WeakSet()
_lock = threading.Lock()  # guards `_meshes`; never held for long: every mesh that is made waits for it

_CALLS = (
    ("succeeded", "Calls that ended OK, by where they ended"),
    ("errors", "Calls that did not end OK; those that the application cancelled are among them"),
    ("cancelled", "Calls that the application cancelled"),
    ("retried", "Calls of which an attempt that had been sent was followed by another"),
    ("moved", "Calls that went on at another endpoint, because the first never got them"),
    ("doubled", "Calls that were sent more than once"),
)


def measure(mesh: Mesh) -> None:
    """Has a mesh read at every collection, for as long as it lives."""
    with _lock:
        _meshes.add(mesh)


def families() -> Iterator[Family]:
    """Reads all meshes that are open."""
    with _lock:
        meshes = [mesh for mesh in _meshes if not mesh.closed]
    yield from _READING.read(meshes)


def renew() -> None:
    """In a forked child, which counts from zero: a thread of the parent may have been reading, under its locks.

    Meshes ask to be read again when they have begun anew: until then their locks may be held for ever, too.
    """
    global _lock, _meshes, _READING  # noqa: PLW0603 - the process's, and this is another one
    _lock, _READING = threading.Lock(), _Reading()
    _meshes = weakref.WeakSet()


class _Reading:
    """Sums of counters that come and go with their clusters. `_lock` guards all fields: one reading at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: weakref.WeakKeyDictionary[Tally, Counts] = weakref.WeakKeyDictionary()
        self._sums: dict[tuple[str, str], Counter[str]] = {}
        self._ejections: Growing[tuple[str, str, str]] = Growing()
        self._spared: Growing[tuple[str, str]] = Growing()
        self._refused: Growing[tuple[str, str]] = Growing()
        self._streams = xds_metrics.StreamReading()

    def read(self, meshes: list[Mesh]) -> list[Family]:
        """Reads all there is to read of them; what is closed stays counted."""
        with self._lock:
            scopes = [scope for mesh in meshes for scope in mesh.scopes()]
            streams = self._streams.families(mesh.client for mesh in meshes)
            return [*self._clusters(scopes), *self._policies(scopes), *streams]

    def _clusters(self, scopes: list[Scope]) -> Iterator[Family]:
        """Reads endpoints and calls by cluster; calls of a cluster that has gone stay counted."""
        states: Counter[tuple[str, str, str]] = Counter()
        ejected: Counter[tuple[str, str]] = Counter()
        running: Counter[tuple[str, str]] = Counter()
        tallies = set(self._seen)  # one that load reports still hold may come back with its cluster
        for scope in scopes:
            for target, cluster, balancer in _balancers(scope):
                with scope.lock:
                    backends = balancer.backends
                states.update({(target, cluster, state.value): 0 for state in Connectivity})
                for backend in backends:
                    states[target, cluster, backend.state.value] += 1
                    ejected[target, cluster] += backend.ejected
                    tallies.add(backend.tally)
        for tally in tallies:
            running[_place(tally)] += self._take(tally)
        words = "Endpoints that this client knows, by the state of their connection"
        yield _family("meshsdk.cluster.endpoints", Kind.GAUGE, "{endpoint}", words, states, _ENDPOINT)
        words = "Endpoints that are ejected now"
        yield _family("meshsdk.cluster.ejected", Kind.GAUGE, "{endpoint}", words, ejected, _ENDPOINT[:2])
        yield _family("meshsdk.cluster.running", Kind.GAUGE, "{attempt}", "Attempts that run now", running, _PLACE)
        for field, words in _CALLS:
            counts = {place: sums[field] for place, sums in self._sums.items()}
            yield _family(f"meshsdk.cluster.calls.{field}", Kind.COUNTER, "{call}", words, counts, _PLACE)

    def _take(self, tally: Tally) -> int:
        """Adds what is new in a tally; returns how many calls run there."""
        counts, _, running = tally.read()
        before = self._seen.get(tally, Counts())
        self._seen[tally] = counts
        sums = self._sums.setdefault(_place(tally), Counter())
        for field, _ in _CALLS:
            sums[field] += getattr(counts, field) - getattr(before, field)
        return running

    def _policies(self, scopes: list[Scope]) -> Iterator[Family]:
        for scope in scopes:
            for target, cluster, balancer in _balancers(scope):
                with scope.lock:
                    found = [(one, one.totals.copy(), one.overflows) for one in balancer.outliers.detectors]
                for detector, totals, overflows in found:
                    causes = {(target, cluster, cause.value): count for cause, count in totals.items()}
                    self._ejections.take(detector, causes)
                    self._spared.take(detector, {(target, cluster): overflows})
        labels = ("grpc.target", "meshsdk.cluster", "meshsdk.cause")
        words = "Endpoints ejected as outliers"
        yield _family("meshsdk.cluster.ejections", Kind.COUNTER, "{ejection}", words, self._ejections.sums, labels)
        words = "Ejections that were not made because enough endpoints were out"
        yield _family(
            "meshsdk.cluster.ejections.overflow", Kind.COUNTER, "{ejection}", words, self._spared.sums, labels[:2]
        )
        yield from self._breakers(scopes)

    def _breakers(self, scopes: list[Scope]) -> Iterator[Family]:
        shared = {id(target.shared): target.shared for scope in scopes for target in scope.targets()}
        states: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name, *_ in _BREAKERS}
        for breaker in (breaker for one in shared.values() for breaker in one.breakers):
            key = (breaker.cluster, "high" if breaker.high else "default")
            self._refused.take(breaker, {key: breaker.refused})
            for name, field, *_ in _BREAKERS:
                states[name][key] += int(getattr(breaker, field))
        for name, _, unit, words in _BREAKERS:
            yield _family(name, Kind.GAUGE, unit, words, states[name], _BREAKER)
        words = "Calls and retries that were not made"
        yield _family("meshsdk.breaker.refused", Kind.COUNTER, "{attempt}", words, self._refused.sums, _BREAKER)


_Labels = TypeVar("_Labels", bound=tuple[str, ...])
_READING = _Reading()
_ENDPOINT = ("grpc.target", "meshsdk.cluster", "meshsdk.state")
_PLACE = ("meshsdk.cluster", "grpc.lb.locality")
_BREAKER = ("meshsdk.cluster", "meshsdk.priority")


def _balancers(scope: Scope) -> Iterator[tuple[str, str, ClusterBalancer]]:
    for target in scope.targets():
        routes = target.routes
        if routes is not None:
            for cluster, balancer in routes.clusters.items():
                yield target.name, cluster, balancer


def _place(tally: Tally) -> tuple[str, str]:
    locality = tally.place.locality
    known = (locality.region, locality.zone, locality.sub_zone)
    words = f'{{region="{known[0]}", zone="{known[1]}", sub_zone="{known[2]}"}}' if any(known) else ""  # A78
    return tally.place.cluster, words


_BREAKERS = (
    ("meshsdk.breaker.open", "open", "{bool}", "Whether the next call would be refused"),
    ("meshsdk.breaker.running", "running", "{attempt}", "Attempts that run under the breaker"),
    ("meshsdk.breaker.pending", "pending", "{call}", "Calls that wait for a connection"),
    ("meshsdk.breaker.retries", "retries", "{attempt}", "Retries that wait for their time or run"),
)


def _family(
    name: str, kind: Kind, unit: str, words: str, counts: Mapping[_Labels, float], labels: tuple[str, ...]
) -> Family:
    points = tuple(Point(dict(zip(labels, values, strict=True)), count) for values, count in counts.items())
    return Family(name, kind, unit, words, points)


SWITCH.add(families, renew)
