"""The picker of one cluster: takes a selection and the state of its connections, gives a backend for each call.

`build` runs on every change of either, on the thread (or under the lock) that owns the cluster's backends;
`Picker.pick` runs on every call, on any thread, and never waits. What a cluster does not use is not in its picker: with
one priority and one locality, `pick` is the scheduler's own function.

The rule over all: no call waits, and none fails, while a usable endpoint of any priority is connected. gRFC A56 holds
calls back for up to 10 s (its failover timer) while a higher priority still connects; here they go to a lower one that
is connected. Since `connect_plan` connects lower priorities only when the higher ones cannot carry the load, this does
not send a starting client's first calls astray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from meshsdk.lb.backend import Backend
from meshsdk.lb.composite import by_draw, in_turn
from meshsdk.lb.connect_plan import connect_plan
from meshsdk.lb.drops import Thresholds, thresholds
from meshsdk.lb.hashing import hashed
from meshsdk.lb.least_request import least_request
from meshsdk.lb.locality import Portion, portions
from meshsdk.lb.outage import Failing, Waiting, outage
from meshsdk.lb.pick_first import pick_first
from meshsdk.lb.random_choice import random_choice
from meshsdk.lb.round_robin import round_robin
from meshsdk.lb.selection import Selection
from meshsdk.lb.slow_start import note_appearance, warmed
from meshsdk.lb.stand_in import Pick, StandIn, stand_in
from meshsdk.lb.survey import GroupView, Survey, survey
from meshsdk.lb.weighted_round_robin import load_weights, update_after
from meshsdk.model.policy import (
    LbConfig,
    LeastRequest,
    Maglev,
    PickFirst,
    RandomChoice,
    RingHash,
    WeightedRoundRobin,
)

__all__ = ["Failing", "Picker", "Waiting", "build", "connect_plan"]

_STARTS = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Picker:
    """Gives backends until it is replaced. Frozen; `pick` holds counters that any number of threads may turn.

    `pick(hash_key)`: the backend for one call; `hash_key` is the call's 64-bit hash (A42) or None. Never blocks, never
    raises; gives a backend that is not READY only when none of the picker's backends is any more.
    `expires`: when to build again although nothing changed (unix seconds; slow start, weights by load), or None.
    `has_drops`: whether `dropped` needs to be asked before a pick.
    """

    pick: Pick
    expires: float | None
    has_drops: bool
    drops: Thresholds

    def dropped(self, draw: Callable[[], float]) -> str | None:
        """Returns the category under which this call is to be dropped (A32), None for most; `draw` gives [0, 1)."""
        drawn = draw()
        for bound, category in self.drops:
            if drawn < bound:
                return category
        return None


def build(
    selection: Selection, backends: Mapping[str, Backend], now: float, draw: Callable[[], float]
) -> Picker | Waiting | Failing:
    """Returns the picker of `selection` over `backends` (by address; missing ones count as IDLE).

    `now`: unix seconds. `draw`: numbers in [0, 1), safe for threads; pickers keep it. Costs well under a millisecond
    for a hundred endpoints, plus a hash ring or table when membership changed.
    """
    seen = survey(selection, backends)
    if selection.lb.slow_start is not None:
        known = selection.endpoints.items()
        note_appearance(((one, backends[address]) for address, one in known if address in backends), now)
    active = _active(seen)
    if not active:
        return outage(selection, seen)
    site = _Site(selection, backends, now, draw)
    views = (*(view for _, view in active), *seen.groups, *seen.spare)
    everyone = tuple(backend for view in views for backend in view.ready)
    built = [_pick_in_priority(site, view, stand_in(view.ready, everyone, draw)) for _, view in active]
    loads = [load for load, _ in active]
    pick = by_draw([pick for pick, _ in built], loads, draw, by_hash=_is_hashed(selection.lb))
    drops = thresholds(active)
    return Picker(pick, _soonest(expires for _, expires in built), bool(drops), drops)


def _active(seen: Survey) -> Sequence[tuple[float, GroupView]]:
    """The priorities that take calls now, with their shares (adding up to 1); empty if nothing is connected.

    Load of priorities that have nothing connected goes to those that do. If the connected ones have no load, the first
    of them takes all; degraded endpoints that were to be spared come last.
    """
    loaded = [(view.load, view) for view in seen.groups if view.load > 0 and view.ready]
    if loaded:
        total = sum(load for load, _ in loaded)
        return [(load / total, view) for load, view in loaded]
    return next(([(1.0, view)] for view in (*seen.groups, *seen.spare) if view.ready), [])


@dataclass(frozen=True, slots=True)
class _Site:
    """What one `build` works with."""

    selection: Selection
    backends: Mapping[str, Backend]
    now: float
    draw: Callable[[], float]


def _is_hashed(lb: LbConfig) -> bool:
    return isinstance(lb.policy, RingHash | Maglev)


def _pick_in_priority(site: _Site, view: GroupView, other: StandIn) -> tuple[Pick, float | None]:
    """Returns the pick of one priority and when it expires."""
    lb = site.selection.lb
    if _is_hashed(lb):
        return hashed(view, site.selection, site.backends, site.draw, other), None
    if isinstance(lb.policy, PickFirst):
        return pick_first(view, lb, site.backends, other), None
    parts = portions(view, lb)
    built = [_pick_in_portion(site, part, other) for part in parts]
    pick = in_turn([pick for pick, _ in built], [part.share for part in parts], _start(site))
    return pick, _soonest(expires for _, expires in built)


def _pick_in_portion(site: _Site, part: Portion, other: StandIn) -> tuple[Pick, float | None]:
    """Returns the scheduler over connected backends and when its weights expire."""
    warm = warmed(part.members, site.selection.lb.slow_start, site.now)
    backends = [backend for _, backend in part.members]
    policy = site.selection.lb.policy
    if isinstance(policy, LeastRequest):
        pick = least_request(backends, warm.weights, policy.choices, site.draw, other)
    elif isinstance(policy, RandomChoice):
        pick = random_choice(backends, warm.weights, site.draw, other)
    elif isinstance(policy, WeightedRoundRobin):
        weights = load_weights(backends, warm.weights, policy, site.now)
        pick = round_robin(backends, weights, _start(site), other)
        return pick, _soonest((warm.expires, update_after(policy, site.now)))
    else:
        pick = round_robin(backends, warm.weights, _start(site), other)
    return pick, warm.expires


def _start(site: _Site) -> int:
    """Where a sequence begins: anywhere, or every client and every rebuild would favour the first backend."""
    return int(site.draw() * _STARTS)


def _soonest(times: Iterable[float | None]) -> float | None:
    return min((time for time in times if time is not None), default=None)
