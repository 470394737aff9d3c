"""Timers for threads: one thread a process that runs short functions at their time, and is gone when none is left.

Used by hedged calls that nobody blocks on. A function that runs here must not block.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable

_LINGER = 0.2  # seconds that the thread stays without timers, so that calls in a row share one
_LOG = logging.getLogger(__name__)


class Timer:
    """One function at its time. `run` None: it ran, or was cancelled; guarded by the lock of its `Timers`."""

    __slots__ = ("_timers", "run")

    def __init__(self, timers: Timers, run: Callable[[], None]) -> None:
        self._timers = timers
        self.run: Callable[[], None] | None = run

    def cancel(self) -> None:
        """It will not run, unless it runs just now."""
        self._timers.forget(self)


class Timers:
    """Safe from any thread: `_lock` guards all fields. The thread starts with the first timer."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """Begins anew: the timers of a parent, like its thread, are not the child's."""
        self._lock = threading.Condition()
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._live = 0
        self._thread: threading.Thread | None = None

    def at(self, when: float, run: Callable[[], None]) -> Timer:
        """Runs a function at `when` (monotonic seconds), on the thread of the timers."""
        timer = Timer(self, run)
        with self._lock:
            heapq.heappush(self._heap, (when, next(self._order), timer))
            self._live += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="meshsdk-timers", daemon=True)
                self._thread.start()
            elif self._heap[0][2] is timer:
                self._lock.notify()
        return timer

    def forget(self, timer: Timer) -> None:
        """See `Timer.cancel`."""
        with self._lock:
            if timer.run is not None:
                timer.run = None
                self._live -= 1
                if not self._live:
                    self._heap.clear()
                    self._lock.notify()

    def _work(self) -> None:
        while (run := self._next()) is not None:
            try:
                run()
            except Exception:  # noqa: BLE001 - the timers of other calls must run
                _LOG.exception("a timer raised")

    def _next(self) -> Callable[[], None] | None:
        """Waits for the next function; None: there was none for a while, and the thread ends."""
        with self._lock:
            while True:
                while self._heap and self._heap[0][2].run is None:
                    heapq.heappop(self._heap)
                if not self._heap:
                    if not self._lock.wait_for(lambda: self._live > 0, _LINGER):
                        self._thread = None
                        return None
                    continue
                left = self._heap[0][0] - time.monotonic()
                if left > 0:
                    self._lock.wait(left)
                    continue
                timer = heapq.heappop(self._heap)[2]
                run, timer.run = timer.run, None
                self._live -= run is not None
                if run is not None:
                    return run


TIMERS = Timers()
