"""What a server is doing right now: calls taken, calls in flight, whether it drains.

Written by the server interceptors on every call, read by `meshsdk.lifecycle` when it drains. It knows no grpc and
decides nothing; how long to wait is the drain state machine's business.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

DRAINING_KEY = "meshsdk-draining"  # trailing metadata of every answer while draining (design.md section 5)
_DRAINING_ENTRY = (DRAINING_KEY, "1")


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at a server: calls taken since it started, and those of them still running."""

    arrived: int
    in_flight: int


class ServerActivity:
    """Counts the calls of one server. Shared by its interceptors and its service."""

    __slots__ = ("__weakref__", "_arrived", "_in_flight", "_lock", "draining")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrived = 0  # guarded by _lock
        self._in_flight = 0  # guarded by _lock
        self.draining = False  # one reference, set by the service; a call that reads it late is answered as before

    def enter(self) -> None:
        """A handler begins. Any thread."""
        with self._lock:
            self._arrived += 1
            self._in_flight += 1

    def leave(self) -> None:
        """It ended, one way or another; exactly once per `enter`. Any thread."""
        with self._lock:
            self._in_flight -= 1

    def look(self) -> Sight:
        """Returns the counts of this moment. Any thread."""
        with self._lock:
            return Sight(self._arrived, self._in_flight)


def with_draining(metadata: Iterable[tuple[str, str | bytes]] | None) -> tuple[tuple[str, str | bytes], ...]:
    """Returns trailing metadata with the draining entry added, once."""
    held = tuple(metadata or ())
    return held if _DRAINING_ENTRY in held else (*held, _DRAINING_ENTRY)
