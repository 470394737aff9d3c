"""The place of one call that a server has taken on: given back once, however the call ends.

Made by `server_admission` when a call arrives, carried by its handler (`limited_sync`, `limited_aio`). grpcio runs no
handler for a call that was cancelled while it waited for a thread, and tells nobody: then the permit is given back when
grpcio drops the handler.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from meshsdk.interceptors.load_signals import QueueWait
from meshsdk.interceptors.policies.gate import CallEnd


class Permit:
    """One call. Thread rule: any thread; each of the one-element lists is popped by whoever comes first."""

    __slots__ = ("_began", "_ended", "_passed", "_queue", "failure", "streamed")

    def __init__(self, began: float, passed: tuple[Callable[[CallEnd], None], ...], queue: QueueWait | None) -> None:
        """`began`: monotonic seconds at its arrival. `passed`: whom to tell at its end."""
        self._began = began
        self._passed = passed
        self._ended = [None]
        self._queue = [queue] if queue is not None else []
        self.streamed = False
        self.failure = ""  # gRPC status name of an exception that the handler let out; by the handler's thread
        if queue is not None:
            queue.arrived()

    def start(self) -> None:
        """The handler begins."""
        if self._queue:
            now = time.monotonic()
            self._queue.pop().started(now - self._began, now)

    def end(self, code: str) -> None:
        """The call is over; idempotent. `code`: gRPC status name, unless the handler let an exception out."""
        try:
            self._ended.pop()
        except IndexError:
            return
        if self._queue:
            self._queue.pop().gone()
        now = time.monotonic()
        end = CallEnd(self.failure or code, now, now - self._began, self.streamed)
        for passed in self._passed:
            passed(end)

    def __del__(self) -> None:
        self.end("")  # takes no lock: the collector may run while one is held
