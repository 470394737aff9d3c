"""The outlier detectors of one balancer, one for each of its leaf clusters that has a policy (A37: each has its own).

Owned by a `ClusterBalancer`, which asks it at every look at the connections. It marks backends; which of them are
picked is the picker's matter. It never reads a clock.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from meshsdk.channel.attempt_watch import Judged
from meshsdk.channel.pool import PooledBackend
from meshsdk.lb.outlier import Detector, Ejection
from meshsdk.lb.selection import Selection
from meshsdk.model.snapshot import ResolvedCluster


class Outliers:
    """Not thread-safe: guarded by the scope's lock, all but `suspects`, a set that any thread adds addresses to."""

    __slots__ = ("_detectors", "_homes", "suspects")

    def __init__(self) -> None:
        self._detectors: dict[str, Detector] = {}
        self._homes: dict[str, Detector] = {}
        self.suspects: set[str] = set()
        """Endpoints with a streak of failures, to be judged at the next `sweep`."""

    def follow(self, cluster: ResolvedCluster, selection: Selection, now: float) -> None:
        """Takes policies and endpoints; `now`: monotonic seconds. What is known of those that stay is kept."""
        known, self._detectors, self._homes = self._detectors, {}, {}
        for leaf in cluster.leaves:
            config = leaf.cluster.outlier
            if config is None:
                continue
            detector = known.get(leaf.cluster.name) or Detector(config, random.random, now)
            if detector.config != config:
                detector.configure(config)
            self._detectors[leaf.cluster.name] = detector
        if not self._detectors:
            return
        homes = {
            endpoint.address: group.cluster
            for group in reversed(selection.groups)  # of an address in several groups, the first one counts
            for members in group.localities
            for endpoint in members.endpoints
        }
        for name, detector in self._detectors.items():
            detector.follow(address for address, home in homes.items() if home == name)
        self._homes = {address: self._detectors[home] for address, home in homes.items() if home in self._detectors}

    def judged(self, address: str) -> Judged | None:
        """Returns who judges an endpoint, and where its attempts are counted; None where nobody does."""
        detector = self._homes.get(address)
        counts = None if detector is None else detector.counts(address)
        return None if detector is None or counts is None else (detector, counts)

    def sweep(self, now: float, backends: Mapping[str, PooledBackend]) -> bool:
        """Judges what is due, and marks `backends`; returns whether one was ejected or came back."""
        while self.suspects:
            address = self.suspects.pop()
            detector = self._homes.get(address)
            if detector is not None:
                detector.strike(address, now)
        for detector in self._detectors.values():
            if detector.expires <= now:
                detector.sweep(now)
        return self.mark(backends)

    def mark(self, backends: Mapping[str, PooledBackend]) -> bool:
        """Sets `Backend.ejected`; returns whether one changed."""
        moved = False
        for address, backend in backends.items():
            detector = self._homes.get(address)
            ejected = detector is not None and address in detector.ejections
            moved |= ejected is not backend.ejected
            backend.ejected = ejected
        return moved

    @property
    def ejections(self) -> Mapping[str, Ejection]:
        """Who is out, by address, and why. Times are monotonic seconds."""
        return {address: one for detector in self._detectors.values() for address, one in detector.ejections.items()}

    @property
    def detectors(self) -> tuple[Detector, ...]:
        """Those in force, which count `totals` and `overflows` each since its cluster came."""
        return tuple(self._detectors.values())
