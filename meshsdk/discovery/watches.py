"""The running watches of one registry: kept so that closing it ends them all, and begins no further one.

Every adapter whose watches have threads of their own keeps them here. What a watch does is its own business.
"""

from __future__ import annotations

import threading
from typing import Any, Generic, Protocol, TypeVar

from meshsdk.discovery.following import RegistryClosed


class RunningWatch(Protocol):
    """What is asked of a watch: `Following` has it."""

    @property
    def live(self) -> bool:
        """Whether it has not been cancelled."""

    def start(self) -> Any:
        """Starts it."""

    def cancel(self) -> None:
        """Ends it; idempotent."""

    def join(self, timeout: float) -> None:
        """Waits at most `timeout` seconds for the end of what it has under way."""


_Watch = TypeVar("_Watch", bound=RunningWatch)


class Watches(Generic[_Watch]):
    """All methods may be called from any thread. `registry` names the registry in messages."""

    def __init__(self, registry: str) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._running: set[_Watch] = set()  # guarded by _lock
        self._closed = False  # guarded by _lock

    def begin(self, watch: _Watch) -> _Watch:
        """Starts a watch and returns it. Raises RegistryClosed after `close`."""
        with self._lock:
            if self._closed:
                raise RegistryClosed(f"the registry {self._registry} is closed")
            self._running = {known for known in self._running if known.live} | {watch}
        watch.start()
        return watch

    def close(self) -> frozenset[_Watch]:
        """Cancels all watches and returns them, to be joined; idempotent."""
        with self._lock:
            self._closed = True
            watches, self._running = frozenset(self._running), set()
        for watch in watches:
            watch.cancel()
        return watches
