"""A scope: the targets, connections and monitor that belong together, because one thread rule governs them.

The synchronous side of a mesh is one scope, each event loop that uses the mesh is another. A scope watches its targets
through the mesh's XdsClient and follows its connections from one monitor: a thread, or timers of the loop.
"""

from __future__ import annotations

import abc
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from meshsdk.channel.balancer import Surroundings
from meshsdk.channel.load_asking import Asked
from meshsdk.channel.pool import Link, Pool
from meshsdk.channel.shared import Shared
from meshsdk.channel.stack import Target
from meshsdk.engine import Clock
from meshsdk.model.resources import Locality
from meshsdk.model.snapshot import Snapshot, Unresolvable
from meshsdk.xds_client.load_counts import LoadCounts

if TYPE_CHECKING:
    from meshsdk.xds_client.client import Watch

_SHORTEST = 0.001  # seconds between two looks while connections are being made
_LONGEST = 0.25  # seconds between two looks while everything is connected or backing off
_GROWTH = 1.5
_BUDGET = 100  # a look that took t seconds is followed by at least t * _BUDGET of rest: 1 % of a core at most


class Source(Protocol):
    """Where configuration comes from: the mesh's XdsClient.

    `loads`: where calls are counted.
    """

    loads: LoadCounts

    def watch(self, target: str, on_resolution: Callable[[Snapshot | Unresolvable], None]) -> Watch:
        """Reports every complete configuration of `target`, from a thread of its own."""

    def progress(self, target: str) -> str:
        """Says in words what the configuration of `target` waits for."""


@dataclass(slots=True)
class _Watched:
    """A target in use; guarded by the scope's lock."""

    target: Target
    watch: Watch
    channels: int = 1


class Scope(abc.ABC):
    """Targets by name, guarded by `lock`. Subclasses say how to hop to the scope's thread and how calls wait.

    `dropped`: names of targets whose channel was collected without `close`, appended by any thread, the next look
    releases them. A finalizer may run in the middle of anything, so it takes no lock and changes nothing else.
    """

    def __init__(self, source: Source, dial: Callable[[str, str], Link], local: Locality, seed: int) -> None:
        """`dial(address, authority)` makes a link; `local` is this process's own locality."""
        self.lock = threading.RLock()
        self.pool = Pool(dial)
        self.source = source
        self.shared = Shared()  # the mesh's, which replaces it before any target is opened
        self.rate_limits: Any = None  # who asks rate limit services; set once by the mesh, before any target is opened
        self.clock: Clock = time
        self._around = Surroundings(
            self.pool, local, seed, time.time, time.monotonic, source.loads, self.hurry, self._ask
        )
        self._watched: dict[str, _Watched] = {}
        self.dropped: deque[str] = deque()
        self._delay = _SHORTEST

    def measure_by(self, clock: Clock) -> None:
        """Takes another clock than the system's; before any target is opened."""
        self.clock = clock
        self._around = replace(self._around, clock=clock.time, monotonic=clock.monotonic)

    def open(self, name: str, authority: str) -> Target:
        """Returns the target, watched until every channel that opened it has closed it."""
        with self.lock:
            known = self._watched.get(name)
            if known is not None:
                known.channels += 1
                return known.target
            target = Target(name, authority, self._around, self.lock, self._changed, self.shared)
            target.rate_limits = self.rate_limits
            watch = self.source.watch(name, lambda resolution: self._deliver(target, resolution))
            self._watched[name] = _Watched(target, watch)
            return target

    def targets(self) -> list[Target]:
        """Returns the targets in use, for metrics and `explain`."""
        with self.lock:
            return [watched.target for watched in self._watched.values()]

    def release(self, name: str) -> None:
        """One channel of the target was closed; with the last one its connections are cut."""
        with self.lock:
            known = self._watched.get(name)
            if known is None:
                return
            known.channels -= 1
            if known.channels == 0:
                del self._watched[name]
                known.watch.cancel()
                known.target.close()

    def _release_dropped(self) -> None:
        while self.dropped:
            self.release(self.dropped.popleft())
        self._changed()

    def look(self) -> float:
        """One look at all connections; returns the seconds until the next one."""
        began = time.perf_counter()
        with self.lock:
            if self.dropped:
                self._release_dropped()
            settled = True
            for watched in self._watched.values():
                settled &= watched.target.refresh()
            leaving = self.pool.sweep(self.clock.monotonic())
        rest = (time.perf_counter() - began) * _BUDGET
        self._delay = _LONGEST if settled and not leaving else min(self._delay * _GROWTH, _LONGEST)
        return max(self._delay, rest)

    def close(self) -> None:
        """Closes targets, then connections: calls still running end CANCELLED."""
        with self.lock:
            for watched in self._watched.values():
                watched.watch.cancel()
                watched.target.close()
            self._watched.clear()
            self.pool.close()

    def _hurry(self) -> None:
        """Something changed: the next looks come quickly."""
        self._delay = _SHORTEST

    @abc.abstractmethod
    def hurry(self) -> None:
        """Has the next look come now, on the scope's own thread, and those after it quickly. Never blocks."""

    @abc.abstractmethod
    def _ask(self, asked: Sequence[Asked], period: float) -> bool:
        """Has endpoints asked for their load, beside what the scope does; False: not now. The lock is held."""

    @abc.abstractmethod
    def _deliver(self, target: Target, resolution: Snapshot | Unresolvable) -> None:
        """Takes a configuration from the client's thread to the scope's own and lets `target` adopt it."""

    @abc.abstractmethod
    def _changed(self) -> None:
        """Wakes the calls that wait; called with the lock held."""
