"""Why each endpoint of a cluster is in or out, at this moment: what `meshsdk explain` shows of a balancer.

Reads what the balancer's own picker was built from; called by people's questions, never on a call's way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from meshsdk.channel.balancer import ClusterBalancer
from meshsdk.channel.pool import PooledBackend
from meshsdk.lb.backend import Connectivity
from meshsdk.lb.selection import Selection
from meshsdk.lb.survey import GroupView, survey
from meshsdk.model.endpoints import Endpoint, Health
from meshsdk.model.resources import LocalityEndpoints
from meshsdk.model.snapshot import Leaf

_MOST = 10_000  # endpoints that are listed


@dataclass(frozen=True, slots=True)
class EndpointState:
    """One endpoint. `takes`: calls may go there now; `why`: in words. `load`: its priority's share of the calls (0-1).

    `in_flight`: calls that this process has running there.
    """

    address: str
    cluster: str
    priority: int
    locality: str
    health: str
    weight: int
    takes: bool
    why: str
    load: float
    in_flight: int


def endpoint_states(balancer: ClusterBalancer, now: float) -> list[EndpointState]:
    """Returns the endpoints of a cluster, at most 10,000. `now`: monotonic. Called with the scope's lock held."""
    found: list[EndpointState] = []
    for state in _states(balancer, now):
        found.append(state)
        if len(found) >= _MOST:
            break
    return found


def _states(balancer: ClusterBalancer, now: float) -> Iterator[EndpointState]:
    selection = balancer.selection
    backends = {one.endpoint.address: one for one in balancer.backends}
    groups: dict[tuple[str, int], GroupView] = {}
    if selection is not None:
        seen = survey(selection, backends)
        groups = {(view.group.cluster, view.group.priority): view for view in seen.groups}
    ejections = balancer.outliers.ejections
    for leaf in balancer.cluster.leaves:
        for part, endpoint in _members(leaf):
            view = groups.get((leaf.cluster.name, part.priority))
            backend = backends.get(endpoint.address)
            ejected = ejections.get(endpoint.address)
            if backend is not None and backend.ejected and ejected is not None:
                left = max(0.0, ejected.until - now)
                why = f"ejected: {ejected.cause.value}, {ejected.why}; back in {left:.1f} s"
            else:
                why = _why_not(endpoint, backend, selection, view)
            yield EndpointState(
                endpoint.address,
                leaf.cluster.name,
                part.priority,
                "/".join(filter(None, (part.locality.region, part.locality.zone, part.locality.sub_zone))),
                endpoint.health.name,
                endpoint.weight,
                not why,
                why or "connected",
                0.0 if view is None else view.load,
                0 if backend is None else backend.in_flight,
            )


def _members(leaf: Leaf) -> Iterator[tuple[LocalityEndpoints, Endpoint]]:
    if leaf.endpoints is not None:
        for part in leaf.endpoints.localities:
            for endpoint in part.endpoints:
                yield part, endpoint


def _why_not(
    endpoint: Endpoint, backend: PooledBackend | None, selection: Selection | None, view: GroupView | None
) -> str:
    """Says why an endpoint takes no calls; "" for one that does."""
    if selection is None or view is None:
        return "not connected to before the first call to the cluster"
    if endpoint.address not in selection.endpoints:
        if endpoint.health is Health.DRAINING:
            return "draining"
        return f"outside of this client's subset of {selection.lb.subset_size} (gRFC A68)"
    in_force = any(endpoint.address == one.address for part in view.localities for one in part.candidates)
    if not in_force:
        return f"{endpoint.health.name.lower()}: not in use while there are better ones"
    if backend is None:
        return f"not connected to: priority {view.group.priority} stands by"
    if backend.connection.draining:
        return "its server says that it drains"
    if backend.state is not Connectivity.READY:
        return str(backend.state.value)
    return "" if view.load > 0 else f"connected; priority {view.group.priority} stands by"
