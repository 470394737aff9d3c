"""etcd as a registry: instances held by leases, revisions and the service mapping as plain keys (layout: `entries`).

Opened by `open_registry` for `etcd://` URLs. Carries; when to renew and what to do in an outage is the caller's. It
keeps nothing that another process with the same lease would lack, but for the keys that it wrote itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from meshsdk.discovery import entries, limits
from meshsdk.discovery.etcd.client import MAX_CHANGES, EtcdClient
from meshsdk.discovery.etcd.prefix import PrefixFollower
from meshsdk.discovery.etcd.values import Change, Delete, Entry, Equals, Listing, Put, Unchanged
from meshsdk.discovery.following import Following
from meshsdk.discovery.mirror import Mirror
from meshsdk.discovery.registry import Lease, LeaseLapsed, MalformedEntry
from meshsdk.discovery.watches import Watches
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Increment, Instance, InstanceState, Revision

_LOG = logging.getLogger("meshsdk.discovery")
_ATTEMPTS = 5  # at a change that others interfere with


class EtcdRegistry:
    """Implements `meshsdk.discovery.registry.Registry` on `client`, which it owns and closes."""

    def __init__(self, client: EtcdClient, prefix: str = entries.DEFAULT_PREFIX) -> None:
        self._client = client
        self._layout = entries.Layout(prefix)
        self._lock = threading.Lock()
        self._keys: dict[tuple[str, str], str] = {}  # of what was registered here, by (app, id); guarded by _lock
        self._watches: Watches[Following] = Watches(client.name)

    def register(self, instance: Instance, ttl: float) -> Lease:
        """See `Registrar`. etcd grants whole seconds and not less than its election timeout allows (2 s).

        A lease that kept the instance until now keeps nothing any more: whoever renews it is told that it has lapsed.
        """
        if problem := limits.instance_problem(instance):
            raise RegistryError(problem)
        identity, key = (instance.app, instance.id), self._layout.instance(instance)
        with self._lock:
            old_key = self._keys.get(identity, key)
        lease = self._client.grant(ttl)
        changes: list[Change] = [Put(key, entries.instance_to_text(instance), lease.id)]
        if old_key != key:  # its unit changed
            changes.append(Delete(old_key))
        try:
            self._client.commit(changes)
        except RegistryError:
            self._let_go(lease.id)
            raise
        with self._lock:
            self._keys[identity] = key
        return Lease(f"{lease.id:x}", lease.ttl)

    def renew(self, lease: Lease) -> Lease:
        """See `Registrar`. A lease whose key somebody removed or took over has lapsed, though etcd still has it."""
        number = _number(lease)
        ttl = self._client.keep_alive(number)
        if not self._client.keys_of(number):
            raise LeaseLapsed(f"the key of lease {lease.id} is gone from {self._client.name}")
        return Lease(lease.id, ttl)

    def set_state(self, lease: Lease, state: InstanceState) -> None:
        """See `Registrar`."""
        number = _number(lease)
        for _ in range(_ATTEMPTS):
            entry = self._entry_of(number)
            instance = entries.instance_from_text(entry.value)
            if instance.state is state:
                return
            text = entries.instance_to_text(replace(instance, state=state))
            if self._client.commit([Put(entry.key, text, number)], [Unchanged(entry.key, entry.revision)]).done:
                return
        raise RegistryError(f"the instance of lease {lease.id} in {self._client.name} changes all the time")

    def deregister(self, lease: Lease) -> None:
        """See `Registrar`."""
        try:
            self._client.revoke(_number(lease))
        except LeaseLapsed:
            _LOG.debug("lease %s had lapsed before it was given back", lease.id)

    def publish_revision(self, revision: Revision) -> None:
        """See `Catalog`. The revision itself is written last: where it is, its services are mapped."""
        if problem := limits.revision_problem(revision):
            raise RegistryError(problem)
        key, text = self._layout.revision(revision.app, revision.revision), entries.revision_to_text(revision)
        if self._client.commit([], [Equals(key, text)]).done:
            return
        changes: list[Change] = [
            Put(self._layout.service(service, revision.app), b"") for service in entries.services_of(revision)
        ]
        changes.append(Put(key, text))
        for start in range(0, len(changes), MAX_CHANGES):
            self._client.commit(changes[start : start + MAX_CHANGES])

    def get_revision(self, app: str, revision: str) -> Revision | None:
        """See `Catalog`. MalformedEntry with the key for one that others left and that cannot be read."""
        entry = self._client.get(self._layout.revision(app, revision))
        if entry is None:
            return None
        try:
            return entries.revision_from_text(entry.value)
        except MalformedEntry as error:
            raise MalformedEntry(f"{self._client.name}: entry {entry.key!r}: {error}") from None

    def map_service(self, service: str) -> tuple[str, ...]:
        """See `Catalog`."""
        listing = self._client.list(self._layout.services(service))
        return tuple(sorted(entries.last_segment(key) for key in listing.entries))

    def watch(self, app: str, unit: str, on_increment: Callable[[Increment], None]) -> Following:
        """See `Feed`. Called on a thread of the watch; all watches share one stream."""
        mirror = Mirror(self._client.name, app, unit, self._decode, on_increment)
        follower = PrefixFollower(self._client, self._layout.instances(app, unit))

        def follow(following: Following) -> None:
            following.interruptible(follower.interrupt)
            for news in follower.news():
                following.settled()
                if isinstance(news, Listing):
                    mirror.reset(news.entries)
                else:
                    mirror.change(news.put, news.removed)

        words = f"watch of {f'app {app!r}' if app else 'all apps'} at {self._client.name}"
        return self._watches.begin(Following(words, follow, skipped=lambda: mirror.skipped))

    def close(self) -> None:
        """See `Registry`."""
        self._watches.close()
        self._client.close()

    def _decode(self, key: str, entry: Entry) -> Instance:
        instance = entries.instance_from_text(entry.value)
        if (instance.app, instance.unit, instance.id) != self._layout.instance_of(key):
            raise RegistryError(f"it is of app {instance.app!r}, unit {instance.unit!r}, id {instance.id!r}")
        return instance

    def _entry_of(self, lease: int) -> Entry:
        for key in self._client.keys_of(lease):
            entry = self._client.get(key)
            if entry is not None and entry.lease == lease:
                return entry
        raise LeaseLapsed(f"the key of lease {lease:x} is gone from {self._client.name}")

    def _let_go(self, lease: int) -> None:
        try:
            self._client.revoke(lease)
        except RegistryError as error:
            _LOG.debug("an unused lease is left to lapse: %s", error)


def _number(lease: Lease) -> int:
    try:
        return int(lease.id, 16)
    except ValueError:
        raise LeaseLapsed(f"lease {lease.id!r} is none of etcd's") from None
