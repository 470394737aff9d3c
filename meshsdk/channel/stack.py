"""The request path of a call, in order. This is the page to read.

1. `Target.routes`: one read of what is in force for the target (None: no configuration yet).
2. `Routes.lanes`, or `Routes.choose`: the method's compiled plan gives the route, the route its cluster.
3. `ClusterBalancer.pick`: the cluster's picker gives a connected backend.
4. The façade (`sync`, `aio`) makes the attempt on the backend's connection, within the shorter of the caller's timeout
   and the route's (gRFC A31).
5. If the attempt failed, `interceptors.policies.recover` says what follows: another endpoint, a retry, or the error.

A call that cannot pass a step gets a `Hold`: it waits for the target's next change, or fails with the hold's words.
"""

from __future__ import annotations

import enum
import logging
import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from meshsdk.channel.balancer import ClusterBalancer, Surroundings
from meshsdk.channel.pool import Connection, PooledBackend
from meshsdk.lb.backend import Connectivity
from meshsdk.lb.picker import Failing, Picker, Waiting
from meshsdk.model.resources import Forward
from meshsdk.model.snapshot import BrokenCluster, Snapshot, Unresolvable
from meshsdk.routing.compiled_route import CompiledRoute
from meshsdk.routing.router import RouteTable
from meshsdk.xds_client.load_counts import Tally

Metadata = Sequence[tuple[str, str | bytes]]


class HoldKind(enum.Enum):
    """Why a call cannot go on now, and so what it may do about it."""

    UNCONFIGURED = enum.auto()  # no configuration yet: every call waits
    CONNECTING = enum.auto()  # endpoints are being connected to: every call waits
    UNRESOLVED = enum.auto()  # no configuration to be had: only calls that wait for ready wait
    FAILING = enum.auto()  # nothing usable: only calls that wait for ready wait
    REFUSED = enum.auto()  # the configuration itself says no: no call waits
    CLOSED = enum.auto()  # the channel was closed: no call waits


@dataclass(frozen=True, slots=True)
class Hold:
    """A call that has no backend: why, in words for the status details."""

    kind: HoldKind
    problem: str

    def waits(self, wait_for_ready: bool | None) -> bool:
        """Tells whether a call stays for the next change."""
        if self.kind in (HoldKind.FAILING, HoldKind.UNRESOLVED):
            return bool(wait_for_ready)
        return self.kind in (HoldKind.UNCONFIGURED, HoldKind.CONNECTING)


UNCONFIGURED = Hold(HoldKind.UNCONFIGURED, "")

DRAINING = "meshsdk-draining"  # trailing metadata of a server that is about to go

_LOG = logging.getLogger(__name__)
_MAX_LANES = 10_000  # methods remembered: a program that makes up method names must not fill the memory
_EAGER_CLUSTERS = 64  # of one target connect ahead of need; of a larger target the others connect at their first call
_STALE_PICKS = 8  # picks that may find their connection gone before the call waits for the monitor instead


@dataclass(frozen=True, slots=True)
class Lane:
    """Where a call goes once its route and cluster are known."""

    route: CompiledRoute
    forward: Forward
    balancer: ClusterBalancer


