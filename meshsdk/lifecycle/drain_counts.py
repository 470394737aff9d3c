"""How the drains of this process went, as metrics: how long one has been under way, and how the others ended.

Told by `course`, read by `meshsdk.telemetry` at collection. A process that drains for its end is gone soon after: what
shows in time is `meshsdk.server.draining`; the counter lasts where it is taken offline first (`meshsdk offline`), and
where metrics are pushed.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from meshsdk.telemetry.families import Family, Kind, Point
from meshsdk.telemetry.switch import SWITCH

_LABELS = ("meshsdk.app", "meshsdk.outcome")


class DrainCounts:
    """The drains of a process. `_lock` guards all fields."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.renew()

    def renew(self) -> None:
        """In a forked child, which counts from zero: drains, and threads that hold the lock, are the parent's."""
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._running: dict[int, tuple[str, float]] = {}
        self._ended: Counter[tuple[str, str]] = Counter()

    def began(self, app: str) -> int:
        """A drain has begun; returns what `ended` is to be given."""
        with self._lock:
            number = next(self._numbers)
            self._running[number] = (app, self._clock())
            self._ended.update({(app, outcome): 0 for outcome in ("quiet", "timeout")})  # seen before they rise
            return number

    def ended(self, number: int, *, quiet: bool) -> None:
        """It is over; `quiet`: no call was running any more."""
        with self._lock:
            if number not in self._running:
                return  # it began in the parent of this process
            app, _ = self._running.pop(number)
            self._ended[app, "quiet" if quiet else "timeout"] += 1

    def families(self) -> Iterator[Family]:
        """Reads them."""
        with self._lock:
            now = self._clock()
            longest: dict[str, float] = {}
            for app, begun in self._running.values():
                longest[app] = max(longest.get(app, 0.0), now - begun)
            ended = dict(self._ended)
        points = tuple(Point({_LABELS[0]: app}, seconds) for app, seconds in longest.items())
        yield Family("meshsdk.server.draining", Kind.GAUGE, "s", "How long a drain has been under way", points)
        points = tuple(Point(dict(zip(_LABELS, key, strict=True)), count) for key, count in ended.items())
        words = "Drains that ended quiet, or at their timeout with calls still running"
        yield Family("meshsdk.server.drains", Kind.COUNTER, "{drain}", words, points)


DRAINS = DrainCounts()
SWITCH.add(DRAINS.families, DRAINS.renew)
