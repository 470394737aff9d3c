"""gRFC A66's metrics of clients and servers: what every call adds to, and how it is read.

Calls hold a `MethodCounts` each and add to it; `Counts.families` reads them all. Names, units, labels and buckets are
those of A66, save the sizes of messages; labels are few and bounded, so that no program can fill the memory with them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from meshsdk.telemetry.accumulating import Accumulator
from meshsdk.telemetry.families import LATENCY_BOUNDS, Family, Kind, Labels, Point, Spread

OTHER = "other"
"""A66: the method of calls whose methods no generated code registered."""

_MAX_METHODS = 2000  # pairs of target and method with labels of their own; calls beyond them count as `other`


@dataclass(frozen=True, slots=True)
class Names:
    """The metrics of one side. `whole`: of entire calls, "" where `each` is that already (servers)."""

    started: str
    unit: str
    each: str
    whole: str


CLIENT = Names(
    "grpc.client.attempt.started",
    "{attempt}",
    "grpc.client.attempt.duration",
    "grpc.client.call.duration",
)
SERVER = Names(
    "grpc.server.call.started",
    "{call}",
    "grpc.server.call.duration",
    "",
)
_WORDS = {
    CLIENT.started: "Number of client call attempts started",
    CLIENT.each: "End-to-end time taken to complete a client call attempt",
    CLIENT.whole: "End-to-end time taken by gRPC to complete a call, from the application's perspective",
    SERVER.started: "Number of server calls started",
    SERVER.each: "End-to-end time taken to complete a call, from the server's perspective",
}


class _ByStatus:
    """Accumulators by gRPC status, made as they come. Any thread; `dict.setdefault` is atomic."""

    __slots__ = ("_by_status", "_ok")

    def __init__(self, ok: Accumulator) -> None:
        """`ok`: what is counted elsewhere and belongs to status OK."""
        self._ok = ok
        self._by_status: dict[str, Accumulator] = {}

    def add(self, status: str, value: float) -> None:
        held = self._by_status.get(status)
        if held is None:
            held = self._by_status.setdefault(status, Accumulator(LATENCY_BOUNDS))
        held.add(value)

    def read(self) -> dict[str, Spread]:
        """Returns what was counted, by status."""
        found = {status: held.read() for status, held in list(self._by_status.items())}
        if (more := self._ok.read()).count:
            found["OK"] = more + found["OK"] if "OK" in found else more
        return found


class MethodCounts:
    """The counts of one method of one target.

    Thread rules: `begin` and `leave` are `append` and `pop` of one list, atomic with and without the GIL; `_started`
    is written by readers, under the lock of `Counts`.
    """

    __slots__ = (
        *("_at_once", "_running", "_started"),
        *("attempts", "begin", "calls", "labels", "leave", "succeeded"),
    )

    def __init__(self, labels: Labels) -> None:
        """`labels` without the status. `succeeded`: counts a call that ended OK at its first attempt, and that one."""
        self.labels = labels
        self._at_once = Accumulator(LATENCY_BOUNDS)
        self.succeeded = self._at_once.add
        self._running: list[None] = []
        self.begin: Callable[[None], None] = self._running.append
        self.leave: Callable[[], None] = self._running.pop
        self.attempts = _ByStatus(self._at_once)
        self.calls = _ByStatus(self._at_once)
        self._started = 0

    def started(self) -> int:
        """Returns how many attempts began: those that have ended and those that run. Never falls."""
        running = len(self._running)
        ended = sum(spread.count for spread in self.attempts.read().values())
        self._started = max(self._started, ended + running)
        return self._started


class Counts:
    """All methods of one side of the process. Safe from any thread; `_methods` is added to under `_lock`."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._lock = threading.Lock()
        self._methods: dict[tuple[str, str], MethodCounts] = {}

    def of(self, target: str, method: str) -> MethodCounts:
        """Returns the counts of `pkg.Service/Method` of a target; a server's target is ""."""
        held = self._methods.get((target, method))
        return self._made(target, method) if held is None else held

    def _made(self, target: str, method: str) -> MethodCounts:
        with self._lock:
            if len(self._methods) >= _MAX_METHODS:
                target, method = (target and OTHER), OTHER
            labels = {"grpc.method": method.lstrip("/"), **({"grpc.target": target} if target else {})}
            return self._methods.setdefault((target, method), MethodCounts(labels))

    def families(self) -> Iterable[Family]:
        """Reads all. Metrics that nothing was added to yet are left out."""
        with self._lock:
            methods = list(self._methods.values())
            started = tuple(Point(one.labels, one.started()) for one in methods)
        names = self._names
        yield Family(names.started, Kind.COUNTER, names.unit, _WORDS[names.started], started)
        yield _histogram(names.each, ((one.labels, one.attempts) for one in methods))
        if names.whole:
            yield _histogram(names.whole, ((one.labels, one.calls) for one in methods))


def _histogram(name: str, held: Iterable[tuple[Labels, _ByStatus]]) -> Family:
    def points() -> Iterator[Point]:
        for labels, statuses in held:
            for status, spread in statuses.read().items():
                yield Point({**labels, "grpc.status": status}, spread)

    return Family(name, Kind.HISTOGRAM, "s", _WORDS[name], tuple(points()), LATENCY_BOUNDS)
