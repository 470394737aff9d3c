"""The registrar's port: what the registration service asks for, whoever keeps the leases; and a local one.

`LocalRegistrar` is for the stores of one control plane (memory, SQLite). A store that several control planes share
brings its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from controlplane.registries.registration import Registration
from controlplane.registries.watchers import Watcher
from meshsdk.model.instance import Increment, Instance, InstanceState, Revision


@dataclass(frozen=True, slots=True)
class Granted:
    """A lease as its holder knows it; `ttl` in seconds."""

    id: str
    ttl: int


class Registrar(Protocol):
    """Keeps instances under leases. Every method may be called from any thread, and may raise StoreError.

    Where calls wait for another process (`waits`), they have no place on an event loop; the reading ones never do.
    """

    @property
    def waits(self) -> bool:
        """Whether calls wait for another process."""
        ...

    def register(self, instance: Instance, ttl: int) -> Granted:
        """Registers under a new lease of `ttl` seconds (0: the default). Raises Refused."""
        ...

    def renew(self, lease_id: str) -> Granted | None:
        """Gives a lease its full time again; None where it has lapsed."""
        ...

    def set_state(self, lease_id: str, state: InstanceState) -> Instance | None:
        """Changes an instance's state; None where the lease has lapsed."""
        ...

    def deregister(self, lease_id: str) -> None:
        """Removes an instance; an unknown lease is no error."""
        ...

    def publish(self, revision: Revision) -> None:
        """Stores what a revision contains. Raises Refused."""
        ...

    def revision(self, app: str, revision: str) -> Revision | None:
        """Returns what a revision contains. Reads."""
        ...

    def serving(self, service: str) -> list[str]:
        """Returns the applications that serve a gRPC service. Reads."""
        ...

    def watch(self, app: str, unit: str, wake: Callable[[], None]) -> Watcher:
        """Adds a watcher, whose `wake` is called when there is something to take. Raises Refused. Reads."""
        ...

    def take(self, watcher: Watcher) -> list[Increment]:
        """Returns what a watcher has not been told yet. Reads."""
        ...

    def unwatch(self, watcher: Watcher) -> None:
        """Removes a watcher. Reads."""
        ...


class LocalRegistrar:
    """Implements `Registrar` on a `Registration` of this process.

    Args:
        registration: guarded by `lock`, which others hold for short times only.
        lock: see there.
        clock: gives the monotonic seconds that leases are measured with.
    """

    waits = False

    def __init__(
        self, registration: Registration, lock: AbstractContextManager[object], clock: Callable[[], float]
    ) -> None:
        self._registration = registration
        self._lock = lock
        self._clock = clock

    def register(self, instance: Instance, ttl: int) -> Granted:
        """See `Registrar`."""
        with self._lock:
            lease = self._registration.register(instance, ttl, self._clock())
        return Granted(lease.id, lease.ttl)

    def renew(self, lease_id: str) -> Granted | None:
        """See `Registrar`."""
        with self._lock:
            lease = self._registration.renew(lease_id, self._clock())
        return None if lease is None else Granted(lease.id, lease.ttl)

    def set_state(self, lease_id: str, state: InstanceState) -> Instance | None:
        """See `Registrar`."""
        with self._lock:
            return self._registration.set_state(lease_id, state, self._clock())

    def deregister(self, lease_id: str) -> None:
        """See `Registrar`."""
        with self._lock:
            self._registration.deregister(lease_id)

    def publish(self, revision: Revision) -> None:
        """See `Registrar`."""
        with self._lock:
            self._registration.publish(revision)

    def revision(self, app: str, revision: str) -> Revision | None:
        """See `Registrar`."""
        with self._lock:
            return self._registration.revision(app, revision)

    def serving(self, service: str) -> list[str]:
        """See `Registrar`."""
        with self._lock:
            return self._registration.serving(service)

    def watch(self, app: str, unit: str, wake: Callable[[], None]) -> Watcher:
        """See `Registrar`."""
        with self._lock:
            return self._registration.watch(app, unit, wake)

    def take(self, watcher: Watcher) -> list[Increment]:
        """See `Registrar`."""
        with self._lock:
            return list(watcher.take())

    def unwatch(self, watcher: Watcher) -> None:
        """See `Registrar`."""
        with self._lock:
            self._registration.unwatch(watcher)
