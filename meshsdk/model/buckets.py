"""A frozen hash table that shares what did not change with the version before it.

Under `EndpointMap` and `Members`, which say what an entry is. Two levels: a change among 100,000 entries copies one
bucket, its row of buckets and the tuple of rows, and two versions are compared row by row by identity, so neither
costs more in a large table than in a small one. Frozen, so readers need no lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

_BUCKET = 32  # aimed-at entries per bucket
_ROW = 64  # buckets per row; a power of two, like the number of buckets

Item = TypeVar("Item")
Entry = TypeVar("Entry")


class Form(Protocol[Entry, Item]):
    """How entries are kept: a bucket is one flat tuple of items, of which an entry may take several."""

    def key(self, entry: Entry, /) -> str:
        """Returns the key under which an entry is found."""

    def packed(self, entries: Iterable[Entry], /) -> tuple[Item, ...]:
        """Returns a bucket of these entries."""

    def unpacked(self, bucket: tuple[Item, ...], /) -> dict[str, Entry]:
        """Returns the entries of a bucket by their keys."""


@dataclass(frozen=True, slots=True)
class Buckets(Generic[Item]):
    """The buckets in rows. Their number is a power of two; which one a key is in follows from the key's hash."""

    _rows: tuple[tuple[tuple[Item, ...], ...], ...] = (((),),)

    def __len__(self) -> int:
        return len(self._rows) * len(self._rows[0])

    def __iter__(self) -> Iterator[tuple[Item, ...]]:
        for row in self._rows:
            yield from row

    def of(self, key: str) -> tuple[Item, ...]:
        """Returns the bucket that holds `key` if anything does."""
        index = hash(key) & (len(self) - 1)
        return self._rows[index // _ROW][index % _ROW]

    def replaced(self, changed: Mapping[int, tuple[Item, ...]]) -> Buckets[Item]:
        """Returns the table with the buckets of these numbers exchanged."""
        rows = list(self._rows)
        touched: dict[int, list[tuple[Item, ...]]] = {}
        for index, bucket in changed.items():
            number = index // _ROW
            if number not in touched:
                touched[number] = list(rows[number])
            touched[number][index % _ROW] = bucket
        for number, row in touched.items():
            rows[number] = tuple(row)
        return Buckets(tuple(rows))

    def differing(self, other: Buckets[Item]) -> list[tuple[tuple[Item, ...], tuple[Item, ...]]]:
        """Returns the pairs of buckets that are not the same object here and in `other`, which has as many buckets."""
        return [
            (mine, its)
            for row, its_row in zip(self._rows, other._rows, strict=True)
            if row is not its_row
            for mine, its in zip(row, its_row, strict=True)
            if mine is not its
        ]


def spread(entries: Iterable[Entry], about: int, form: Form[Entry, Item]) -> tuple[Buckets[Item], int]:
    """Returns (a new table of `about` so many entries, its size); of entries with one key the last counts.

    Entries are packed as they come, so that they need never be there all at once.
    """
    count = 1
    while count * _BUCKET < about:
        count *= 2
    buckets: list[list[Item]] = [[] for _ in range(count)]
    for entry in entries:
        buckets[hash(form.key(entry)) & (count - 1)] += form.packed((entry,))
    size = 0
    packed: list[tuple[Item, ...]] = []
    for bucket in buckets:
        unique = form.unpacked(tuple(bucket))
        size += len(unique)
        packed.append(form.packed(unique.values()))
    return Buckets(tuple(tuple(packed[start : start + _ROW]) for start in range(0, count, _ROW))), size


def updated(
    buckets: Buckets[Item], size: int, form: Form[Entry, Item], put: Iterable[Entry], removed: Iterable[str]
) -> tuple[Buckets[Item], int]:
    """Returns (the table with the keys `removed` gone and then `put` added or replaced, its size).

    Unknown keys in `removed` are no error. Costs the touched buckets; a table that doubled is spread anew.
    """
    mask = len(buckets) - 1
    touched: dict[int, dict[str, Entry]] = {}

    def entries_by(key: str) -> dict[str, Entry]:
        index = hash(key) & mask
        if index not in touched:
            touched[index] = form.unpacked(buckets.of(key))
        return touched[index]

    for key in removed:
        size -= entries_by(key).pop(key, None) is not None
    for entry in put:
        key = form.key(entry)
        entries = entries_by(key)
        size += key not in entries
        entries[key] = entry
    if not touched:
        return buckets, size
    count = len(buckets)
    if size > 2 * _BUCKET * count or size * 4 < _BUCKET * count > _BUCKET:
        return spread(_all(buckets, touched, form), size, form)
    return buckets.replaced({index: form.packed(entries.values()) for index, entries in touched.items()}), size


def _all(
    buckets: Buckets[Item], touched: Mapping[int, Mapping[str, Entry]], form: Form[Entry, Item]
) -> Iterator[Entry]:
    for index, bucket in enumerate(buckets):
        yield from (touched[index] if index in touched else form.unpacked(bucket)).values()
