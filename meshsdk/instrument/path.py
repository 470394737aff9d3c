"""One way that calls of a woven channel can go: a channel, the calls that run on it, and its end once it was left.

Owned by a woven channel. A path that was left is closed when its calls have ended, or after `LONGEST`.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from meshsdk.instrument.way import Way

_LOG = logging.getLogger("meshsdk.instrument")

LONGEST = 15.0  # seconds that running calls and streams have on a path that was left
QUIET = 1.0  # seconds without a call before a left path is closed: covers a call that took it just before
_LOOK = 0.2  # seconds between looks


class Path:
    """A channel of grpc or of the mesh, with the calls that took it.

    Thread rules: `calls` is appended to and popped from by any thread (both are atomic, with and without the GIL);
    `_running` is guarded by `_lock`; `retirement` is changed by the owner of the path alone, under the owner's rules.
    """

    __slots__ = ("_lock", "_running", "begin", "calls", "channel", "end", "retirement", "way")

    def __init__(self, way: Way, channel: Any, on_call: Callable[[], None] | None = None) -> None:
        """`on_call`: told of every call, for a path that is an exception."""
        self.way = way
        self.channel = channel
        self.calls: list[None] = []
        self.begin: Callable[[None], None] = self.calls.append if on_call is None else self._telling(on_call)
        self.end: Callable[[], None] = self.calls.pop
        self._running: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()
        self.retirement: Retirement | None = None  # of the time it was left last; None: calls take it

    def _telling(self, on_call: Callable[[], None]) -> Callable[[None], None]:
        def begin(token: None) -> None:
            on_call()
            self.calls.append(token)

        return begin

    def follow(self, call: Any) -> None:
        """Counts a call that outlives the method that made it, until it has ended or nobody holds it."""
        with self._lock:
            self._running.add(call)

    def leave(self, now: float) -> Retirement:
        """Calls take it no more, or once more not: what runs on it has all of `LONGEST` from `now` on."""
        self.retirement = Retirement(self, now)
        return self.retirement

    def idle(self) -> bool:
        """Tells whether no call runs on it."""
        if self.calls:
            return False
        with self._lock:
            running = list(self._running)
        return all(_ended(call) for call in running)


def _ended(call: Any) -> bool:
    """`done` of futures and of grpc.aio's calls; a call of grpc's that is no future has `is_active` only."""
    try:
        return bool(call.done())
    except (AttributeError, NotImplementedError):
        return not call.is_active()


class Retirement:
    """Looks after one path that was left, until it is to be closed or taken up again. No clock, no thread."""

    def __init__(self, path: Path, now: float) -> None:
        """`now`: monotonic seconds."""
        self.path = path
        self._left_at = self._busy_at = now

    @property
    def void(self) -> bool:
        """Whether the path was taken up since, even if it was left again: that is another retirement."""
        return self.path.retirement is not self

    def due(self, now: float) -> bool:
        """Tells whether to close the path now."""
        if not self.path.idle():
            self._busy_at = now
        return now - self._busy_at >= QUIET or now - self._left_at >= LONGEST


class Undertaker:
    """Closes the paths that synchronous channels have left. One thread for all, which ends with its work.

    Thread rules: `_waiting` and `_thread` are guarded by `_lock`.
    """

    def __init__(self) -> None:
        """Starts nothing before a path is left."""
        self._lock = threading.Lock()
        self._waiting: dict[Retirement, Callable[[Retirement], bool]] = {}
        self._thread: threading.Thread | None = None

    def take(self, retirement: Retirement, forget: Callable[[Retirement], bool]) -> None:
        """Closes its path in time; `forget` is asked just before and says False if it was taken up again."""
        with self._lock:
            self._waiting[retirement] = forget
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="meshsdk-left-paths", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(_LOOK)
            now = time.monotonic()
            with self._lock:
                due = [(one, forget) for one, forget in self._waiting.items() if one.void or one.due(now)]
                for one, _ in due:
                    del self._waiting[one]
                if not self._waiting and not due:
                    self._thread = None
                    return
            for one, forget in due:
                self._close(one, forget)

    @staticmethod
    def _close(retirement: Retirement, forget: Callable[[Retirement], bool]) -> None:
        try:
            if forget(retirement):
                retirement.path.channel.close()
        except Exception:  # noqa: BLE001 - the others must be closed too
            _LOG.exception("a connection that calls have left could not be closed")

    def after_fork_in_child(self) -> None:
        """The thread is the parent's; so are the paths that it would close."""
        self.__init__()  # type: ignore[misc]  # all of its state is of the process
