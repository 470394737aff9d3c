"""What of a selection is usable now: health and connectivity, counted per priority, and the load each one gets.

Called by `picker.build` and `connect_plan`, which must see the same picture. Three kinds of endpoints may be in force:
the healthy ones; where no healthy one is left anywhere, the degraded ones (gRPC never uses those, A27; Envoy mixes them
in); in a priority that panics, all but the draining ones. An endpoint whose connection failed is not usable, which is
what makes the next priority take over (gRFC A56). IDLE and CONNECTING ones count as usable: one attempt is due to them.
An ejected endpoint counts as unhealthy (Envoy): it is not in force unless its priority panics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meshsdk.lb.backend import Backend, Connectivity
from meshsdk.lb.priority import Headcount, Shares, shares
from meshsdk.lb.selection import Group, Members, Selection
from meshsdk.model.endpoints import Endpoint, Health
from meshsdk.model.policy import PickFirst

_READY, _FAILED = Connectivity.READY, Connectivity.FAILED
_HEALTHY = frozenset({Health.HEALTHY})
_DEGRADED = frozenset({Health.DEGRADED})
_ALL = frozenset({Health.HEALTHY, Health.DEGRADED, Health.UNHEALTHY})


@dataclass(frozen=True, slots=True)
class LocalityView:
    """The endpoints in force of one locality, and the connected ones among them.

    `ejected`: outliers that would be in force. `usable`: how many endpoints of the whole locality are usable, judged by
    those chosen from it.
    """

    members: Members
    candidates: tuple[Endpoint, ...]
    ready: tuple[tuple[Endpoint, Backend], ...]
    failed: int
    usable: float
    ejected: frozenset[str] = frozenset()

    @property
    def pending(self) -> int:
        """How many are neither connected nor failed."""
        return len(self.candidates) - len(self.ready) - self.failed

    @property
    def membership(self) -> tuple[Endpoint, ...]:
        """The endpoints in force and the ejected ones: what hash rings are made of."""
        if not self.ejected:
            return self.candidates
        known = self.ejected.union(endpoint.address for endpoint in self.candidates)
        return tuple(endpoint for endpoint in self.members.endpoints if endpoint.address in known)


@dataclass(frozen=True, slots=True)
class GroupView:
    """One priority as it is now. `load`: its share of the calls (0-1), before asking whether anything is connected."""

    group: Group
    localities: tuple[LocalityView, ...]
    load: float
    panic: bool

    @property
    def ready(self) -> tuple[Backend, ...]:
        """The connected backends in force."""
        return tuple(backend for view in self.localities for _, backend in view.ready)


@dataclass(frozen=True, slots=True)
class Survey:
    """All priorities in order. `reach`: so many of them, from the first, are needed to carry the load.

    `stands_in`: the degraded endpoints are in force for the healthy ones. `spare`: priorities with the degraded
    endpoints that stand by while healthy ones are in force.
    """

    groups: tuple[GroupView, ...]
    reach: int
    stands_in: bool
    spare: tuple[GroupView, ...]


def survey(selection: Selection, backends: Mapping[str, Backend]) -> Survey:
    """Counts. Endpoints without a backend count as IDLE."""
    groups = selection.groups
    whole = isinstance(selection.lb.policy, PickFirst)  # it needs one endpoint of a priority, not its numbers
    healthy = [_views(group, _HEALTHY, backends) for group in groups]
    degraded = [_views(group, _DEGRADED, backends) for group in groups]
    stands_in = not any(_usable(views) for views in healthy) and any(_usable(views) for views in degraded)
    in_force = degraded if stands_in else healthy
    counts = [
        _headcount(group, *pair, whole=whole) for group, *pair in zip(groups, in_force, healthy, degraded, strict=True)
    ]
    split = shares(counts, selection.lb.panic_threshold)
    return Survey(
        groups=tuple(
            GroupView(group, _views(group, _ALL, backends) if panic else views, load, panic)
            for group, views, load, panic in zip(groups, in_force, split.loads, split.panic, strict=True)
        ),
        reach=split.reach,
        stands_in=stands_in,
        spare=() if stands_in else _idle(groups, degraded, split),
    )


def _views(group: Group, kinds: frozenset[Health], backends: Mapping[str, Backend]) -> tuple[LocalityView, ...]:
    return tuple(_view(members, kinds, backends) for members in group.localities)


def _view(members: Members, kinds: frozenset[Health], backends: Mapping[str, Backend]) -> LocalityView:
    candidates = [endpoint for endpoint in members.endpoints if endpoint.health in kinds]
    known = len(candidates)
    ejected = frozenset[str]()
    if kinds is not _ALL:
        ejected = frozenset([one.address for one in candidates if _is_out(one, backends)])
        if ejected:
            candidates = [endpoint for endpoint in candidates if endpoint.address not in ejected]
    ready: list[tuple[Endpoint, Backend]] = []
    failed = 0
    for endpoint in candidates:
        backend = backends.get(endpoint.address)
        if backend is None:
            continue
        if backend.state is _READY:
            ready.append((endpoint, backend))
        elif backend.state is _FAILED:
            failed += 1
    usable = _whole(members, kinds) * (len(candidates) - failed) / known if known else 0.0
    return LocalityView(members, tuple(candidates), tuple(ready), failed, usable, ejected)


def _is_out(endpoint: Endpoint, backends: Mapping[str, Backend]) -> bool:
    backend = backends.get(endpoint.address)
    return backend is not None and backend.ejected


def _whole(members: Members, kinds: frozenset[Health]) -> int:
    """How many endpoints of these kinds the locality has, chosen or not."""
    tally = members.tally
    counted = {Health.HEALTHY: tally.healthy, Health.DEGRADED: tally.degraded, Health.UNHEALTHY: tally.unhealthy}
    return sum(counted[kind] for kind in kinds)


def _usable(views: Sequence[LocalityView]) -> float:
    return sum(view.usable for view in views)


def _headcount(
    group: Group,
    in_force: Sequence[LocalityView],
    healthy: Sequence[LocalityView],
    degraded: Sequence[LocalityView],
    *,
    whole: bool,
) -> Headcount:
    total = sum(members.tally.staying for members in group.localities)
    usable, available = _usable(in_force), _usable(healthy) + _usable(degraded)
    if whole:
        usable, available = (total if usable else 0), (total if available else 0)
    return Headcount(total, usable, available, group.overprovisioning)


def _idle(
    groups: Sequence[Group], degraded: Sequence[tuple[LocalityView, ...]], split: Shares
) -> tuple[GroupView, ...]:
    return tuple(
        GroupView(group, views, 0.0, panic=False)
        for group, views, panic in zip(groups, degraded, split.panic, strict=True)
        if not panic
    )
