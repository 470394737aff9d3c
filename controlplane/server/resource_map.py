"""Resources as the server holds them: packed once, in persistent maps that share what did not change.

Written by the cache, read by every stream; frozen, so no lock is needed. The memos are filled by whoever asks first;
two threads that race compute the same value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from controlplane.server.framing import heading, length_delimited
from controlplane.server.persistent import PersistentMap

_DIGEST_MASK = (1 << 128) - 1
_MEMOS = 16  # differences kept per map; streams in step need one, stragglers a few

# Fields of protobuf messages: number << 3 | 2, length-delimited.
_RESPONSE_RESOURCES = b"\x12"  # of DiscoveryResponse and of DeltaDiscoveryResponse
_RESOURCE_VERSION, _RESOURCE_RESOURCE, _RESOURCE_NAME = b"\x0a", b"\x12", b"\x1a"


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """One resource, serialised once and shared by every client that gets it. Compared by identity.

    `version`: hash of the content. `digest`: hash of name and version, summed up to the version of a whole type.
    `body`: the serialised `google.protobuf.Any`. `sotw_head` and `delta_head`: the bytes that make `body` an entry of
    `DiscoveryResponse.resources` and of `DeltaDiscoveryResponse.resources`. `refers`: names of the EDS resources that
    a client needs anew after it got this resource (clusters), or of the collections (EDS). `collection`: key of the
    glob collection that it is a member of, "" for none (see `globs`). `turned`: the same with other names for the
    collections that it names, for clients that must not take them for those they knew before.
    """

    type_url: str
    name: str
    version: str
    digest: int
    body: bytes
    sotw_head: bytes
    delta_head: bytes
    refers: tuple[str, ...] = ()
    collection: str = ""
    turned: Packed | None = None

    def named(self, name: str) -> Packed:
        """Returns the same resource under another name."""
        if name == self.name:
            return self
        return replace(self, name=name, delta_head=delta_head(name, self.version, self.body))


def sotw_head(body: bytes) -> bytes:
    """Returns what makes a serialised Any an entry of `DiscoveryResponse.resources`."""
    return heading(_RESPONSE_RESOURCES, len(body))


def delta_head(name: str, version: str, body: bytes) -> bytes:
    """Returns what makes a serialised Any an entry of `DeltaDiscoveryResponse.resources`."""
    wrapper = length_delimited(_RESOURCE_VERSION, version.encode()) + length_delimited(_RESOURCE_NAME, name.encode())
    wrapper += heading(_RESOURCE_RESOURCE, len(body))
    return length_delimited(_RESPONSE_RESOURCES, wrapper, extra=len(body))


Difference = tuple[tuple[Packed, ...], tuple[str, ...]]


class ResourceMap:
    """Immutable map of name to `Packed`. Built by `EMPTY.updated(...)`."""

    __slots__ = ("_all", "_differences", "_digest", "_entries", "_token")

    def __init__(self, entries: PersistentMap[Packed], digest: int) -> None:
        self._entries = entries  # read-only after init
        self._digest = digest
        self._token = object()  # identity that the memo of a younger map may keep without keeping this map
        self._all: tuple[Packed, ...] | None = None  # memo
        self._differences: dict[object, Difference] = {}  # memo, by the token of the older map

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Packed]:
        return self._entries.values()

    def get(self, name: str) -> Packed | None:
        """Returns the resource of this name, or None."""
        return self._entries.get(name)

    @property
    def version(self) -> str:
        """Version of the whole: a hash of the set of (name, version), equal wherever and whenever the content is."""
        return f"{self._digest:032x}"

    def everything(self) -> tuple[Packed, ...]:
        """Returns all resources by name. One tuple, shared by all who ask."""
        if self._all is None:
            self._all = tuple(sorted(self, key=_name))
        return self._all

    def updated(self, put: Iterable[Packed] = (), removed: Iterable[str] = ()) -> ResourceMap:
        """Returns a map with `removed` gone and `put` added or replaced; itself if nothing differs by version."""
        changes: dict[str, Packed | None] = {}
        for name in removed:
            if self._entries.get(name) is not None:
                changes[name] = None
        for packed in put:
            known = self._entries.get(packed.name)
            if known is not None and known.version == packed.version:
                changes.pop(packed.name, None)
            else:
                changes[packed.name] = packed
        if not changes:
            return self
        digest = self._digest
        for name, after in changes.items():
            before = self._entries.get(name)
            digest += (after.digest if after else 0) - (before.digest if before else 0)
        made = ResourceMap(self._entries.with_changes(changes), digest & _DIGEST_MASK)
        # Whoever holds this map asks the new one what changed; here it is known already.
        made._differences[self._token] = _sorted(changes.items())
        return made

    def changes_from(self, old: ResourceMap) -> Difference:
        """Returns (resources added or changed since `old`, names gone), both by name.

        Costs what changed where `self` was made from `old`, otherwise the number of buckets too. The answer is kept
        and shared: a thousand streams that step from one map to the next ask once.
        """
        if old is self:
            return (), ()
        found = self._differences.get(old._token)
        if found is None:
            differing = self._entries.differing(old._entries)
            found = _sorted(
                (name, after)
                for name, before, after in differing
                if before is None or after is None or before.version != after.version
            )
            if len(self._differences) >= _MEMOS:
                self._differences = {}
            self._differences[old._token] = found
        return found


def _name(packed: Packed) -> str:
    return packed.name


def _sorted(changes: Iterable[tuple[str, Packed | None]]) -> Difference:
    put: list[Packed] = []
    gone: list[str] = []
    for name, packed in changes:
        if packed is None:
            gone.append(name)
        else:
            put.append(packed)
    return tuple(sorted(put, key=_name)), tuple(sorted(gone))


EMPTY = ResourceMap(PersistentMap(), 0)
_NO_COLLECTIONS: PersistentMap[ResourceMap] = PersistentMap()


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Everything one view holds at one moment, all types consistent with each other.

    `collections`: by type, the members of each glob collection by its key; they are in `types` too.
    """

    types: Mapping[str, ResourceMap] = field(default_factory=dict)
    collections: Mapping[str, PersistentMap[ResourceMap]] = field(default_factory=dict)

    def of(self, type_url: str) -> ResourceMap:
        """Returns the resources of a type; an empty map for a type without any."""
        return self.types.get(type_url, EMPTY)

    def collection(self, type_url: str, key: str) -> ResourceMap:
        """Returns the members of a glob collection; an empty map for one without any."""
        return self.collections.get(type_url, _NO_COLLECTIONS).get(key) or EMPTY

    def updated(self, type_url: str, put: Iterable[Packed] = (), removed: Iterable[str] = ()) -> Snapshot:
        """Returns a snapshot with these resources of one type put and removed; itself if nothing differs."""
        before = self.of(type_url)
        after = before.updated(put, removed)
        if after is before:
            return self
        types = {**self.types, type_url: after}
        collected = self._collected(type_url, *after.changes_from(before))
        if not collected:
            return Snapshot(types, self.collections)
        index = self.collections.get(type_url, _NO_COLLECTIONS).with_changes(collected)
        return Snapshot(types, {**self.collections, type_url: index})

    def with_type(self, other: Snapshot, type_url: str) -> Snapshot:
        """Returns a snapshot with the resources of one type taken from `other`."""
        types = {**self.types, type_url: other.of(type_url)}
        return Snapshot(types, {**self.collections, type_url: other.collections.get(type_url, _NO_COLLECTIONS)})

    def _collected(self, type_url: str, put: Iterable[Packed], gone: Iterable[str]) -> dict[str, ResourceMap | None]:
        """Returns the collections that a change touches as they are after it; None for one that is empty then."""
        members: dict[str, tuple[list[Packed], list[str]]] = {}
        for packed in put:
            if packed.collection:
                members.setdefault(packed.collection, ([], []))[0].append(packed)
        for name in gone:
            known = self.of(type_url).get(name)
            if known is not None and known.collection:
                members.setdefault(known.collection, ([], []))[1].append(name)
        found: dict[str, ResourceMap | None] = {}
        for key, (added, removed) in members.items():
            after = self.collection(type_url, key).updated(added, removed)
            found[key] = after if len(after) else None
        return found


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit changed: names by type, and keys of glob collections by type. `views` None: for every view."""

    views: frozenset[str] | None
    names: Mapping[str, tuple[str, ...]]
    collections: Mapping[str, frozenset[str]] = field(default_factory=dict)
