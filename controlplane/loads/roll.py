"""Who was connected when: the streams of one kind, those that are open and those that ended. Pure.

Two of them are kept by `book`: of xDS streams, and of the streams on which clients report. Bounded: `_MOST` ended ones.

A stream that broke may have lost a report. Our own clients number those with counts, through all streams of a process:
only when the process reports again, and no number is missing, is nothing of the broken stream missing either.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

_MOST = 20_000


@dataclass(slots=True)
class Stay:
    """One stream; times in unix seconds. `process`: a text that a client's process has for itself, "" if it says none.

    `told`: when the last report came. `closed` None: it is open. `complete`: it ended after a last report, or all that
    it had not told came on a later stream. `elsewhere`: reports of the process before this stream that never came here.
    """

    node: str
    agent: str
    process: str
    opened: float
    told: float | None = None
    closed: float | None = None
    complete: bool = False
    elsewhere: int = 0


@dataclass(slots=True)
class _Process:
    """Reports with counts of one process: how many came, the highest number of them, and when it told the last time."""

    came: int = 0
    number: int = 0
    told: float = 0.0

    def whole(self) -> bool:
        return self.came == self.number


class Roll:
    """Not thread-safe: guarded by the book's lock."""

    def __init__(self) -> None:
        self._open: dict[int, Stay] = {}
        self._ended: deque[Stay] = deque(maxlen=_MOST)
        self._processes: OrderedDict[tuple[str, str], _Process] = OrderedDict()

    def opened(self, stream: int, stay: Stay) -> None:
        """A stream began."""
        self._open[stream] = stay

    def told(self, stream: int, at: float, number: int | None = None, *, news: bool = False) -> None:
        """A report came. `number`: of those with counts (`news`) that the process has sent; None: it does not count."""
        stay = self._open.get(stream)
        if stay is None:
            return
        stay.told = at
        if number is None or not stay.process:
            return
        key = stay.node, stay.process
        known = self._processes.get(key)
        if known is None:
            known = self._processes[key] = _Process()
            if not any(one.process == stay.process and one is not stay for one in self._all()):
                stay.elsewhere = known.came = number - news
            if len(self._processes) > _MOST:
                self._processes.popitem(last=False)
        self._processes.move_to_end(key)
        known.came += news
        known.number = max(known.number, number)
        known.told = at

    def closed(self, stream: int, at: float, *, complete: bool = False) -> None:
        """A stream ended; no effect on one that is not known."""
        stay = self._open.pop(stream, None)
        if stay is not None:
            stay.closed, stay.complete = at, complete
            self._ended.append(stay)

    def _all(self) -> Iterator[Stay]:
        yield from self._ended
        yield from self._open.values()

    def within(self, since: float, until: float) -> Iterator[Stay]:
        """Yields copies of the stays that overlap a span; one that broke lasts until its process is back."""
        again: dict[tuple[str, str], list[float]] = {}
        for stay in self._all():
            if stay.process:
                again.setdefault((stay.node, stay.process), []).append(stay.opened)
        for stay in self._all():
            closed, complete = stay.closed, stay.complete
            if closed is not None and not complete:
                later = [at for at in again.get((stay.node, stay.process), ()) if at > stay.opened]
                closed, complete = max(closed, min(later, default=closed)), self._came_later(stay)
            if stay.opened < until and (closed is None or closed >= since):
                yield replace(stay, closed=closed, complete=complete)

    def _came_later(self, stay: Stay) -> bool:
        known = self._processes.get((stay.node, stay.process))
        return known is not None and known.whole() and known.told > (stay.opened if stay.told is None else stay.told)
