"""The state machine of load reports to one xDS server, over the connection of one ADS stream. Pure.

    phase      event                    next
    QUIET      something to report      SETTLING   the first call of a process comes first
    SETTLING   time is up, or finish    OPENING    a stream is opened and says who reports
    OPENING    order received           REPORTING  what was counted so far goes with the first report
    REPORTING  interval is over         REPORTING  a report
    OPENING,   stream ended             WAITING    with backoff
    REPORTING  UNIMPLEMENTED            REFUSED    not asked again while the ADS stream lives
    WAITING    time is up               OPENING
    REPORTING  finish                   FINISHED   a last report; the server's end of the stream is its receipt

Owned by `load_reporter`, which carries out what `take` returns. Spec: envoy.service.load_stats.v3, gRFC A27.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

_SETTLE = 0.5  # seconds
_FIRST, _GROWTH, _LONGEST = 1.0, 1.6, 120.0  # seconds of backoff
_SHORTEST_INTERVAL, _LONGEST_INTERVAL = 1.0, 3600.0  # seconds between reports, whatever the server says


class Phase(enum.Enum):
    """See the table above."""

    QUIET = "quiet"
    SETTLING = "settling"
    OPENING = "opening"
    REPORTING = "reporting"
    WAITING = "waiting"
    REFUSED = "refused"
    FINISHED = "finished"


class Step(enum.Enum):
    """What is to be done."""

    OPEN = "open"
    REPORT = "report"
    LAST_REPORT = "last report"  # and close this side of the stream


class LoadReports:
    """All fields belong to the thread of `load_reporter`. `clusters`: those asked for, None for all."""

    def __init__(self, draw: Callable[[], float]) -> None:
        """`draw` gives floats in [0, 1) for the backoff's jitter."""
        self.phase = Phase.QUIET
        self.clusters: frozenset[str] | None = frozenset()
        self._draw = draw
        self._at = 0.0  # when the next step is due, in SETTLING, REPORTING and WAITING
        self._interval = 0.0
        self._since = 0.0  # when the counts of the next report begin
        self._attempt = 0
        self._finishing = False

    def want(self, now: float) -> None:
        """There is something to report to this server."""
        if self.phase is Phase.QUIET:
            self.phase, self._at, self._since = Phase.SETTLING, now + _SETTLE, now

    def ordered(self, interval: float, clusters: frozenset[str] | None, now: float) -> None:
        """The server has said what it wants: every `interval` seconds these clusters, None for all of them."""
        if self.phase not in {Phase.OPENING, Phase.REPORTING}:
            return
        self.clusters = clusters
        self._interval = min(max(interval, _SHORTEST_INTERVAL), _LONGEST_INTERVAL)
        self._at = now + self._interval
        self._attempt = 0
        self.phase = Phase.REPORTING

    def ended(self, code: str, now: float) -> None:
        """The stream is over; `code` is the name of a gRPC status."""
        if self.phase is Phase.FINISHED:
            return
        if code == "UNIMPLEMENTED":
            self.phase = Phase.REFUSED
            return
        pause = min(_FIRST * _GROWTH ** min(self._attempt, 30), _LONGEST)
        self._attempt += 1
        self._at = now + pause * (0.8 + 0.4 * self._draw())
        self.phase = Phase.WAITING

    def finish(self) -> None:
        """The process, or the mesh, is about to end: what was counted is reported as soon as it can be."""
        self._finishing = True

    @property
    def over(self) -> bool:
        """Whether there is nothing to wait for before the end."""
        return self.phase not in {Phase.SETTLING, Phase.OPENING, Phase.REPORTING}

    def deadline(self) -> float | None:
        """When `take` is to be called at the latest; None: not before an event."""
        return self._at if self.phase in {Phase.SETTLING, Phase.REPORTING, Phase.WAITING} else None

    def take(self, now: float) -> Step | None:
        """Returns what is to be done now, if anything."""
        if self.phase is Phase.REPORTING and self._finishing:
            self.phase = Phase.FINISHED
            return Step.LAST_REPORT
        due = now >= self._at or (self._finishing and self.phase is Phase.SETTLING)
        if not due:
            return None
        if self.phase is Phase.REPORTING:
            self._at = now + self._interval
            return Step.REPORT
        if self.phase is Phase.SETTLING or (self.phase is Phase.WAITING and not self._finishing):
            self.phase = Phase.OPENING
            return Step.OPEN
        return None

    def covered(self, now: float) -> float:
        """Returns the seconds that a report made now covers, and begins the next one's."""
        seconds, self._since = now - self._since, now
        return seconds
