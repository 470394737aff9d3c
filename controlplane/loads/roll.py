"""Who was connected when: the streams of one kind, those that are open and those that ended. Pure.

Two of them are kept by `book`: of xDS streams, and of the streams on which clients report. Bounded: `_MOST` ended ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

_MOST = 20_000


@dataclass(slots=True)
class Stay:
    """One stream; times in unix seconds. `process`: a text that a client's process has for itself, "" if it says none.

    `told`: when the last report came. `closed` None: it is open. `complete`: it ended after a last report.
    """

    node: str
    agent: str
    process: str
    opened: float
    told: float | None = None
    closed: float | None = None
    complete: bool = False


class Roll:
    """Not thread-safe: guarded by the book's lock."""

    def __init__(self) -> None:
        self._open: dict[int, Stay] = {}
        self._ended: deque[Stay] = deque(maxlen=_MOST)

    def opened(self, stream: int, stay: Stay) -> None:
        """A stream began."""
        self._open[stream] = stay

    def told(self, stream: int, at: float) -> None:
        """A report came."""
        stay = self._open.get(stream)
        if stay is not None:
            stay.told = at

    def closed(self, stream: int, at: float, *, complete: bool = False) -> None:
        """A stream ended; no effect on one that is not known."""
        stay = self._open.pop(stream, None)
        if stay is not None:
            stay.closed, stay.complete = at, complete
            self._ended.append(stay)

    def within(self, since: float, until: float) -> Iterator[Stay]:
        """Yields the stays that overlap a span."""
        for stay in (*self._ended, *self._open.values()):
            if stay.opened < until and (stay.closed is None or stay.closed >= since):
                yield stay
