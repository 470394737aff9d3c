"""Counters whose sources come and go: what a source has counted stays counted when it is gone.

A connection, a cluster or a stream counts for as long as it lives; a metric of Kind.COUNTER must not fall while the
process does. Used by those who read metrics; pure.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)


class Growing(Generic[_Key]):
    """Sums over all sources there ever were. Not thread-safe.

    What a source counts between the last `take` and its end is lost.
    """

    def __init__(self) -> None:
        self._seen: weakref.WeakKeyDictionary[object, Mapping[_Key, float]] = weakref.WeakKeyDictionary()
        self._sums: dict[_Key, float] = {}

    def take(self, source: object, counts: Mapping[_Key, float]) -> None:
        """Adds what is new in `counts`: all that `source` (anything that can be referenced weakly) counted so far."""
        before = self._seen.get(source, {})
        for key, count in counts.items():
            self._sums[key] = self._sums.get(key, 0) + count - before.get(key, 0)
        self._seen[source] = dict(counts)

    @property
    def sums(self) -> Mapping[_Key, float]:
        """What all sources together counted, by key."""
        return self._sums
