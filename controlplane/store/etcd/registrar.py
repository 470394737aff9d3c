"""Registration in a store that several control planes share: leases are etcd's own, so any of them may renew any.

Called by the registration service on threads that may wait. What it writes comes back through the store's news; it
waits for that, so that who registered here finds itself here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from controlplane.registries.limits import Limits, Refused, check_app, check_instance, check_revision, lease_time
from controlplane.registries.registrar import Granted
from controlplane.registries.watchers import Watcher
from controlplane.store.etcd.contents import Contents
from controlplane.store.etcd.presence import Presence
from controlplane.store.port import StoreError
from meshsdk.discovery import entries
from meshsdk.discovery.etcd.client import EtcdClient
from meshsdk.discovery.etcd.registry import EtcdRegistry
from meshsdk.discovery.registry import Lease, LeaseLapsed
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Increment, Instance, InstanceState, Revision

_LOG = logging.getLogger(__name__)
_CATCH_UP = 1.0  # seconds for what was written to come back
_Result = TypeVar("_Result")


class EtcdRegistrar:
    """Implements `controlplane.registries.registrar.Registrar`.

    `lock` guards `contents`, and is notified of each drain. `presence` tells of outages.
    """

    waits = True

    def __init__(
        self,
        client: EtcdClient,
        registry: EtcdRegistry,
        contents: Contents,
        lock: threading.Condition,
        presence: Presence,
        limits: Limits | None = None,
    ) -> None:
        self._presence = presence
        self._client = client
        self._registry = registry
        self._contents = contents
        self._lock = lock
        self._limits = limits or Limits()

    def register(self, instance: Instance, ttl: int) -> Granted:
        """See `Registrar`."""
        check_instance(instance)
        seconds = lease_time(ttl, self._limits)
        with self._lock:
            known = instance.id in self._contents.instances.get(instance.app, {})
            if not known and self._contents.counts()["leases"] >= self._limits.instances:
                what = f"the control plane holds {self._limits.instances} instances and takes no more"
                raise Refused(what, full=True)
        lease = self._asked(lambda: self._registry.register(instance, seconds))
        number = int(lease.id, 16)
        self._wait(lambda: self._contents.key_of(number) is not None)
        return Granted(lease.id, int(lease.ttl))

    def renew(self, lease_id: str) -> Granted | None:
        """See `Registrar`."""
        number = _number(lease_id)
        if number is None:
            return None
        try:
            with self._lock:
                known = self._contents.key_of(number) is not None
            if known:
                ttl = self._asked(lambda: self._client.keep_alive(number))
            else:  # registered elsewhere a moment ago, or void: etcd knows
                ttl = self._asked(lambda: self._registry.renew(Lease(lease_id, 0.0))).ttl
        except LeaseLapsed:
            return None
        return Granted(lease_id, int(ttl))

    def set_state(self, lease_id: str, state: InstanceState) -> Instance | None:
        """See `Registrar`."""
        number = _number(lease_id)
        if number is None:
            return None
        try:
            self._asked(lambda: self._registry.set_state(Lease(lease_id, 0.0), state))
        except LeaseLapsed:
            return None
        found: list[Instance] = []

        def changed() -> bool:
            instance = self._instance(number)
            if instance is None or instance.state is not state:
                return False
            found.append(instance)
            return True

        self._wait(changed)
        if not found:
            raise StoreError(f"the state was written to {self._client.name}, but has not come back from there yet")
        return found[0]

    def deregister(self, lease_id: str) -> None:
        """See `Registrar`."""
        number = _number(lease_id)
        if number is None:
            return
        with self._lock:
            key = self._contents.key_of(number)
            if key is not None:
                self._contents.leaves(key)
        self._asked(lambda: self._registry.deregister(Lease(lease_id, 0.0)))
        self._wait(lambda: self._contents.key_of(number) is None)

    def publish(self, revision: Revision) -> None:
        """See `Registrar`."""
        check_revision(revision)
        app, name = revision.app, revision.revision
        with self._lock:
            known = self._contents.revisions.find(app, name)
            if known is None and len(self._contents.revisions) >= self._limits.revisions:
                what = f"the control plane holds {self._limits.revisions} revisions and takes no more"
                raise Refused(what, full=True)
        if known == revision:
            return
        self._asked(lambda: self._registry.publish_revision(revision))
        self._wait(lambda: self._contents.revisions.find(app, name) is not None)
        self._prune(app)

    def revision(self, app: str, revision: str) -> Revision | None:
        """See `Registrar`."""
        with self._lock:
            return self._contents.revisions.find(app, revision)

    def serving(self, service: str) -> list[str]:
        """See `Registrar`."""
        with self._lock:
            return self._contents.revisions.serving(service, self._contents.instances)

    def watch(self, app: str, unit: str, wake: Callable[[], None]) -> Watcher:
        """See `Registrar`."""
        if app:
            check_app(app)
        with self._lock:
            if len(self._contents.hub) >= self._limits.watchers:
                raise Refused(f"the control plane has {self._limits.watchers} watchers and takes no more", full=True)
            watcher = Watcher(app, unit, wake)
            self._contents.hub.add(watcher, self._contents.instances)
            return watcher

    def take(self, watcher: Watcher) -> list[Increment]:
        """See `Registrar`."""
        with self._lock:
            return list(watcher.take())

    def unwatch(self, watcher: Watcher) -> None:
        """See `Registrar`."""
        with self._lock:
            self._contents.hub.remove(watcher)

    def _prune(self, app: str) -> None:
        with self._lock:
            unused = self._contents.revisions.unused(app, self._contents.instances.get(app, {}).values())
        layout = entries.Layout(self._contents.prefix)
        for key in [layout.revision(app, name) for name in unused]:
            try:
                self._client.delete(key)
            except RegistryError as error:  # the next publication tries again
                _LOG.debug("an unused revision stays: %s", error)

    def _instance(self, lease: int) -> Instance | None:
        key = self._contents.key_of(lease)
        return None if key is None else self._contents.instance_at(key)

    def _asked(self, ask: Callable[[], _Result]) -> _Result:
        try:
            self._presence.check()  # in an outage calls fail at once: waiting ones would hold up those after it
            return ask()
        except LeaseLapsed:
            raise
        except RegistryError as error:
            raise StoreError(str(error)) from None

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self._lock:
            self._lock.wait_for(condition, _CATCH_UP)


def _number(lease_id: str) -> int | None:
    """Returns etcd's number of a lease; None for what another kind of store has given."""
    try:
        number = int(lease_id, 16)
    except ValueError:
        return None
    return number if 0 < number < 2**63 else None
