"""`PersistentMap`: an immutable mapping by name whose changed copy shares what did not change. Pure.

What snapshots are made of. A change among n entries copies one bucket and the tuple of bucket references, each of
about the square root of n; two maps that came from one another are compared bucket by bucket by identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")

_SMALLEST = 32  # entries per bucket that are not worth splitting


class PersistentMap(Generic[ValueT]):
    """Name -> value. Frozen, so that any thread may read it. Made by `PersistentMap().with_changes(...)`."""

    __slots__ = ("_buckets", "_size")

    def __init__(self, buckets: tuple[dict[str, ValueT], ...] = ({},), size: int = 0) -> None:
        self._buckets = buckets  # read-only after init
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[str]:
        for bucket in self._buckets:
            yield from bucket

    def values(self) -> Iterator[ValueT]:
        """Yields the values, in no order."""
        for bucket in self._buckets:
            yield from bucket.values()

    def get(self, name: str) -> ValueT | None:
        """Returns the value of this name, or None."""
        return self._buckets[hash(name) & (len(self._buckets) - 1)].get(name)

    def with_changes(self, changes: Mapping[str, ValueT | None]) -> PersistentMap[ValueT]:
        """Returns a map with these entries put, or removed where the value is None. Itself if there is none."""
        if not changes:
            return self
        mask = len(self._buckets) - 1
        touched: dict[int, dict[str, ValueT]] = {}
        size = self._size
        for name, value in changes.items():
            index = hash(name) & mask
            bucket = touched.get(index)
            if bucket is None:
                bucket = touched[index] = dict(self._buckets[index])
            size -= len(bucket)
            if value is None:
                bucket.pop(name, None)
            else:
                bucket[name] = value
            size += len(bucket)
        buckets = list(self._buckets)
        for index, bucket in touched.items():
            buckets[index] = bucket
        return PersistentMap(_fitting(tuple(buckets), size), size)

    def differing(self, old: PersistentMap[ValueT]) -> Iterator[tuple[str, ValueT | None, ValueT | None]]:
        """Yields (name, value in `old`, value here) wherever the two are not the same object; None: not there."""
        if len(old._buckets) == len(self._buckets):
            pairs = zip(old._buckets, self._buckets, strict=True)
        else:
            pairs = zip((_merged(old._buckets),), (_merged(self._buckets),), strict=True)
        for before, after in pairs:
            if before is after:
                continue
            for name, value in after.items():
                known = before.get(name)
                if known is not value:
                    yield name, known, value
            for name, known in before.items():
                if name not in after:
                    yield name, known, None


def _merged(buckets: tuple[dict[str, ValueT], ...]) -> dict[str, ValueT]:
    return {name: value for bucket in buckets for name, value in bucket.items()}


def _fitting(buckets: tuple[dict[str, ValueT], ...], size: int) -> tuple[dict[str, ValueT], ...]:
    """Spreads the entries anew if there are far too few or too many buckets: a square root of the size is aimed at."""
    count = len(buckets)
    full = max(_SMALLEST, count)
    if size <= 4 * full * count and (count == 1 or size * 16 >= count * count):
        return buckets
    count = 1
    while count * count < size and count * _SMALLEST < size:
        count *= 2
    spread: list[dict[str, ValueT]] = [{} for _ in range(count)]
    for name, value in _merged(buckets).items():
        spread[hash(name) & (count - 1)][name] = value
    return tuple(spread)
