"""What `grpc.health.v1` says of this server, and who is watching it. Knows neither grpc nor asyncio.

Written by the service as it goes online and drains, read by `health_sync` and `health_aio`, which speak the protocol.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from meshsdk.lifecycle import health_pb2 as pb

Listener = Callable[[], None]  # "look again": the status may have changed

ENDED = -1  # in place of a ServingStatus: the server stops, no news will follow
MAX_WATCHES = 1000  # of the whole server; each holds a stream open
MAX_NAME = 1024  # characters of a service name worth looking up


class HealthTable:
    """The status of the server ("") and of each service, which go up and down together."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(services) | {""}
        self._status: int = pb.HealthCheckResponse.NOT_SERVING  # one reference, written by the service
        self._ended = False  # the same
        self._lock = threading.Lock()
        self._listeners: set[Listener] = set()  # guarded by _lock, which is never held while one is called

    def status(self, service: str) -> int | None:
        """Returns the ServingStatus of a service, None if the server has no such service."""
        return self._status if service in self._services else None

    def watched(self, service: str) -> int:
        """Returns what a watch of `service` is to be told now: a ServingStatus, or ENDED."""
        if self._ended:
            return ENDED
        status = self.status(service)
        return pb.HealthCheckResponse.SERVICE_UNKNOWN if status is None else status

    def statuses(self) -> Mapping[str, int]:
        """Returns the ServingStatus of every service."""
        return dict.fromkeys(sorted(self._services), self._status)

    def set_serving(self, *, serving: bool) -> None:
        """Changes the status of all; `tell` it."""
        self._status = pb.HealthCheckResponse.SERVING if serving else pb.HealthCheckResponse.NOT_SERVING

    def tell(self) -> None:
        """Has the listeners look at the status; takes as long as they do."""
        self._call_listeners()

    def watch(self, listener: Listener) -> bool:
        """Calls `listener` at each change from now on; False when there are too many watches already."""
        with self._lock:
            if len(self._listeners) >= MAX_WATCHES:
                return False
            self._listeners.add(listener)
            return True

    def unwatch(self, listener: Listener) -> None:
        """Forgets a listener; idempotent."""
        with self._lock:
            self._listeners.discard(listener)

    def end(self) -> None:
        """Ends all watches: a stream left open would hold the server's stop for its whole grace."""
        self._ended = True
        self._call_listeners()

    def _call_listeners(self) -> None:
        with self._lock:
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()
