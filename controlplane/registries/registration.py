"""Registration as the plane sees it: table, store, revisions and watchers together. No gRPC, no clock of its own.

Called by `service` (the RPCs), by the plane's timer (`expire`) and by the admin interface. Every change goes to the
store first, then to the watchers and to `on_change`, so that nobody learns of what would not survive a restart.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from controlplane.registries.leases import Change, Lease, LeaseTable
from controlplane.registries.limits import Limits, Refused, check_app, check_instance, check_revision, lease_time
from controlplane.registries.revisions import RevisionTable
from controlplane.registries.watchers import Hub, Watcher
from controlplane.store.port import Store, StoredLease
from meshsdk.model.instance import Instance, InstanceState, Revision


class Registration:
    """The instances of the mesh. Guarded by the lock of whoever owns it (the plane).

    Args:
        store: keeps leases and revisions; what it holds is taken over.
        now: the caller's monotonic clock at the start: leases from the store have their full time from here.
        on_change: told of the changes of each operation, after it is done.
        limits: counts and spans.
    """

    def __init__(
        self, store: Store, now: float, on_change: Callable[[Iterable[Change]], None], limits: Limits | None = None
    ) -> None:
        self._store = store
        self._on_change = on_change
        self._limits = limits or Limits()
        self._table = LeaseTable()
        self._revisions = RevisionTable()
        self._hub = Hub()
        for stored in store.leases():
            self._table.register(stored.id, stored.instance, stored.ttl, now)
        for revision in store.revisions():
            self._revisions.publish(revision)

    @property
    def instances(self) -> Mapping[str, Mapping[str, Instance]]:
        """All instances: application -> id -> instance. A live view."""
        return self._table.instances

    def counts(self) -> dict[str, int]:
        """Returns how many there are of each thing, for status."""
        return {
            "leases": len(self._table),
            "revisions": len(self._revisions),
            "watchers": len(self._hub),
        }

    def register(self, instance: Instance, ttl: int, now: float) -> Lease:
        """Registers under a new lease. Raises Refused, StoreError."""
        check_instance(instance)
        seconds = lease_time(ttl, self._limits)
        if len(self._table) >= self._limits.instances and not self._table.holds(instance.app, instance.id):
            raise Refused(f"the control plane holds {self._limits.instances} instances and takes no more", full=True)
        lease_id = secrets.token_hex(16)
        self._store.put_lease(StoredLease(lease_id, seconds, instance))
        change = self._table.register(lease_id, instance, seconds, now)
        self._publish([change])
        return Lease(lease_id, seconds, now + seconds, instance)

    def renew(self, lease_id: str, now: float) -> Lease | None:
        """Renews a lease; None where it has lapsed. Costs nothing else: watchers and clients are not bothered."""
        return self._table.renew(lease_id, now)

    def set_state(self, lease_id: str, state: InstanceState, now: float) -> Instance | None:
        """Changes an instance's state; None where the lease has lapsed. Raises StoreError."""
        lease = self._table.find(lease_id)
        if lease is None or lease.expires <= now:
            return None
        if lease.instance.state is state:
            return lease.instance
        self._store.put_lease(StoredLease(lease_id, lease.ttl, replace(lease.instance, state=state)))
        change = self._table.set_state(lease_id, state, now)
        if change is None:
            return None
        self._publish([change])
        return change.after

    def deregister(self, lease_id: str) -> bool:
        """Removes an instance; False where the lease is unknown. Raises StoreError."""
        if self._table.find(lease_id) is None:
            return False
        self._store.remove_leases([lease_id])
        change = self._table.release(lease_id)
        if change is not None:
            self._publish([change])
        return True

    def expire(self, now: float) -> None:
        """Removes instances whose lease lapsed. Raises StoreError, after the instances are gone."""
        gone = self._table.expire(now)
        if gone:
            self._publish([change for _, change in gone])
            self._store.remove_leases([lease_id for lease_id, _ in gone])

    def next_deadline(self) -> float | None:
        """Returns when `expire` should be called next."""
        return self._table.next_deadline()

    def publish(self, revision: Revision) -> None:
        """Stores what a revision contains; once is enough. Raises Refused, StoreError."""
        check_revision(revision)
        known = self._revisions.find(revision.app, revision.revision)
        if known is None and len(self._revisions) >= self._limits.revisions:
            raise Refused(f"the control plane holds {self._limits.revisions} revisions and takes no more", full=True)
        if not self._revisions.publish(revision):
            return
        self._store.put_revision(revision)
        dropped = self._revisions.prune(revision.app, self.instances.get(revision.app, {}).values())
        if dropped:
            self._store.remove_revisions(dropped)

    def revision(self, app: str, revision: str) -> Revision | None:
        """Returns what a revision contains, or None."""
        return self._revisions.find(app, revision)

    def serving(self, service: str) -> list[str]:
        """Returns the applications that serve a gRPC service."""
        return self._revisions.serving(service, self.instances)

    def watch(self, app: str, unit: str, wake: Callable[[], None]) -> Watcher:
        """Adds a watcher of `app` ("" for all) in `unit` ("" for every one). Raises Refused."""
        if app:
            check_app(app)
        if len(self._hub) >= self._limits.watchers:
            raise Refused(f"the control plane has {self._limits.watchers} watchers and takes no more", full=True)
        watcher = Watcher(app, unit, wake)
        self._hub.add(watcher, self.instances)
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        """Removes a watcher."""
        self._hub.remove(watcher)

    def _publish(self, changes: list[Change]) -> None:
        real = [change for change in changes if change.before != change.after]
        for change in real:
            self._hub.offer(change)
        if real:
            self._on_change(real)
