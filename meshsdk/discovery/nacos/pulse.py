"""One thread that does things later: health checks, questions that must not hold up who asks, second looks.

Called by `registry`. What it does may block for a request's timeout; everything on it is done one after the other.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

from meshsdk.errors import RegistryError

_LOG = logging.getLogger("meshsdk.discovery")


class Pulse:
    """Does actions at their time. Starts its thread with the first one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []  # heap; guarded by _changed
        self._serial = itertools.count()
        self._thread: threading.Thread | None = None  # guarded by _changed
        self._closed = False  # guarded by _changed

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Does `action` in so many seconds. A RegistryError of it is no news here; anything else is logged."""
        with self._changed:
            if self._closed:
                return
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._serial), action))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="meshsdk-registry-pulse", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Does nothing more; waits at most `timeout` seconds for what is being done."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self) -> None:
        while (action := self._next()) is not None:
            try:
                action()
            except RegistryError as error:
                _LOG.debug("%s: %s", self._name, error)
            except Exception:  # noqa: BLE001 - the thread goes on, whatever a server sends
                _LOG.exception("%s failed", self._name)

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._closed:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(wait)
        return None
