"""What clients told of their calls, and who told: the one place that the load service writes and reports read.

Written on the xDS server's loop thread, read by the admin interface's threads. Times are arguments, in unix seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.loads.buckets import Buckets, Counted, Key
from controlplane.loads.roll import Roll, Stay

INTERVAL = 5.0  # seconds between the reports of a client
SOON = 3.0  # seconds that a new client may take to open its stream of reports


@dataclass(frozen=True, slots=True)
class Page:
    """What is known of a span. `begin` and `end`: of the buckets that it touches; `kept_since`: nothing older is held.

    `reporters` and `connected`: streams of reports, and of xDS, that overlap the span; reporters also soon after it.
    """

    begin: float
    end: float
    kept_since: float
    counted: Mapping[Key, Counted]
    reporters: tuple[Stay, ...]
    connected: tuple[Stay, ...]


class LoadBook:
    """Safe from any thread; `_lock` guards all fields."""

    def __init__(self, now: float) -> None:
        self._lock = threading.Lock()
        self._buckets = Buckets(now)
        self._reporters, self._connected = Roll(), Roll()

    def connected(self, stream: int, node: str, agent: str, now: float) -> None:
        """An xDS stream began."""
        with self._lock:
            self._connected.opened(stream, Stay(node, agent, "", now))

    def disconnected(self, stream: int, now: float) -> None:
        """An xDS stream ended."""
        with self._lock:
            self._connected.closed(stream, now)

    def begin(self, stream: int, stay: Stay) -> None:
        """A stream of reports began."""
        with self._lock:
            self._reporters.opened(stream, stay)

    def report(
        self, stream: int, node: str, counted: Mapping[str, Counted], now: float, number: int | None = None
    ) -> None:
        """A client told what its calls came to, by cluster, since its last report. `number`: see `Roll.told`."""
        with self._lock:
            self._reporters.told(stream, now, number, news=bool(counted))
            for cluster, one in counted.items():
                if any(one.numbers()):
                    self._buckets.add(now, (node, cluster), one)

    def end(self, stream: int, now: float, *, complete: bool) -> None:
        """A stream of reports ended; `complete`: the client had said that nothing more comes."""
        with self._lock:
            self._reporters.closed(stream, now, complete=complete)

    def page(self, since: float, until: float) -> Page:
        """Returns what is known of a span."""
        with self._lock:
            counted, begin, end = self._buckets.between(since, until)
            reporters = tuple(self._reporters.within(begin, end + SOON))
            connected = tuple(self._connected.within(begin, end))
            return Page(begin, end, self._buckets.kept_since, counted, reporters, connected)