class Routes:
    """What calls of one target read: routes and balancers of one snapshot. Read-only after init, save two caches.

    Thread rules: any thread adds to `lanes` (methods whose calls all take one lane) and `_told`; two that race add
    equal entries, to no harm.
    """

    __slots__ = ("_balancers", "_broken", "_told", "lanes", "table", "virtual_host")
    table: RouteTable

    def __init__(self, snapshot: Snapshot, balancers: Mapping[str, ClusterBalancer], before: Routes | None) -> None:
        """`balancers` has every cluster of the snapshot that is not broken. `before`: what this replaces.

        Routes are compiled anew only where the virtual host changed: most changes are of endpoints.
        """
        self.lanes: dict[str, Lane] = {}
        self.virtual_host = host = snapshot.virtual_host
        same = before is not None and before.virtual_host is host
        self.table = before.table if before is not None and same else RouteTable(host)
        self._balancers = balancers
        self._broken = {
            name: entry.problem for name, entry in snapshot.clusters.items() if isinstance(entry, BrokenCluster)
        }
        self._told: set[str] = set()

    @property
    def balancers(self) -> Iterable[ClusterBalancer]:
        """The balancers of all clusters that can be used."""
        return self._balancers.values()

    def choose(self, method: str, metadata: Metadata | None, request: object) -> Lane | Hold:
        """Step 2: the route of a call and its cluster. A28: a call that no route matches fails UNAVAILABLE."""
        plan = self.table.plan(method)
        route = plan.unconditional or plan.select(metadata, request, random.random)
        if plan.problems:
            self._tell(plan.problems)
        if route is None:
            return Hold(HoldKind.REFUSED, f"no route matches {method}")
        if route.forward is None:
            return Hold(HoldKind.REFUSED, route.problem)
        cluster = route.single or route.cluster(random.random)
        balancer = self._balancers.get(cluster)
        if balancer is None:
            return Hold(HoldKind.FAILING, self._broken.get(cluster, f"cluster {cluster} is not configured"))
        lane = Lane(route, route.forward, balancer)
        if plan.unconditional is route and route.single is not None and len(self.lanes) < _MAX_LANES:
            self.lanes[method] = lane
        return lane

    def _tell(self, problems: Iterable[str]) -> None:
        for problem in problems:
            if problem not in self._told:
                self._told.add(problem)
                _LOG.warning("%s", problem)


class Target:
    """One target of a scope.

    Thread rules: `routes` and `hold` are published by one assignment each, by whoever holds the scope's lock, and read
    by any thread; `_balancers` and `_unplaced` are guarded by the scope's lock.
    """

    __slots__ = ("_around", "_authority", "_balancers", "_lock", "_unplaced", "hold", "name", "notify", "routes")

    def __init__(
        self, name: str, authority: str, around: Surroundings, lock: threading.RLock, notify: Callable[[], None]
    ) -> None:
        """`notify` wakes the calls that wait on this target; called with the lock held, so it must not block."""
        self.name = name
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
    ) -> tuple[Forward, PooledBackend] | Hold:
        """Steps 1 to 3: what the route says and a backend that is connected at this moment, or why there is none."""
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
                return lane.forward, backend
        return self._take_slowly(lane, metadata, channel_id)

    def _take_slowly(
        self, lane: Lane, metadata: Metadata | None, channel_id: int
    ) -> tuple[Forward, PooledBackend] | Hold:
        """Step 3 where the picker asks for more than a pick, or its connection has just gone."""
        for _ in range(_STALE_PICKS):
            picker = lane.balancer.picker
            if isinstance(picker, Waiting):
                picker = self._wake(lane.balancer)
            if not isinstance(picker, Picker):
                return Hold(HoldKind.FAILING if isinstance(picker, Failing) else HoldKind.CONNECTING, picker.reason)
            if picker.has_drops and (category := picker.dropped(random.random)) is not None:
                return Hold(HoldKind.REFUSED, f"dropped by the policy of the cluster's endpoints: {category}")
            key = lane.route.hash(metadata, channel_id) if lane.balancer.hashes else None
            backend = cast("PooledBackend", picker.pick(key))
            if backend.connection.ready():
                return lane.forward, backend
            self.refresh()
        return Hold(HoldKind.CONNECTING, "connections come and go")

    def _wake(self, balancer: ClusterBalancer) -> Picker | Waiting | Failing:
        with self._lock:
            balancer.wake()
            return balancer.picker

    def adopt(self, resolution: Snapshot | Unresolvable) -> None:
        """Publishes a new configuration. Balancers of clusters that stay are kept, with their connections."""
        with self._lock:
            if self.hold.kind is HoldKind.CLOSED:
                return  # it was on its way when the last channel closed
            if isinstance(resolution, Unresolvable):
                self._retire(self._balancers)
                self.hold = Hold(HoldKind.UNRESOLVED, resolution.problem)
                self.routes = None
            else:
                self.routes = Routes(resolution, self._balance(resolution), self.routes)
            self.notify()

    def _balance(self, snapshot: Snapshot) -> dict[str, ClusterBalancer]:
        balancers: dict[str, ClusterBalancer] = {}
        for name, entry in snapshot.clusters.items():
            if isinstance(entry, BrokenCluster):
                continue
            known = self._balancers.pop(name, None)
            if known is None:
                eager = len(balancers) < _EAGER_CLUSTERS
                known = ClusterBalancer(entry, self._authority, self._around, eager=eager)
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
