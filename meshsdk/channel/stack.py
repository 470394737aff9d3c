"""The request path of a call, in order. This is the page to read.

1. `Target.routes`: one read of what is in force for the target (None: no configuration yet).
2. `Routes.choose`: the method's compiled plan gives the route, the route its cluster.
3. `ClusterBalancer.picker.pick`: the cluster's picker gives a connected backend.
4. The façade (`sync`, `aio`) makes the attempt on the backend's connection, within the shorter of the caller's timeout
   and the route's (gRFC A31).
5. If the attempt failed, `interceptors.policies.recover` says what follows: another endpoint, a retry, or the error.

A call that cannot pass a step gets a `Hold`: it waits for the target's next change, or fails with the hold's words.
"""

from __future__ import annotations

import enum
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from meshsdk.channel.balancer import ClusterBalancer, Surroundings
from meshsdk.channel.pool import Connection, PooledBackend
from meshsdk.lb.backend import Connectivity
from meshsdk.lb.picker import Failing, Picker
from meshsdk.model.resources import Forward
from meshsdk.model.snapshot import BrokenCluster, Snapshot, Unresolvable
from meshsdk.routing.compiled_route import CompiledRoute
from meshsdk.routing.router import RouteTable

Metadata = Sequence[tuple[str, str | bytes]]


class HoldKind(enum.Enum):
    """Why a call cannot go on now, and so what it may do about it."""

    UNCONFIGURED = enum.auto()  # no configuration yet: every call waits
    CONNECTING = enum.auto()  # endpoints are being connected to: every call waits
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
        if self.kind is HoldKind.FAILING:
            return bool(wait_for_ready)
        return self.kind in (HoldKind.UNCONFIGURED, HoldKind.CONNECTING)


UNCONFIGURED = Hold(HoldKind.UNCONFIGURED, "")

DRAINING = "meshsdk-draining"  # trailing metadata of a server that is about to go

_STALE_PICKS = 8  # picks that may find their connection gone before the call waits for the monitor instead


class Routes:
    """What calls of one target read: routes and balancers of one snapshot. Read-only after init."""

    __slots__ = ("balancers", "broken", "table")

    def __init__(self, snapshot: Snapshot, balancers: Mapping[str, ClusterBalancer]) -> None:
        """`balancers` has every cluster of the snapshot that is not broken."""
        self.table = RouteTable(snapshot.virtual_host)
        self.balancers = balancers
        self.broken = {
            name: entry.problem for name, entry in snapshot.clusters.items() if isinstance(entry, BrokenCluster)
        }

    def choose(self, method: str, metadata: Metadata | None, request: object) -> CompiledRoute | Hold:
        """Step 2: the route of a call. A28: a call that no route matches fails UNAVAILABLE."""
        plan = self.table.plan(method)
        route = plan.unconditional
        if route is None:
            route = plan.select(metadata, request, random.random)
            if route is None:
                return Hold(HoldKind.REFUSED, f"no route matches {method}")
        if route.forward is None:
            return Hold(HoldKind.REFUSED, route.problem)
        return route

    def pick(
        self, balancer: ClusterBalancer, route: CompiledRoute, metadata: Metadata | None, channel_id: int
    ) -> PooledBackend | Hold:
        """Step 3: a connected backend of the cluster."""
        picker = balancer.picker
        if not isinstance(picker, Picker):
            return Hold(HoldKind.FAILING if isinstance(picker, Failing) else HoldKind.CONNECTING, picker.reason)
        if picker.has_drops and (category := picker.dropped(random.random)) is not None:
            return Hold(HoldKind.REFUSED, f"dropped by the policy of the cluster's endpoints: {category}")
        key = route.hash(metadata, channel_id) if balancer.hashes else None
        return cast("PooledBackend", picker.pick(key))


class Target:
    """One target of a scope.

    Thread rules: `routes` and `hold` are published by one assignment each, by whoever holds the scope's lock, and read
    by any thread; `_balancers` is guarded by the scope's lock.
    """

    __slots__ = ("_around", "_authority", "_balancers", "_lock", "hold", "name", "notify", "routes")

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
        self.hold = UNCONFIGURED
        self.routes: Routes | None = None

    def take(
        self, method: str, metadata: Metadata | None, request: object, channel_id: int
    ) -> tuple[Forward, PooledBackend] | Hold:
        """Steps 1 to 3: what the route says and a backend that is connected at this moment, or why there is none."""
        routes = self.routes
        if routes is None:
            return self.hold
        route = routes.choose(method, metadata, request)
        if isinstance(route, Hold):
            return route
        forward = cast("Forward", route.forward)  # choose gives no route without
        cluster = route.single or route.cluster(random.random)
        balancer = routes.balancers.get(cluster)
        if balancer is None:
            return Hold(HoldKind.FAILING, routes.broken.get(cluster, f"cluster {cluster} is not configured"))
        for _ in range(_STALE_PICKS):
            backend = routes.pick(balancer, route, metadata, channel_id)
            if isinstance(backend, Hold):
                return backend
            if backend.connection.ready():
                return forward, backend
            self.refresh()
        return Hold(HoldKind.CONNECTING, f"connections of cluster {cluster} come and go")

    def adopt(self, resolution: Snapshot | Unresolvable) -> None:
        """Publishes a new configuration. Balancers of clusters that stay are kept, with their connections."""
        with self._lock:
            if isinstance(resolution, Unresolvable):
                self._retire(self._balancers)
                self.hold = Hold(HoldKind.FAILING, resolution.problem)
                self.routes = None
            else:
                self.routes = Routes(resolution, self._balance(resolution))
            self.notify()

    def _balance(self, snapshot: Snapshot) -> dict[str, ClusterBalancer]:
        balancers: dict[str, ClusterBalancer] = {}
        for name, entry in snapshot.clusters.items():
            if isinstance(entry, BrokenCluster):
                continue
            known = self._balancers.pop(name, None)
            if known is None:
                known = ClusterBalancer(entry, self._authority, self._around)
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

    def connectivity(self) -> Connectivity:
        """Tells the state of the target as a channel's: READY if a call could go out at once."""
        routes = self.routes
        if routes is None:
            return Connectivity.CONNECTING if self.hold.kind is HoldKind.UNCONFIGURED else Connectivity.FAILED
        pickers = [balancer.picker for balancer in routes.balancers.values()]
        if any(isinstance(picker, Picker) for picker in pickers):
            return Connectivity.READY
        if any(not isinstance(picker, Failing) for picker in pickers):
            return Connectivity.CONNECTING
        return Connectivity.FAILED

    def close(self) -> None:
        """Cuts every connection; calls that wait are woken and find `hold`."""
        with self._lock:
            self._retire(self._balancers, cut=True)
            self.hold = Hold(HoldKind.CLOSED, "Channel closed!")
            self.routes = None
            self.notify()
