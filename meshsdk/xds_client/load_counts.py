"""Counts of calls by cluster and locality: what load reports (envoy.service.load_stats.v3) tell a control plane.

The channel layer takes a `Tally` for each place and counts every call in one of them; `load_reporter` reads what came
about since it last did. Knows nothing of streams. A tally counts calls, not attempts: a call counts where it ended.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from meshsdk.model.resources import Locality

# Names of `EndpointLoadMetricStats`; docs/rollout.md defines them for users.
CANCELLED, RETRIED, MOVED, DOUBLED = "meshsdk.cancelled", "meshsdk.retried", "meshsdk.moved", "meshsdk.doubled"
STATUS = "meshsdk.status."  # with the name of the gRPC status that failed calls ended with
_QUIET = 2  # reports without news after which a tally that nobody uses is forgotten


@dataclass(frozen=True, slots=True)
class Place:
    """What calls are counted for. `service`: the cluster's name in EDS.

    `servers`: URIs of the xDS servers of which one is told; none: nobody asked for it. `unplaced`: calls to a target
    that ended before they had an endpoint; `cluster` is the target's name then.
    """

    servers: tuple[str, ...]
    cluster: str
    service: str = ""
    locality: Locality = field(default_factory=Locality)
    unplaced: bool = False


class Counts(NamedTuple):
    """What a tally has counted since it was made. `errors` has the calls that were `cancelled`; `away`: see `Tally`."""

    succeeded: int = 0
    errors: int = 0
    cancelled: int = 0
    retried: int = 0
    moved: int = 0
    doubled: int = 0
    away: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """What came about in one place since the last report; `named` has the counts that LRS has no field for."""

    place: Place
    succeeded: int
    errors: int
    issued: int
    running: int
    named: tuple[tuple[str, int], ...]


class Tally:
    """The calls of one place.

    Thread rules: `begin` and `leave` are `append` and `pop` of one list, atomic with and without the GIL, whose length
    is the number of calls running here; the counts are guarded by `_lock`; `users` by the lock of `LoadCounts`.
    """

    __slots__ = (
        *("__weakref__", "_counts", "_lock", "_running", "_statuses", "_succeeded"),
        *("begin", "leave", "place", "users"),
    )

    def __init__(self, place: Place) -> None:
        self.place = place
        self.users = 0
        self._lock = threading.Lock()
        self._running: list[None] = []
        self.begin: Callable[[None], None] = self._running.append
        self.leave: Callable[[], None] = self._running.pop
        self._succeeded = 0
        self._counts = Counts()
        self._statuses: Counter[str] = Counter()

    def succeed(self) -> None:
        """Counts a call that ended OK at its first attempt."""
        with self._lock:
            self._succeeded += 1

    def end(self, status: str, *, cancelled: bool, retried: bool, moved: bool, doubled: bool) -> None:
        """Counts any other call at its end. `status`: of gRPC, by name; `cancelled`: by the application itself."""
        good = status == "OK"
        with self._lock:
            before = self._counts
            self._succeeded += good
            self._counts = Counts(
                0,
                before.errors + (not good),
                before.cancelled + (cancelled and not good),
                before.retried + retried,
                before.moved + moved,
                before.doubled + doubled,
                before.away,
            )
            if not good and not cancelled:
                self._statuses[status] += 1

    def moved_away(self) -> None:
        """A call that had begun here goes on, and will be counted, elsewhere."""
        with self._lock:
            self._counts = self._counts._replace(away=self._counts.away + 1)

    def read(self) -> tuple[Counts, Counter[str], int]:
        """Returns what was counted, failed calls by status, and how many run."""
        with self._lock:
            return self._counts._replace(succeeded=self._succeeded), Counter(self._statuses), len(self._running)


@dataclass(slots=True)
class _Told:
    """What reports have told of a tally."""

    counts: Counts = field(default_factory=Counts)
    statuses: Counter[str] = field(default_factory=Counter)
    issued: int = 0
    running: int = 0
    quiet: int = 0


class LoadCounts:
    """The tallies of a mesh. Safe from any thread; `_lock` guards all fields.

    `process`: a text of its own, by which a server knows counts that go on from those of a process that was started
    anew under the same node id.
    """

    def __init__(self, servers_of: Callable[[str], tuple[str, ...]] = lambda _: ()) -> None:
        """`servers_of`: the URIs of the servers that a target's configuration comes from."""
        self.process = os.urandom(8).hex()
        self._servers_of = servers_of
        self._lock = threading.Lock()
        self._tallies: dict[Place, tuple[Tally, _Told]] = {}
        self._taken: Counter[str] = Counter()  # reports with counts, by server
        self._on_wanted: Callable[[], None] = lambda: None

    def listen(self, on_wanted: Callable[[], None]) -> None:
        """Has `on_wanted` called, on any thread, when a server begins to be told; it must not block."""
        with self._lock:
            self._on_wanted = on_wanted

    def acquire(self, place: Place) -> Tally:
        """Returns the tally of a place; the caller must `release` it. One that no server wants stands alone."""
        if not place.servers:
            return Tally(place)
        with self._lock:
            known = self._tallies.get(place)
            tally, _ = known or self._tallies.setdefault(place, (Tally(place), _Told()))
            tally.users += 1
            tell = None if known or place.unplaced else self._on_wanted
        if tell is not None:
            tell()
        return tally

    def of_target(self, target: str, name: str) -> Tally:
        """Returns the tally of the calls to a target that ended before they had an endpoint; see `acquire`."""
        return self.acquire(Place(self._servers_of(target), name, unplaced=True))

    def release(self, tally: Tally) -> None:
        """Gives a tally back; it goes once what it counted has been told."""
        with self._lock:
            tally.users -= 1

    def wanted(self, server: str) -> bool:
        """Tells whether a server asked for the counts of some cluster."""
        with self._lock:
            return any(server in place.servers and not place.unplaced for place in self._tallies)

    def take(self, server: str, clusters: frozenset[str] | None) -> list[Load]:
        """Returns what came about since the last time, for a report to `server`. `clusters` None: of all of them."""
        loads: list[Load] = []
        with self._lock:
            for place, (tally, told) in list(self._tallies.items()):
                if server not in place.servers or (clusters is not None and place.cluster not in clusters):
                    continue
                load = _since(tally, told)
                if load is not None:
                    loads.append(load)
                elif not tally.users:
                    told.quiet += 1
                    if told.quiet > _QUIET:
                        del self._tallies[place]
            self._taken[server] += bool(loads)
        return loads

    def taken(self, server: str) -> int:
        """Returns how often `take` gave counts: a server that misses such a report knows that counts were lost."""
        with self._lock:
            return self._taken[server]


def _since(tally: Tally, told: _Told) -> Load | None:
    """Returns what is new, and notes it as told; None where nothing is, and nothing runs."""
    counts, statuses, running = tally.read()
    # A call that ends between two reads may be missing in one of them: what was told is never taken back.
    issued = max(told.issued, counts.succeeded + counts.errors + counts.away + running)
    new = Counts(*(now - before for now, before in zip(counts, told.counts, strict=True)))
    if not any(new) and issued == told.issued and not running and not told.running:
        return None
    named = [(CANCELLED, new.cancelled), (RETRIED, new.retried), (MOVED, new.moved), (DOUBLED, new.doubled)]
    named += [(STATUS + status, count) for status, count in sorted((statuses - told.statuses).items())]
    load = Load(
        tally.place,
        new.succeeded,
        new.errors,
        issued - told.issued,
        running,
        tuple((name, count) for name, count in named if count),
    )
    told.counts, told.statuses, told.issued, told.running, told.quiet = counts, statuses, issued, running, 0
    return load
