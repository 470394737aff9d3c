"""What a control plane knows of its store in etcd: news in, changes out. Pure; `now` comes in.

Called by `store` with what it reads. Decides the two things that must not go wrong: an instance that vanished because
etcd was away, and not because it left, stays for a while so that it can register again; and a store that has lost its
data takes no configuration out of force.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from controlplane.model.identity import ResourceId
from controlplane.registries.followed import Followed
from controlplane.registries.leases import Change
from controlplane.registries.revisions import RevisionTable
from controlplane.registries.watchers import Hub
from controlplane.store.etcd.layout import StoreLayout
from controlplane.store.port import StoredResource
from controlplane.store.shared import Drained
from meshsdk.discovery import entries
from meshsdk.discovery.etcd.values import Batch, Entry, Listing
from meshsdk.discovery.mirror import Mirror
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Increment, Instance, InstanceState

_LOG = logging.getLogger(__name__)
GRACE = 15.0  # seconds, a default lease: how long an instance that an outage may have cost its lease is kept
_LEAVING = frozenset((InstanceState.DRAINING, InstanceState.OFFLINE))


class Contents:
    """Guarded by the store's lock, but for `instances`, which changes in `take` and `tick` alone."""

    def __init__(self, name: str, prefix: str, grace: float = GRACE) -> None:
        self._grace = grace
        self.prefix = prefix
        self._name = name
        self._layout = StoreLayout(prefix)
        self._keys = entries.Layout(prefix)
        self._followed = Followed(name)
        self._mirror: Mirror[Entry] = Mirror(name, "", "", self._decode, self._told)
        self._entries: dict[str, Entry] = {}  # instances as they are in etcd, and those that are held
        self._held: dict[str, float] = {}  # keys that etcd no longer has, and until when they count nevertheless
        self._wary_until = float("-inf")  # what vanishes before this moment may have done so because of an outage
        self._leaving: set[str] = set()  # keys that are removed on purpose
        self._leases: dict[int, str] = {}  # lease -> key
        self._changes: list[Change] = []  # filled by the mirror, emptied by `take` and `tick`
        self._rows: dict[str, StoredResource] = {}  # by key
        self._replicas: set[str] = set()
        self.revisions = RevisionTable()
        self.hub = Hub()
        self.revision = 0  # of etcd: everything up to here was taken
        self.generation = 0  # the revision of the last change of a resource; 0 for none
        self.lost = False  # the store has lost the resources, and should be given them again

    @property
    def instances(self) -> Mapping[str, Mapping[str, Instance]]:
        """Application -> id -> instance; a live view."""
        return self._followed.instances

    def rows(self) -> list[StoredResource]:
        """Returns the applied resources."""
        return list(self._rows.values())

    def key_of(self, lease: int) -> str | None:
        """Returns the key that a lease keeps, None where it keeps none."""
        return self._leases.get(lease)

    def instance_at(self, key: str) -> Instance | None:
        """Returns the instance that is written at a key, None where there is none that can be read."""
        entry = self._entries.get(key)
        try:
            return self._decode(key, entry) if entry is not None else None
        except RegistryError:
            return None

    def leaves(self, key: str) -> None:
        """Takes note that the instance at a key is about to be deregistered: that it vanishes is no outage's doing."""
        self._leaving.add(key)

    def counts(self) -> dict[str, int]:
        """Returns how many there are of each thing."""
        return {"leases": len(self._leases), "revisions": len(self.revisions), "watchers": len(self.hub)}

    @property
    def replicas(self) -> int:
        """How many control planes run on this store."""
        return len(self._replicas)

    @property
    def held(self) -> int:
        """How many instances are kept though etcd no longer has them."""
        return len(self._held)

    @property
    def skipped(self) -> int:
        """How many instances cannot be read or served."""
        return self._mirror.skipped + self._followed.skipped

    # -- news -------------------------------------------------------------------------------------------------------

    def wary(self, now: float) -> None:
        """Takes note that etcd was not in touch up to `now`: leases may lapse that their holders wanted to renew."""
        self._wary_until = max(self._wary_until, now + self._grace)

    def take(self, news: Listing | Batch, now: float) -> Drained:
        """Takes over a listing, or what changed; returns what that means for instances and resources."""
        drained = self._list(news, now) if isinstance(news, Listing) else self._change(news, now)
        self.revision = news.revision if isinstance(news, Listing) else max(self.revision, news.revision)
        return drained

    def tick(self, now: float) -> tuple[Change, ...]:
        """Lets go of held instances whose time is over."""
        over = [key for key, until in self._held.items() if until <= now]
        if over:
            _LOG.warning("%d instances that vanished in an outage of %s did not come back", len(over), self._name)
            for key in over:
                del self._held[key], self._entries[key]
            self._mirror.change({}, over)
        return self._collected()

    def next_deadline(self) -> float | None:
        """Returns when `tick` has something to do."""
        return min(self._held.values(), default=None)

    def _list(self, listing: Listing, now: float) -> Drained:
        first = not self.revision
        if not first:
            self.wary(now)
        found = {key: entry for key, entry in listing.entries.items() if key.startswith(self._layout.instances)}
        for key in [key for key in self._entries if key not in found]:
            if self._hold(key, now):
                found[key] = self._entries[key]
        self._held = {key: until for key, until in self._held.items() if key not in listing.entries}
        self._entries = found
        self._leases = {entry.lease: key for key, entry in found.items() if entry.lease and key not in self._held}
        self._mirror.reset(found)
        self._replicas = {key for key in listing.entries if key.startswith(self._layout.replicas)}
        self.revisions = RevisionTable()
        self._publish(entry for key, entry in listing.entries.items() if key.startswith(self._layout.revisions))
        put, removed = self._list_resources(listing)
        return Drained(self._collected(), put, removed)

    def _list_resources(self, listing: Listing) -> tuple[tuple[StoredResource, ...], tuple[ResourceId, ...]]:
        generation = listing.entries.get(self._layout.generation)
        if generation is None and (self.generation or self.lost):
            self._note_loss()
            return (), ()
        self.generation, self.lost = generation.revision if generation else 0, False
        raw = {key: entry for key, entry in listing.entries.items() if key.startswith(self._layout.resources)}
        return self._change_resources(raw, [key for key in self._rows if key not in raw])

    def _change(self, batch: Batch, now: float) -> Drained:
        gone = [key for key in batch.removed if key.startswith(self._layout.instances) and not self._hold(key, now)]
        put = {key: entry for key, entry in batch.put.items() if key.startswith(self._layout.instances)}
        for key in gone:
            entry = self._entries.pop(key, None)
            if entry is not None and self._leases.get(entry.lease) == key:
                del self._leases[entry.lease]
        for key, entry in put.items():
            old = self._entries.get(key)
            if old is not None and old.lease != entry.lease and self._leases.get(old.lease) == key:
                del self._leases[old.lease]
            self._held.pop(key, None)
            self._leaving.discard(key)
            self._entries[key] = entry
            if entry.lease:
                self._leases[entry.lease] = key
        if put or gone:
            self._mirror.change(put, gone)
        self._replicas.difference_update(batch.removed)
        self._replicas.update(key for key in batch.put if key.startswith(self._layout.replicas))
        self._publish(entry for key, entry in batch.put.items() if key.startswith(self._layout.revisions))
        for key in batch.removed:
            if key.startswith(self._layout.revisions):
                app, _, revision = key.removeprefix(self._layout.revisions).partition("/")
                self.revisions.forget(entries.last_segment(app), entries.last_segment(revision))
        changed, removed = self._batch_resources(batch)
        return Drained(self._collected(), changed, removed)

    def _batch_resources(self, batch: Batch) -> tuple[tuple[StoredResource, ...], tuple[ResourceId, ...]]:
        if self._layout.generation in batch.removed:
            self._note_loss()
        raw = {key: entry for key, entry in batch.put.items() if key.startswith(self._layout.resources)}
        generation = batch.put.get(self._layout.generation)
        if generation is not None:
            self.generation, self.lost = generation.revision, False
        if self.lost:
            return (), ()
        return self._change_resources(raw, [key for key in batch.removed if key in self._rows])

    def _note_loss(self) -> None:
        if self._rows and not self.lost:
            _LOG.error(
                "%s has lost the configuration that was applied; %d resources stay in force here and are written back",
                self._name,
                len(self._rows),
            )
        self.lost, self.generation = bool(self._rows), 0

    def _change_resources(
        self, raw: Mapping[str, Entry], gone: Iterable[str]
    ) -> tuple[tuple[StoredResource, ...], tuple[ResourceId, ...]]:
        put: list[StoredResource] = []
        for key, entry in raw.items():
            try:
                row = self._layout.row(key, entry.value)
            except RegistryError as error:
                _LOG.error("%s: entry %r is not taken into force: %s", self._name, key, error)
                continue
            if self._rows.get(key) != row:
                self._rows[key] = row
                put.append(row)
        removed = tuple(self._rows.pop(key).id for key in gone)
        return tuple(put), removed

    # -- inside -----------------------------------------------------------------------------------------------------

    def _hold(self, key: str, now: float) -> bool:
        """Tells whether a key that etcd no longer has counts for a while: an outage may have cost it its lease."""
        entry = self._entries.get(key)
        if entry is None or now >= self._wary_until or key in self._leaving:
            self._leaving.discard(key)
            return False
        if key in self._held:
            return True
        try:
            instance = self._decode(key, entry)
        except RegistryError:
            return False
        if instance.state in _LEAVING:
            return False
        self._held[key] = now + self._grace
        if self._leases.get(entry.lease) == key:
            del self._leases[entry.lease]
        return True

    def _publish(self, found: Iterable[Entry]) -> None:
        for entry in sorted(found, key=lambda entry: entry.revision):
            try:
                self.revisions.publish(entries.revision_from_text(entry.value))
            except RegistryError as error:
                _LOG.warning("%s: entry %r is skipped: %s", self._name, entry.key, error)

    def _decode(self, key: str, entry: Entry) -> Instance:
        instance = entries.instance_from_text(entry.value)
        if (instance.app, instance.unit, instance.id) != self._keys.instance_of(key):
            raise RegistryError(f"it is of app {instance.app!r}, unit {instance.unit!r}, id {instance.id!r}")
        return instance

    def _told(self, increment: Increment) -> None:
        changes = self._followed.take(increment)
        for change in changes:
            self.hub.offer(change)
        self._changes += changes

    def _collected(self) -> tuple[Change, ...]:
        changes, self._changes = tuple(self._changes), []
        return changes
