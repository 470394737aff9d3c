"""A registry in this process: leases, revisions and watches in dictionaries. The port's reference behaviour.

Used by tests, by the embedded control plane and wherever one process is all there is. `memory://NAME` opens the
registry of that name: all who open it in this process share what is registered, and each closes its own part. Time is
asked of the `now` it is given; it starts no thread, so leases lapse when something is asked of it, or on `expire`: the
watchers of a registry that nobody asks anything keep an instance whose lease ran out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult

from meshsdk.discovery import limits
from meshsdk.discovery.registry import Lease, LeaseLapsed
from meshsdk.errors import ConfigurationError, RegistryError
from meshsdk.model.instance import Increment, Instance, InstanceState, Revision

_LOG = logging.getLogger("meshsdk.discovery")
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

    @property
    def skipped(self) -> int:
        return 0  # nobody leaves anything unusable here

    def tell(self, increment: Increment) -> None:
        try:
            self.listener(increment)
        except Exception:  # noqa: BLE001 - the listener's bug must not fail who registers, nor pass unseen
            _LOG.exception("a watcher of app %r failed on an increment", increment.app)

    def cancel(self) -> None:
        self.owner._drop(self)  # noqa: SLF001 - the registry's own handle


@dataclass(slots=True, eq=False)
class Shelf:
    """What registries of one name share. Every field is guarded by `lock`, which keeps changes in order."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    serial: int = 0
    leases: dict[str, _Record] = field(default_factory=dict)
    lease_of: dict[tuple[str, str], str] = field(default_factory=dict)  # (app, id) -> lease id
    revisions: dict[tuple[str, str], Revision] = field(default_factory=dict)
    subscriptions: list[_Subscription] = field(default_factory=list)


_SHELVES: dict[str, Shelf] = {}  # by the name in memory://NAME; grows by `setdefault` alone, which is atomic


def open_url(url: SplitResult) -> MemoryRegistry:
    """Opens `memory://NAME`; ConfigurationError where there is no name, or more than one."""
    if not url.netloc or url.path.strip("/") or url.query:
        raise ConfigurationError("a registry in memory has a name and nothing else")
    return MemoryRegistry(shelf=_SHELVES.setdefault(url.netloc, Shelf()))


class MemoryRegistry:
    """Implements `meshsdk.discovery.registry.Registry`.

    Watchers are called on the thread that made the change, under the lock that keeps changes in order: they must not
    wait for another thread that uses the registry. Registries on the same `shelf` hold the same instances.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, shelf: Shelf | None = None) -> None:
        self._now = now
        self._shelf = Shelf() if shelf is None else shelf
        self._lock = self._shelf.lock

    def register(self, instance: Instance, ttl: float) -> Lease:
        """See `Registrar`. The ttl is granted as asked; RegistryError for what `limits` refuses."""
        if problem := limits.instance_problem(instance):
            raise RegistryError(problem)
        with self._lock:
            self.expire()
            old = self._shelf.lease_of.pop((instance.app, instance.id), None)
            if old is not None:
                self._forget_unit(self._shelf.leases.pop(old).instance, instance)
            self._shelf.serial += 1
            lease = Lease(f"lease-{self._shelf.serial}", ttl)
            self._shelf.leases[lease.id] = _Record(instance, ttl, self._now() + ttl)
            self._shelf.lease_of[instance.app, instance.id] = lease.id
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
            self._shelf.revisions[revision.app, revision.revision] = revision

    def get_revision(self, app: str, revision: str) -> Revision | None:
        """See `Catalog`."""
        with self._lock:
            return self._shelf.revisions.get((app, revision))

    def map_service(self, service: str) -> tuple[str, ...]:
        """See `Catalog`."""
        prefix = f"/{service}/"
        with self._lock:
            found = {
                revision.app
                for revision in self._shelf.revisions.values()
                if any(method.name.startswith(prefix) for method in revision.methods)
            }
        return tuple(sorted(found))

    def watch(self, app: str, unit: str, on_increment: _Listener) -> _Subscription:
        """See `Feed`. The first calls happen before this returns."""
        subscription = _Subscription(self, app, unit, on_increment)
        with self._lock:
            self.expire()
            held: dict[str, list[Instance]] = {app: []} if app else {}
            for record in self._shelf.leases.values():
                if subscription.wants(record.instance):
                    held.setdefault(record.instance.app, []).append(record.instance)
            self._shelf.subscriptions.append(subscription)
            for name, instances in held.items():
                subscription.tell(Increment(name, put=tuple(instances), reset=True))
            if not app:
                subscription.tell(Increment("", reset=True))  # the end mark: all there is has been told
        return subscription

    def instances(self, app: str) -> tuple[Instance, ...]:
        """Returns the instances of `app` that hold a lease now."""
        with self._lock:
            self.expire()
            return tuple(record.instance for record in self._shelf.leases.values() if record.instance.app == app)

    def expire(self) -> None:
        """Lets go of instances whose lease ran out."""
        with self._lock:
            now = self._now()
            for lease_id in [name for name, record in self._shelf.leases.items() if record.expires <= now]:
                self._remove(lease_id)

    def close(self) -> None:
        """See `Registry`."""
        with self._lock:
            for subscription in [each for each in self._shelf.subscriptions if each.owner is self]:
                self._drop(subscription)

    def _record(self, lease: Lease) -> _Record:
        self.expire()
        record = self._shelf.leases.get(lease.id)
        if record is None:
            raise LeaseLapsed(f"lease {lease.id!r} is unknown or ran out")
        return record

    def _remove(self, lease_id: str) -> None:
        record = self._shelf.leases.pop(lease_id, None)
        if record is not None:
            instance = record.instance
            del self._shelf.lease_of[instance.app, instance.id]
            self._tell(instance, Increment(instance.app, removed=(instance.id,)))

    def _forget_unit(self, old: Instance, new: Instance) -> None:
        """Tells those who see the unit that an instance leaves, and not the one that it comes to."""
        for subscription in list(self._shelf.subscriptions):
            if subscription.live and subscription.wants(old) and not subscription.wants(new):
                subscription.tell(Increment(old.app, removed=(old.id,)))

    def _tell(self, instance: Instance, increment: Increment) -> None:
        for subscription in list(self._shelf.subscriptions):
            if subscription.live and subscription.wants(instance):
                subscription.tell(increment)

    def _drop(self, subscription: _Subscription) -> None:
        with self._lock:
            subscription.live = False
            if subscription in self._shelf.subscriptions:
                self._shelf.subscriptions.remove(subscription)
