"""The copies of calls that a mesh's mirrors send: how many run, and how many were sent or dropped, by cluster.

Held by `shared.Shared`, written by `mirroring`, read by metrics and `explain`. Knows no call.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import NamedTuple

MOST_RUNNING = 100  # copies at once to one cluster


class MirrorCounts(NamedTuple):
    """The copies of one cluster since the process started; `dropped`: found no endpoint, or too many running."""

    sent: int
    dropped: int
    running: int


class Mirrored:
    """Safe from any thread: `_lock` guards all counts. `kept`: copies that run, added and discarded atomically.

    A call of grpc that nobody holds is cancelled, so `kept` holds each copy to its end.
    """

    __slots__ = ("_dropped", "_lock", "_running", "_sent", "kept")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._running: Counter[str] = Counter()
        self.kept: set[object] = set()

    def enter(self, cluster: str) -> bool:
        """A copy wants to go out; False: too many run. Else `leave` follows at its end."""
        with self._lock:
            if self._running[cluster] >= MOST_RUNNING:
                self._dropped[cluster] += 1
                return False
            self._running[cluster] += 1
            self._sent[cluster] += 1
            return True

    def leave(self, cluster: str) -> None:
        """A copy has ended."""
        with self._lock:
            self._running[cluster] -= 1

    def drop(self, cluster: str) -> None:
        """A copy had nowhere to go, or could not be made."""
        with self._lock:
            self._dropped[cluster] += 1

    def counts(self, cluster: str) -> MirrorCounts:
        """Returns what was counted of one cluster."""
        with self._lock:
            return MirrorCounts(self._sent[cluster], self._dropped[cluster], self._running[cluster])
