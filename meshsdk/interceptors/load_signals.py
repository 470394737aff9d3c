"""How overloaded this process is, by its own signs: the event loop's lag, and how long calls wait for a thread.

Read by adaptive limits as a pressure: above 1 they are divided by it, so that a server refuses before its callers see
the latency. Made only where an adaptive limit is on. Nothing runs while no call comes: the loop's sampler starts with a
call and ends a second after the last one, or with its loop.
"""

from __future__ import annotations

import asyncio

_EVERY = 0.05  # seconds between two looks at the loop
_IDLE_LOOKS = 20  # without a call in between: then the sampler ends
_WINDOW = 0.1  # seconds over which the least wait counts: a standing queue, not a burst (as CoDel has it)


class LoopLag:
    """The lag of one event loop. Thread rule: the loop's own thread, `pressure` any thread."""

    __slots__ = ("_expected", "_idle", "_limit", "_loop", "_timer", "pressure")

    def __init__(self, limit: float) -> None:
        """`limit`: seconds of lag that count as pressure 1."""
        self._limit = limit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._expected = 0.0
        self._idle = 0
        self.pressure = 0.0

    @property
    def sampling(self) -> bool:
        """Whether the sampler runs."""
        return self._timer is not None

    def touch(self) -> None:
        """A call has come. On the loop."""
        self._idle = 0
        loop = asyncio.get_running_loop()
        if self._timer is None or self._loop is not loop:
            self._loop = loop
            self._look_later(loop)

    def look(self, now: float) -> None:
        """Measures how late this look is. `now`: of the loop's clock. The lag counts at once, and fades by halves."""
        self.pressure = max((now - self._expected) / self._limit, self.pressure / 2)
        self._idle += 1
        if self._loop is not None and self._idle <= _IDLE_LOOKS:
            self._look_later(self._loop)
            return
        self._timer = None
        self.pressure = 0.0

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._expected = loop.time() + _EVERY
        self._timer = loop.call_at(self._expected, lambda: self.look(loop.time()))


class QueueWait:
    """How long calls wait between their arrival and a thread of the server's pool.

    Thread rules: `_waiting` has an entry per call that waits, appended and popped by any thread. The window's are
    written by whoever starts a call: a write that is lost makes the window's least wait a little too high.
    """

    __slots__ = ("_least", "_limit", "_pressure", "_until", "_waiting")

    def __init__(self, limit: float) -> None:
        """`limit`: seconds of waiting that count as pressure 1."""
        self._limit = limit
        self._waiting: list[None] = []
        self._least: float | None = None
        self._until = 0.0
        self._pressure = 0.0

    @property
    def pressure(self) -> float:
        """The least wait of the last window in terms of the limit; 0 when no call waits."""
        return self._pressure if self._waiting else 0.0

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread now."""
        return len(self._waiting)

    def arrived(self) -> None:
        """A call waits for a thread."""
        self._waiting.append(None)

    def started(self, wait: float, now: float) -> None:
        """It has one, after `wait` seconds."""
        self._waiting.pop()
        least = self._least
        if now >= self._until or least is None:
            self._pressure = (wait if least is None else least) / self._limit
            self._least, self._until = wait, now + _WINDOW
        elif wait < least:
            self._least = wait

    def gone(self) -> None:
        """It was cancelled before it had one."""
        self._waiting.pop()
