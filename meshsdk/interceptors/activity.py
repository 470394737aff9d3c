"""What a server is doing right now: calls taken, calls in flight, whether it drains.

Written by the server interceptors on every call, read by `meshsdk.lifecycle` when it drains and by handlers that want
to know (`drain_notice`). It knows no grpc and decides nothing; how long to wait is the drain's business.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

DRAINING_KEY = "meshsdk-draining"  # trailing metadata of every answer while draining (design.md section 5)
_DRAINING_ENTRY = (DRAINING_KEY, "1")


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at a server: calls taken since it started, and those of them still running."""

    arrived: int
    in_flight: int


class RunningCall(Protocol):
    """A call in flight, of whatever kind of server."""

    def cut(self, details: str) -> None:
        """Ends it UNAVAILABLE, with the drain in its trailing metadata. Any thread; asyncio's on the server's loop."""


class Activity(Protocol):
    """What a drain asks of a server's calls."""

    draining: bool

    def look(self) -> Sight:
        """Returns the counts of this moment."""

    def cut(self, details: str) -> int:
        """Ends the calls in flight, where that can be; returns how many."""


class ServerActivity:
    """The calls of one server, shared by its interceptors and its service. Methods may be called from any thread."""

    __slots__ = ("__weakref__", "_arrived", "_calls", "_draining", "_listeners", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrived = 0  # guarded by _lock
        self._calls: set[RunningCall] = set()  # guarded by _lock
        self._draining = False  # one reference, set by the service; a call that reads it late is answered as before
        self._listeners: set[Callable[[], None]] = set()  # guarded by _lock, which is not held while one is called

    @property
    def draining(self) -> bool:
        """Whether peers are told to call elsewhere."""
        return self._draining

    @draining.setter
    def draining(self, draining: bool) -> None:
        """Handlers that wait for a drain are told at once."""
        self._draining = draining
        if draining:
            with self._lock:
                listeners = tuple(self._listeners)
            for listener in listeners:
                listener()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls `listener` when a drain begins, at once if one is under way; returns what ends it (idempotent)."""
        with self._lock:
            self._listeners.add(listener)
        if self._draining:
            listener()

        def end() -> None:
            with self._lock:
                self._listeners.discard(listener)

        return end

    def enter(self, call: RunningCall) -> None:
        """A handler begins."""
        with self._lock:
            self._arrived += 1
            self._calls.add(call)

    def leave(self, call: RunningCall) -> None:
        """It ended, one way or another; idempotent."""
        with self._lock:
            self._calls.discard(call)

    def look(self) -> Sight:
        """Returns the counts of this moment."""
        with self._lock:
            return Sight(self._arrived, len(self._calls))

    def cut(self, details: str) -> int:
        """Ends the calls in flight, whatever their handlers are doing; returns how many there were."""
        with self._lock:
            calls = tuple(self._calls)
        for call in calls:
            call.cut(details)
        return len(calls)


def with_draining(metadata: Iterable[tuple[str, str | bytes]] | None) -> tuple[tuple[str, str | bytes], ...]:
    """Returns trailing metadata with the draining entry added, once."""
    held = tuple(metadata or ())
    return held if _DRAINING_ENTRY in held else (*held, _DRAINING_ENTRY)
