"""The request path of a call, in order. This is the page to read.

1. `Target.routes`: one read of what is in force for the target (None: no configuration yet).
2. `Routes.lanes`, or `Routes.choose`: the method's compiled plan gives the route, the route its cluster: a `Lane`.
   A lane with a `plan` (gates, breakers, header edits, hedging, mirrors: ADR 011) takes the call off the fast path:
   `passage.Passage` leads it through the gates, edits its metadata and asks the breaker; a gate's word may end it here.
3. `ClusterBalancer.pick`: the cluster's picker gives a connected backend.
4. The façade (`sync`, `aio`) makes the attempt on the backend's connection, within the shorter of the caller's timeout,
   the route's (gRFC A31) and the attempt's own; at its end `Backend.watch` is told how it went.
5. If the attempt failed, `interceptors.policies.recover` says what follows: another endpoint, a retry, or the error.
6. `Course` ends: the call is counted, and its gates are told.

A call that cannot pass a step gets a `Hold`: it waits for the target's next change, or fails with the hold's words.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, cast

from meshsdk.channel.balancer import ClusterBalancer, Surroundings
from meshsdk.channel.lane import UNCONFIGURED, Hold, HoldKind, Lane, Metadata
from meshsdk.channel.pool import Connection, PooledBackend
from meshsdk.channel.routes import Routes
from meshsdk.channel.shared import Shared
from meshsdk.lb.backend import Connectivity
from meshsdk.lb.picker import Failing, Picker, Waiting
from meshsdk.model.snapshot import BrokenCluster, Snapshot, Unresolvable
from meshsdk.xds_client.load_counts import Tally
from meshsdk.xds_client.named_clusters import asked_services

__all__ = ["DRAINING", "DROPPED", "UNCONFIGURED", "Hold", "HoldKind", "Lane", "Metadata", "Routes", "Target"]

DROPPED = "dropped by the policy of the cluster's endpoints: "  # with the category (A32)
DRAINING = "meshsdk-draining"  # trailing metadata of a server that is about to go

_EAGER_CLUSTERS = 64  # of one target connect ahead of need; of a larger target the others connect at their first call
_NONE: frozenset[str] = frozenset()
_STALE_PICKS = 8  # picks that may find their connection gone before the call waits for the monitor instead


class Target:
    """One target of a scope.

    Thread rules: `routes` and `hold` are published by one assignment each, by whoever holds the scope's lock, and read
    by any thread; `_balancers` and `_unplaced` are guarded by the scope's lock; `rate_limits` is set as it is made.
    """

    __slots__ = (
        *("_around", "_authority", "_balancers", "_lock", "_unplaced"),
        *("hold", "name", "notify", "rate_limits", "routes", "shared"),
    )

    def __init__(
        self,
        name: str,
        authority: str,
        around: Surroundings,
        lock: threading.RLock,
        notify: Callable[[], None],
        shared: Shared | None = None,
    ) -> None:
        """`notify` wakes the calls that wait on this target; called with the lock held, so it must not block.

        `shared`: the mesh's state of policies; None: it has its own.
        """
        self.name = name
        self.shared = shared or Shared()
        self.rate_limits: Any = None  # who asks rate limit services: `drivers.RateLimitClient`, on asyncio `Aio...`
        self._authority = authority
        self._around = around
        self._lock = lock
        self.notify = notify
        self._balancers: dict[str, ClusterBalancer] = {}
        self._unplaced: Tally | None = None
        self.hold = UNCONFIGURED
        self.routes: Routes | None = None

    def take(
        self, method: str, metadata: Metadata | None, request: object, channel_id: int
    ) -> tuple[Lane, PooledBackend] | Hold:
        """Steps 1 to 3: the call's lane and a backend that is connected at this moment, or why there is none."""
        routes = self.routes
        if routes is None:
            return self.hold
        lane = routes.lanes.get(method) or routes.choose(method, metadata, request)
        if isinstance(lane, Hold):
            return lane
        pick = lane.balancer.pick
        if pick is not None:
            backend = pick(None)
            if backend.connection.ready():
                return lane, backend
        return self.take_slowly(lane, metadata, channel_id)

    def take_elsewhere(
        self, method: str, metadata: Metadata | None, request: object, channel_id: int, avoid: AbstractSet[str]
    ) -> tuple[Lane, PooledBackend] | Hold:
        """As `take`, for a retry that is to go where the call has not been; see `take_slowly`."""
        routes = self.routes
        if routes is None:
            return self.hold
        lane = routes.lanes.get(method) or routes.choose(method, metadata, request)
        return lane if isinstance(lane, Hold) else self.take_slowly(lane, metadata, channel_id, avoid)

    def take_slowly(
        self, lane: Lane, metadata: Metadata | None, channel_id: int, avoid: AbstractSet[str] = _NONE
    ) -> tuple[Lane, PooledBackend] | Hold:
        """Step 3 where the picker asks for more than a pick, or its connection has just gone.

        `avoid`: addresses that are not taken while some more draws, as many as the retry policy says, give another one.
        """
        draws = lane.forward.retry.avoid_attempts if avoid and lane.forward.retry is not None else 0
        key = lane.route.hash(metadata, channel_id) if lane.balancer.hashes else None
        stale = 0
        while stale < _STALE_PICKS:
            picker = lane.balancer.picker
            if isinstance(picker, Waiting):
                picker = self._wake(lane.balancer)
            if not isinstance(picker, Picker):
                return Hold(HoldKind.FAILING if isinstance(picker, Failing) else HoldKind.CONNECTING, picker.reason)
            if picker.has_drops and (category := picker.dropped(random.random)) is not None:
                return Hold(HoldKind.REFUSED, DROPPED + category)
            backend = cast("PooledBackend", picker.pick(key))
            if draws and backend.endpoint.address in avoid:
                draws, key = draws - 1, None  # the hash would lead to the same one
                continue
            if backend.connection.ready():
                return lane, backend
            stale += 1
            self.refresh()
        return Hold(HoldKind.CONNECTING, "connections come and go")

    def seated(self, balancer: ClusterBalancer, address: str) -> PooledBackend | None:
        """Returns the backend of an endpoint that a session asks for (A55), connected or not; None: none to be used."""
        backend = balancer.at(address)
        if backend is None and balancer.has(address):
            with self._lock:
                backend = balancer.pin(address)
        return backend

    def _wake(self, balancer: ClusterBalancer) -> Picker | Waiting | Failing:
        with self._lock:
            balancer.wake()
            return balancer.picker

    def adopt(self, resolution: Snapshot | Unresolvable) -> None:
        """Publishes a new configuration. Balancers of clusters that stay are kept, with their connections."""
        with self._lock:
            before: Routes | None = None
            if self.hold.kind is HoldKind.CLOSED:
                return  # it was on its way when the last channel closed
            if isinstance(resolution, Unresolvable):
                self._retire(self._balancers)
                self.hold = Hold(HoldKind.UNRESOLVED, resolution.problem)
                self.routes = None
            else:
                before = self.routes
                self.routes = Routes(resolution, self._balance(resolution), before, self.shared)
            self.notify()
        if isinstance(resolution, Snapshot):
            self._prepare(resolution, before)

    def _prepare(self, snapshot: Snapshot, before: Routes | None) -> None:
        """Connects to the rate limit services that calls will ask. With no lock held: they may be of the mesh, too."""
        known = before is not None and before.snapshot.virtual_host is snapshot.virtual_host
        if self.rate_limits is not None and not known:
            self.rate_limits.prepare(asked_services(snapshot.listener, snapshot.virtual_host))

    def _balance(self, snapshot: Snapshot) -> dict[str, ClusterBalancer]:
        balancers: dict[str, ClusterBalancer] = {}
        for name, entry in snapshot.clusters.items():
            if isinstance(entry, BrokenCluster):
                continue
            known = self._balancers.pop(name, None)
            if known is None:
                eager = len(balancers) < _EAGER_CLUSTERS
                known = ClusterBalancer(entry, self._authority, self._around, self._urged, eager=eager)
            else:
                known.update(entry)
            balancers[name] = known
        self._retire(self._balancers)
        self._balancers = balancers
        return dict(balancers)

    @staticmethod
    def _retire(balancers: dict[str, ClusterBalancer], *, cut: bool = False) -> None:
        for balancer in balancers.values():
            balancer.close(cut=cut)
        balancers.clear()

    def refresh(self) -> bool:
        """Follows the connections; returns whether all of them are up. Wakes waiting calls if a picker changed."""
        with self._lock:
            moved, settled = False, True
            for balancer in self._balancers.values():
                moved |= balancer.refresh()
                settled &= balancer.settled
            if moved:
                self.notify()
            return settled

    def _urged(self) -> None:
        """A call found what pickers should follow at once. Waits for no lock: the monitor comes after who holds it."""
        if not self._lock.acquire(blocking=False):
            self._around.hurry()
            return
        try:
            self.refresh()
        finally:
            self._lock.release()

    def noticed(self, connection: Connection, trailing: Sequence[Any]) -> None:
        """Reads an answer's trailing metadata: new calls leave a peer that says it is draining."""
        if not connection.draining and any(key == DRAINING for key, _ in trailing):
            connection.draining = True
            self.refresh()

    def unplaced(self) -> Tally:
        """Returns where a call counts that ended before it had an endpoint."""
        with self._lock:
            if self._unplaced is None:
                self._unplaced = self._around.loads.of_target(self.name, self._authority)
            return self._unplaced

    def connectivity(self) -> Connectivity:
        """Tells the state of the target as a channel's: READY if a call could go out at once."""
        routes = self.routes
        if routes is None:
            return Connectivity.CONNECTING if self.hold.kind is HoldKind.UNCONFIGURED else Connectivity.FAILED
        pickers = [balancer.picker for balancer in routes.balancers]
        if any(isinstance(picker, Picker) for picker in pickers):
            return Connectivity.READY
        if any(not isinstance(picker, Failing) for picker in pickers):
            return Connectivity.CONNECTING
        return Connectivity.FAILED

    def close(self) -> None:
        """Cuts every connection; calls that wait are woken and find `hold`."""
        with self._lock:
            self._retire(self._balancers, cut=True)
            if self._unplaced is not None:
                self._around.loads.release(self._unplaced)
                self._unplaced = None
            self.hold = Hold(HoldKind.CLOSED, "Channel closed!")
            self.routes = None
            self.notify()
