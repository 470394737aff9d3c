"""The plan of calls that take one way (a route and one of its clusters): everything beyond sending and retrying them.

Compiled by `stack.Routes` when a configuration arrives, read by `passage` for each call. A way that uses nothing of it
has no plan, and its calls take the fast path. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from meshsdk.channel.breakers import Breaker, limits_nothing
from meshsdk.channel.shared import GateKey, KeptGate, Shared
from meshsdk.interceptors.policies.gate import Gate
from meshsdk.model.filters import HeaderEdit, StatefulSession
from meshsdk.model.policy import Hedging, Mirror, RetryPolicy
from meshsdk.model.resources import Forward, Route, VirtualHost
from meshsdk.model.snapshot import BrokenCluster, ResolvedCluster, Snapshot
from meshsdk.routing.compiled_route import CompiledRoute
from meshsdk.routing.in_force import Destination


@dataclass(frozen=True, slots=True)
class CallPlan:
    """What a call passes, and what is done to it. `breakers`: by leaf cluster, those that have limits.

    `kept`: keeps the gates' state for the next configuration.
    """

    gates: tuple[Gate, ...] = ()
    breakers: Mapping[str, Breaker] = field(default_factory=dict)
    hedging: Hedging | None = None
    mirrors: tuple[Mirror, ...] = ()
    request_edits: tuple[HeaderEdit, ...] = ()
    response_edits: tuple[HeaderEdit, ...] = ()
    session: StatefulSession | None = None
    kept: tuple[KeptGate, ...] = ()


def compile_plans(snapshot: Snapshot, routes: Iterable[CompiledRoute], shared: Shared) -> dict[int, CallPlan]:
    """Returns the plans of all ways that have one, by the `id` of the route's `Destination`."""
    site = _Site(snapshot.target, snapshot.virtual_host, shared)
    plans: dict[int, CallPlan] = {}
    for route in routes:
        for way in route.destinations if route.forward is not None else ():
            cluster = snapshot.clusters.get(way.cluster)
            if isinstance(cluster, ResolvedCluster) and route.forward is not None:
                plan = site.plan(route.route, route.forward, way, cluster)
                if plan is not None:
                    plans[id(way)] = plan
    return plans


def limited_alike(before: Snapshot, after: Snapshot) -> bool:
    """Tells whether the clusters of two snapshots have the same limits, so that plans of the same routes still hold."""
    return before.clusters.keys() == after.clusters.keys() and all(
        entry is before.clusters[name] or _limits(entry) == _limits(before.clusters[name])
        for name, entry in after.clusters.items()
    )


def _limits(entry: ResolvedCluster | BrokenCluster) -> object:
    if isinstance(entry, BrokenCluster):
        return None
    return [(leaf.cluster.name, leaf.cluster.breakers, leaf.cluster.high_breakers) for leaf in entry.leaves]


@dataclass(frozen=True, slots=True)
class _Site:
    """Where plans are compiled for: a target and its virtual host, and what is shared."""

    target: str
    host: VirtualHost
    shared: Shared

    def plan(self, route: Route, forward: Forward, way: Destination, cluster: ResolvedCluster) -> CallPlan | None:
        """Returns the plan of the calls that `route` sends to `cluster`, None if there is nothing to plan."""
        kept = tuple(
            self.shared.gate(GateKey(self.target, one.name, self._origin(one.name, route, forward, way), one.config))
            for one in way.filters
            if one.config is not None and not isinstance(one.config, StatefulSession)
        )
        session = next((one.config for one in way.filters if isinstance(one.config, StatefulSession)), None)
        plan = CallPlan(
            gates=tuple(one.gate for one in kept if one.gate is not None),
            breakers=_breakers(cluster, forward.high_priority, self.shared),
            hedging=forward.hedging,
            mirrors=forward.mirrors,
            request_edits=way.request_edits,
            response_edits=way.response_edits,
            session=session if session is not None and session.enabled else None,
            kept=kept,
        )
        return None if plan == CallPlan(kept=kept) and not needs_care(forward.retry) else plan

    def _origin(self, name: str, route: Route, forward: Forward, way: Destination) -> object:
        """Says where a filter's configuration stands: what each place limits, it limits by itself, as in Envoy."""
        where = (route.name, route.match)
        if any(one.name == way.cluster and name in one.filters for one in forward.clusters):
            return (*where, way.cluster)
        if name in route.filters:
            return where
        return self.host.name if name in self.host.filters else ""


def needs_care(retry: RetryPolicy | None) -> bool:
    """Tells whether a retry policy concerns attempts that would succeed; what comes after a failure needs no plan."""
    return retry is not None and (retry.per_try_timeout is not None or bool(retry.retriable_headers))


def _breakers(cluster: ResolvedCluster, high: bool, shared: Shared) -> dict[str, Breaker]:
    found = {}
    for leaf in cluster.leaves:
        limits = leaf.cluster.high_breakers if high else leaf.cluster.breakers
        if limits is not None and not limits_nothing(limits):
            found[leaf.cluster.name] = shared.breakers.of(leaf.cluster.name, limits, high=high)
    return found
