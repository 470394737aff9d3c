"""Resources as the server holds them: packed once, in persistent maps that share what did not change.

A change of one resource among 100,000 copies one bucket and one tuple of bucket references; two maps are compared
bucket by bucket by identity. Written by the cache, read by every stream; frozen, so no lock is needed. The memos are
filled by whoever asks first; two threads that race compute the same value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

_BUCKET = 32  # aimed-at resources per bucket
_DIGEST_MASK = (1 << 128) - 1
_MEMOS = 16  # differences kept per map; streams in step need one, stragglers a few


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """One resource, serialised once and shared by every client that gets it. Compared by identity.

    `version`: hash of the content. `digest`: hash of name and version, summed up to the version of a whole type.
    `body`: the serialised `google.protobuf.Any`. `sotw_head` and `delta_head`: the bytes that make `body` an entry of
    `DiscoveryResponse.resources` and of `DeltaDiscoveryResponse.resources`. `refers`: names of the EDS resources
    that a client needs anew after it got this resource (clusters only).
    """

    type_url: str
    name: str
    version: str
    digest: int
    body: bytes
    sotw_head: bytes
    delta_head: bytes
    refers: tuple[str, ...] = ()


Difference = tuple[tuple[Packed, ...], tuple[str, ...]]


class ResourceMap:
    """Immutable map of name to `Packed`. Built by `EMPTY.updated(...)`."""

    __slots__ = ("_all", "_buckets", "_differences", "_digest", "_size", "_token")

    def __init__(self, buckets: tuple[dict[str, Packed], ...], size: int, digest: int) -> None:
        self._buckets = buckets  # read-only after init
        self._size = size
        self._digest = digest
        self._token = object()  # identity that the memo of a younger map may keep without keeping this map
        self._all: tuple[Packed, ...] | None = None  # memo
        self._differences: dict[object, Difference] = {}  # memo, by the token of the older map

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Packed]:
        for bucket in self._buckets:
            yield from bucket.values()

    def get(self, name: str) -> Packed | None:
        """Returns the resource of this name, or None."""
        return self._buckets[hash(name) & (len(self._buckets) - 1)].get(name)

    @property
    def version(self) -> str:
        """Version of the whole: a hash of the set of (name, version), equal wherever and whenever the content is."""
        return f"{self._digest:032x}"

    def everything(self) -> tuple[Packed, ...]:
        """Returns all resources by name. One tuple, shared by all who ask."""
        if self._all is None:
            self._all = tuple(sorted(self, key=lambda packed: packed.name))
        return self._all

    def updated(self, put: Iterable[Packed] = (), removed: Iterable[str] = ()) -> ResourceMap:
        """Returns a map with `removed` gone and `put` added or replaced; itself if nothing differs by version."""
        mask = len(self._buckets) - 1
        touched: dict[int, dict[str, Packed]] = {}
        size, digest = self._size, self._digest
        for name in removed:
            index = hash(name) & mask
            known = touched.get(index, self._buckets[index]).get(name)
            if known is not None:
                touched.setdefault(index, dict(self._buckets[index])).pop(name)
                size -= 1
                digest -= known.digest
        for packed in put:
            index = hash(packed.name) & mask
            known = touched.get(index, self._buckets[index]).get(packed.name)
            if known is not None and known.version == packed.version:
                continue
            touched.setdefault(index, dict(self._buckets[index]))[packed.name] = packed
            size += known is None
            digest += packed.digest - (0 if known is None else known.digest)
        if not touched:
            return self
        buckets = list(self._buckets)
        for index, bucket in touched.items():
            buckets[index] = bucket
        return _fitting(tuple(buckets), size, digest & _DIGEST_MASK)

    def changes_from(self, old: ResourceMap) -> Difference:
        """Returns (resources added or changed since `old`, names gone), both by name.

        Costs the number of buckets plus the changed ones where `self` came from `old`. The answer is kept and shared:
        a thousand streams that step from one map to the next ask once.
        """
        if old is self:
            return (), ()
        found = self._differences.get(old._token)
        if found is None:
            found = _difference(old._buckets, self._buckets)
            if len(self._differences) >= _MEMOS:
                self._differences = {}
            self._differences[old._token] = found
        return found


def _difference(old: tuple[dict[str, Packed], ...], new: tuple[dict[str, Packed], ...]) -> Difference:
    if len(old) == len(new):
        pairs = [(before, after) for before, after in zip(old, new, strict=True) if before is not after]
    else:
        pairs = [(_merged(old), _merged(new))]
    put: list[Packed] = []
    gone: list[str] = []
    for before, after in pairs:
        for name, packed in after.items():
            known = before.get(name)
            if known is None or known.version != packed.version:
                put.append(packed)
        gone.extend(name for name in before if name not in after)
    return tuple(sorted(put, key=lambda packed: packed.name)), tuple(sorted(gone))


def _merged(buckets: Iterable[dict[str, Packed]]) -> dict[str, Packed]:
    return {name: packed for bucket in buckets for name, packed in bucket.items()}


def _fitting(buckets: tuple[dict[str, Packed], ...], size: int, digest: int) -> ResourceMap:
    """Makes the map, spread anew if its buckets have become too full or too empty."""
    count = len(buckets)
    if size > 2 * _BUCKET * count or size * 4 < _BUCKET * count > _BUCKET:
        count = 1
        while count * _BUCKET < size:
            count *= 2
        spread: list[dict[str, Packed]] = [{} for _ in range(count)]
        for name, packed in _merged(buckets).items():
            spread[hash(name) & (count - 1)][name] = packed
        buckets = tuple(spread)
    return ResourceMap(buckets, size, digest)


EMPTY = ResourceMap(({},), 0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Everything one view holds at one moment, all types consistent with each other."""

    types: Mapping[str, ResourceMap] = field(default_factory=dict)

    def of(self, type_url: str) -> ResourceMap:
        """Returns the resources of a type; an empty map for a type without any."""
        return self.types.get(type_url, EMPTY)


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit changed: names by type. `view` None: in what is for all."""

    view: str | None
    names: Mapping[str, tuple[str, ...]]
