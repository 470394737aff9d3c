"""Counts of calls by client and cluster, in buckets of time. Pure: times are arguments, in unix seconds.

Owned by `book`. Buckets are 10 s wide; those that are an hour old are merged into ones of 5 min, and go after 24 h.
What is held is bounded (`MAX_ROWS`, about 120 bytes each): the oldest buckets go first, and `kept_since` says so.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

WIDTH, WIDE = 10, 300  # seconds
_FINE, _KEPT = 3_600, 86_400  # seconds
MAX_ROWS = 300_000
FIELDS = ("succeeded", "failed", "cancelled", "retried", "moved", "doubled")

Key = tuple[str, str]  # client (node id), cluster


@dataclass(frozen=True, slots=True)
class Counted:
    """Calls that ended. `failed`: not OK, and not `cancelled` by the application; `statuses`: of these, by name."""

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0
    moved: int = 0
    doubled: int = 0
    statuses: Mapping[str, int] = field(default_factory=dict)

    def numbers(self) -> tuple[int, ...]:
        """Returns the counts in the order of `FIELDS`."""
        return (self.succeeded, self.failed, self.cancelled, self.retried, self.moved, self.doubled)


class _Bucket:
    """One span of time; `seal` makes it small once nothing is added any more."""

    __slots__ = ("_keys", "_numbers", "_open", "_statuses", "start", "width")

    def __init__(self, start: int, width: int) -> None:
        self.start, self.width = start, width
        self._open: dict[Key, list[int]] = {}
        self._keys: tuple[Key, ...] = ()
        self._numbers = array("Q")
        self._statuses: dict[Key, Counter[str]] = {}

    def __len__(self) -> int:
        return len(self._keys) + len(self._open) + len(self._statuses)

    def add(self, key: Key, numbers: tuple[int, ...], statuses: Mapping[str, int]) -> None:
        known = self._open.get(key)
        if known is None:
            self._open[key] = list(numbers)
        else:
            known[:] = [one + other for one, other in zip(known, numbers, strict=True)]
        if statuses:
            self._statuses.setdefault(key, Counter()).update(statuses)

    def seal(self) -> None:
        self._keys = tuple(self._open)
        self._numbers = array("Q", (number for numbers in self._open.values() for number in numbers))
        self._open = {}

    def rows(self) -> Iterator[tuple[Key, tuple[int, ...], Mapping[str, int]]]:
        count = len(FIELDS)
        for key, numbers in self._open.items():
            yield key, tuple(numbers), self._statuses.get(key, {})
        for index, key in enumerate(self._keys):
            yield key, tuple(self._numbers[index * count : (index + 1) * count]), self._statuses.get(key, {})


class Buckets:
    """Not thread-safe: guarded by the book's lock."""

    def __init__(self, now: float, max_rows: int = MAX_ROWS) -> None:
        self.kept_since = now
        self._max_rows = max_rows
        self._sealed: deque[_Bucket] = deque()  # the oldest first
        self._newest = _Bucket(_slot(now, WIDTH), WIDTH)
        self._rows = 0  # of the sealed ones

    def add(self, now: float, key: Key, counted: Counted) -> None:
        """Books what a client told at `now`. A clock that was set back books into the newest bucket."""
        if _slot(now, WIDTH) > self._newest.start:
            self._turn(now)
        elif len(self._newest) >= self._max_rows:
            self._turn(float(self._newest.start + WIDTH))  # too many for one bucket: the span begins anew
        self._newest.add((sys.intern(key[0]), sys.intern(key[1])), counted.numbers(), counted.statuses)

    def between(self, since: float, until: float) -> tuple[dict[Key, Counted], float, float]:
        """Returns the sums of all buckets that overlap a span, and where those begin and end."""
        sums: dict[Key, tuple[list[int], Counter[str]]] = {}
        begin, end = since, until
        for bucket in (*self._sealed, self._newest):
            if bucket.start >= until or bucket.start + bucket.width <= since:
                continue
            begin, end = min(begin, bucket.start), max(end, bucket.start + bucket.width)
            for key, numbers, statuses in bucket.rows():
                known, by_status = sums.setdefault(key, ([0] * len(FIELDS), Counter()))
                known[:] = [one + other for one, other in zip(known, numbers, strict=True)]
                by_status.update(statuses)
        found = {key: _counted(numbers, by_status) for key, (numbers, by_status) in sums.items()}
        return found, begin, end

    def __len__(self) -> int:
        return self._rows + len(self._newest)

    def _turn(self, now: float) -> None:
        self._newest.seal()
        if len(self._newest):
            self._sealed.append(self._newest)
            self._rows += len(self._newest)
        self._newest = _Bucket(_slot(now, WIDTH), WIDTH)
        self._merge(now)
        while self._sealed and (
            self._sealed[0].start + self._sealed[0].width <= now - _KEPT or len(self) > self._max_rows
        ):
            gone = self._sealed.popleft()
            self._rows -= len(gone)
            self.kept_since = max(self.kept_since, float(gone.start + gone.width))

    def _merge(self, now: float) -> None:
        """Merges the fine buckets of the oldest wide span that has any, once all of it is old enough."""
        fine = next((index for index, bucket in enumerate(self._sealed) if bucket.width == WIDTH), None)
        if fine is None:
            return
        slot = _slot(self._sealed[fine].start, WIDE)
        if slot + WIDE > now - _FINE:
            return
        wide = _Bucket(slot, WIDE)
        while fine < len(self._sealed) and _slot(self._sealed[fine].start, WIDE) == slot:
            bucket = self._sealed[fine]
            del self._sealed[fine]
            self._rows -= len(bucket)
            for key, numbers, statuses in bucket.rows():
                wide.add(key, numbers, statuses)
        wide.seal()
        self._sealed.insert(fine, wide)
        self._rows += len(wide)


def _counted(numbers: list[int], statuses: Mapping[str, int]) -> Counted:
    succeeded, failed, cancelled, retried, moved, doubled = numbers
    return Counted(succeeded, failed, cancelled, retried, moved, doubled, dict(statuses))


def _slot(at: float, width: int) -> int:
    return int(at) // width * width
