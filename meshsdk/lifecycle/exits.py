"""The end of the interpreter: services that still run are drained first, while the process can do everything.

Called by `service`. A main thread that ends, or a `sys.exit` in a signal handler of the application's, begins the end
of the interpreter: thread pools refuse new work, then `atexit` closes the mesh. Handlers need the one and the other, so
the drain comes before both.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from typing import Protocol


class Drainable(Protocol):
    """A service."""

    def drain(self, *, wait: bool = True) -> None:
        """Goes offline and, with `wait`, returns when that is over."""


_services: weakref.WeakSet[Drainable] = weakref.WeakSet()  # guarded by _lock
_lock = threading.Lock()
_registered = False  # guarded by _lock


def drain_at_exit(service: Drainable) -> None:
    """Has the service drained when the interpreter ends, should it still run then."""
    global _registered  # noqa: PLW0603 - the interpreter has one end
    with _lock:
        _services.add(service)
        if not _registered:
            # What concurrent.futures uses for its pools: these run in reverse order, before threads are waited for.
            # Seen with Python 3.11; without it the drain comes with atexit, too late for calls in a thread pool.
            register = getattr(threading, "_register_atexit", atexit.register)
            register(_drain_all)
            _registered = True


def forget(service: Drainable) -> None:
    """The service is over."""
    with _lock:
        _services.discard(service)


def _drain_all() -> None:
    with _lock:
        services = tuple(_services)
    for service in services:
        service.drain(wait=False)
    for service in services:
        service.drain()
