"""A registry in this process: leases, revisions and watches in dictionaries. The port's reference behaviour.

Used by tests, by the embedded control plane and wherever one process is all there is. Time is asked of the `now` it is
given; it starts no thread, so leases lapse when something is asked of it, or on `expire`.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from meshsdk.discovery import limits
from meshsdk.discovery.registry import Lease, LeaseLapsed
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Increment, Instance, InstanceState, Revision

_Listener = Callable[[Increment], None]


@dataclass(slots=True)
class _Record:
    """One registered instance. Guarded by the registry's lock."""

    instance: Instance
    ttl: float
    expires: float


@dataclass(slots=True, eq=False)
class _Subscription:
    """One watch. `live` is guarded by the registry's lock; the rest is read-only."""

    owner: MemoryRegistry
    app: str
    unit: str
    listener: _Listener
    live: bool = field(default=True)

    def wants(self, instance: Instance) -> bool:
        return self.app in ("", instance.app) and self.unit in ("", instance.unit)

    def cancel(self) -> None:
        self.owner._drop(self)  # noqa: SLF001 - the registry's own handle


class MemoryRegistry:
    """Implements `meshsdk.discovery.registry.Registry`.

    Watchers are called on the thread that made the change, under the lock that keeps changes in order: they must not
    wait for another thread that uses the registry.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.RLock()
        self._serial = itertools.count(1)
        self._leases: dict[str, _Record] = {}  # guarded by _lock
        self._lease_of: dict[tuple[str, str], str] = {}  # (app, id) -> lease id; guarded by _lock
        self._revisions: dict[tuple[str, str], Revision] = {}  # guarded by _lock
        self._subscriptions: list[_Subscription] = []  # guarded by _lock

    def register(self, instance: Instance, ttl: float) -> Lease:
        """See `Registrar`. The ttl is granted as asked; RegistryError for what `limits` refuses."""
        if problem := limits.instance_problem(instance):
            raise RegistryError(problem)
        with self._lock:
            self.expire()
            old = self._lease_of.pop((instance.app, instance.id), None)
            if old is not None:
                del self._leases[old]
            lease = Lease(f"lease-{next(self._serial)}", ttl)
            self._leases[lease.id] = _Record(instance, ttl, self._now() + ttl)
            self._lease_of[instance.app, instance.id] = lease.id
            self._tell(instance, Increment(instance.app, put=(instance,)))
            return lease

    def renew(self, lease: Lease) -> Lease:
        """See `Registrar`."""
        with self._lock:
            record = self._record(lease)
            record.expires = self._now() + record.ttl
            return lease

    def set_state(self, lease: Lease, state: InstanceState) -> None:
        """See `Registrar`."""
        with self._lock:
            record = self._record(lease)
            if record.instance.state is not state:
                record.instance = replace(record.instance, state=state)
                self._tell(record.instance, Increment(record.instance.app, put=(record.instance,)))

    def deregister(self, lease: Lease) -> None:
        """See `Registrar`."""
        with self._lock:
            self._remove(lease.id)

    def publish_revision(self, revision: Revision) -> None:
        """See `Catalog`. RegistryError for what `limits` refuses."""
        if problem := limits.revision_problem(revision):
            raise RegistryError(problem)
        with self._lock:
            self._revisions[revision.app, revision.revision] = revision

    def get_revision(self, app: str, revision: str) -> Revision | None:
        """See `Catalog`."""
        with self._lock:
            return self._revisions.get((app, revision))

    def map_service(self, service: str) -> tuple[str, ...]:
        """See `Catalog`."""
        prefix = f"/{service}/"
        with self._lock:
            found = {
                revision.app
                for revision in self._revisions.values()
                if any(method.name.startswith(prefix) for method in revision.methods)
            }
        return tuple(sorted(found))

    def watch(self, app: str, unit: str, on_increment: _Listener) -> _Subscription:
        """See `Feed`. The first calls happen before this returns."""
        subscription = _Subscription(self, app, unit, on_increment)
        with self._lock:
            self.expire()
            held: dict[str, list[Instance]] = {app: []} if app else {}
            for record in self._leases.values():
                if subscription.wants(record.instance):
                    held.setdefault(record.instance.app, []).append(record.instance)
            self._subscriptions.append(subscription)
            for name, instances in held.items():
                on_increment(Increment(name, put=tuple(instances), reset=True))
        return subscription

    def instances(self, app: str) -> tuple[Instance, ...]:
        """Returns the instances of `app` that hold a lease now."""
        with self._lock:
            self.expire()
            return tuple(record.instance for record in self._leases.values() if record.instance.app == app)

    def expire(self) -> None:
        """Lets go of instances whose lease ran out."""
        with self._lock:
            now = self._now()
            for lease_id in [name for name, record in self._leases.items() if record.expires <= now]:
                self._remove(lease_id)

    def close(self) -> None:
        """See `Registry`."""
        with self._lock:
            for subscription in self._subscriptions:
                subscription.live = False
            self._subscriptions.clear()

    def _record(self, lease: Lease) -> _Record:
        self.expire()
        record = self._leases.get(lease.id)
        if record is None:
            raise LeaseLapsed(f"lease {lease.id!r} is unknown or ran out")
        return record

    def _remove(self, lease_id: str) -> None:
        record = self._leases.pop(lease_id, None)
        if record is not None:
            instance = record.instance
            del self._lease_of[instance.app, instance.id]
            self._tell(instance, Increment(instance.app, removed=(instance.id,)))

    def _tell(self, instance: Instance, increment: Increment) -> None:
        for subscription in list(self._subscriptions):
            if subscription.live and subscription.wants(instance):
                subscription.listener(increment)

    def _drop(self, subscription: _Subscription) -> None:
        with self._lock:
            subscription.live = False
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
