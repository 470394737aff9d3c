"""Routes, plans and balancers of one configuration of a target: step 2 of the request path (`stack`).

Made by `stack.Target` for each configuration it adopts; asked for the lane of each call. Never picks an endpoint.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping
from dataclasses import replace

from meshsdk.channel.balancer import ClusterBalancer
from meshsdk.channel.defaults import defaulted
from meshsdk.channel.lane import Hold, HoldKind, Lane, Metadata
from meshsdk.channel.plan import CallPlan, compile_plans, limited_alike, needs_care
from meshsdk.channel.shared import Shared
from meshsdk.model.resources import Forward
from meshsdk.model.snapshot import BrokenCluster, ResolvedCluster, Snapshot
from meshsdk.routing.compiled_route import CompiledRoute
from meshsdk.routing.in_force import Destination
from meshsdk.routing.router import RouteTable

_LOG = logging.getLogger(__name__)
_MAX_LANES = 10_000  # methods remembered: a program that makes up method names must not fill the memory


class Routes:
    """What calls of one target read: routes, plans and balancers of one snapshot. Read-only after init, save caches.

    Thread rules: any thread adds to `lanes` (methods whose calls all take one lane; a `Hold` stands for one that is
    planned), `_ready` (the same for calls whose route depends on more than the method) and `_told`; two that race add
    equal entries, to no harm.
    """

    __slots__ = ("_balancers", "_broken", "_methods", "_plans", "_ready", "_told", "lanes", "snapshot", "table")
    table: RouteTable

    def __init__(
        self, snapshot: Snapshot, balancers: Mapping[str, ClusterBalancer], before: Routes | None, shared: Shared
    ) -> None:
        """`balancers` has every cluster of the snapshot that is not broken. `before`: what this replaces.

        Routes and plans are compiled anew only where what they come from changed: most changes are of endpoints.
        """
        self.lanes: dict[str, Lane | Hold] = {}
        self.snapshot = snapshot
        host, filters = snapshot.virtual_host, snapshot.listener.http_filters
        same = before is not None and before.snapshot.virtual_host is host
        same = same and before is not None and before.snapshot.listener.http_filters == filters
        self.table = before.table if before is not None and same else RouteTable(host, filters)
        self._balancers = balancers
        self._plans: dict[int, CallPlan]
        if before is not None and same and limited_alike(before.snapshot, snapshot):
            self._plans = before._plans  # noqa: SLF001 - of this class
        else:
            self._plans = compile_plans(snapshot, self.table.routes, shared)
        self._broken = {
            name: entry.problem for name, entry in snapshot.clusters.items() if isinstance(entry, BrokenCluster)
        }
        self._methods = {
            name: said
            for name, entry in snapshot.clusters.items()
            if isinstance(entry, ResolvedCluster) and (said := entry.methods)
        }
        self._ready: dict[tuple[int, str], Lane | Hold] = {}  # by the `id` of the route's destination, and method
        self._told: set[str] = set()

    @property
    def balancers(self) -> Iterable[ClusterBalancer]:
        """The balancers of all clusters that can be used."""
        return self._balancers.values()

    @property
    def clusters(self) -> Mapping[str, ClusterBalancer]:
        """The same, by the cluster's name."""
        return self._balancers

    def balancer(self, cluster: str) -> ClusterBalancer | None:
        """Returns the balancer of a cluster that can be used."""
        return self._balancers.get(cluster)

    def choose(self, method: str, metadata: Metadata | None, request: object) -> Lane | Hold:
        """Step 2: the route of a call and its cluster. A28: a call that no route matches fails UNAVAILABLE.

        A lane that has a plan comes in a `Hold`.
        """
        plan = self.table.plan(method)
        route = plan.unconditional or plan.select(metadata, request, random.random)
        if plan.problems:
            self._tell(plan.problems)
        if route is None:
            return Hold(HoldKind.REFUSED, f"no route matches {method}")
        if route.forward is None:
            return Hold(HoldKind.REFUSED, route.problem)
        way = route.destination(random.random)
        ready = self._ready.get((id(way), method))
        if ready is not None:
            return ready
        balancer = self._balancers.get(way.cluster)
        if balancer is None:
            problem = self._broken.get(way.cluster, f"cluster {way.cluster} is not configured")
            return Hold(HoldKind.FAILING, problem)
        lane = self._lane(route, route.forward, way, method, balancer)
        found: Lane | Hold = lane if lane.plan is None else Hold(HoldKind.PLANNED, "", lane)
        if len(self._ready) < _MAX_LANES:
            self._ready[id(way), method] = found
        if plan.unconditional is route and route.single is not None and len(self.lanes) < _MAX_LANES:
            self.lanes[method] = found
        return found

    def _lane(
        self, route: CompiledRoute, forward: Forward, way: Destination, method: str, balancer: ClusterBalancer
    ) -> Lane:
        """Puts the server's own word on the method below the route's, where it has given one."""
        plan = self._plans.get(id(way))
        methods = self._methods.get(way.cluster)
        if methods is not None and (said := methods.get(method)) is not None:
            forward = defaulted(forward, said)
            plan = plan or (CallPlan() if needs_care(forward.retry) else None)
        return Lane(route, forward, balancer, way.cluster, plan)

    def lane_to(self, lane: Lane, cluster: str) -> Lane | None:
        """Returns the lane of the same route to another of its clusters (A60); None if it is none that can be used."""
        balancer = self._balancers.get(cluster)
        for way in lane.route.destinations if balancer is not None else ():
            if way.cluster == cluster and balancer is not None:
                return replace(lane, balancer=balancer, cluster=cluster, plan=self._plans.get(id(way)))
        return None

    def _tell(self, problems: Iterable[str]) -> None:
        for problem in problems:
            if problem not in self._told:
                self._told.add(problem)
                _LOG.warning("%s", problem)
