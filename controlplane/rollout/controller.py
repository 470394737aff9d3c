"""All ShimSets at once: which shim belongs to which, what each is told, and how each set fares. Pure.

Owned by the plane, which steps it when shims, the configuration or the time of a deadline say so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from controlplane.model.identity import ResourceId
from controlplane.model.shims import Order, ShimSet
from controlplane.rollout.report import ShimReport, report_of
from controlplane.rollout.shim_rollout import Memory, step
from controlplane.rollout.status import ShimSetStatus, status
from meshsdk.model.instance import Instance

_LOG = logging.getLogger(__name__)
_REST = 1e-4  # seconds for each shim; about ten times what it costs
_AGAIN = 0.5  # seconds until it is asked again which shims there are


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step of all sets comes to: what each shim is told, by id, and the status of each set."""

    orders: Mapping[str, Order] = field(default_factory=dict)
    statuses: Mapping[ResourceId, ShimSetStatus] = field(default_factory=dict)
    deadline: float | None = None


class Controller:
    """Mutable; guarded by the plane's lock. `ready_at`: the time from which on shims are picked."""

    def __init__(self, ready_at: float) -> None:
        self._ready_at = ready_at
        self._memories: dict[ResourceId, Memory] = {}
        self._woken = True
        self._rests_until = 0.0
        self.outcome = Outcome()
        self.due: float | None = None  # when to look though nothing changes

    def wake(self) -> None:
        """Has the next look take place: a shim or the configuration changed."""
        self._woken = True

    def look(
        self, shim_sets: Sequence[ShimSet], shims: Mapping[str, Instance], now: float, *, known: bool = True
    ) -> bool:
        """Steps, if anything changed or the time has come; returns whether some shim is told something else.

        A step costs by the shims there are, and each of their upgrades is some changes, so it rests between two.
        `known`: whether it is known which shims there are.
        """
        if not self._woken and (self.due is None or now < self.due):
            return False
        if now < self._rests_until:
            self.due = self._rests_until
            return False
        self._woken, self._rests_until = False, now + _REST * len(shims)
        before = self.outcome
        after = self.step(shim_sets, map(report_of, shims.values()), now, known=known)
        self.due = after.deadline
        _log_changes(before, after)
        return after.orders != before.orders

    def step(
        self, shim_sets: Sequence[ShimSet], reports: Iterable[ShimReport], now: float, *, known: bool = True
    ) -> Outcome:
        """Takes what is wanted and what there is; returns, and keeps, what follows."""
        members, left = assigned(shim_sets, reports)
        picks = known and now >= self._ready_at
        steps = {
            each.id: step(self._memories.get(each.id) or Memory(each), each, members[each.id], now, picks=picks)
            for each in shim_sets
        }
        self._memories = {key: made.memory for key, made in steps.items()}
        statuses = {
            each.id: status(each, members[each.id], steps[each.id], elsewhere=left[each.id], waits=not picks)
            for each in shim_sets
        }
        deadlines = [made.deadline for made in steps.values() if made.deadline is not None]
        if shim_sets and not picks:
            deadlines.append(max(self._ready_at, now + _AGAIN))
        orders = {key: order for made in steps.values() for key, order in made.orders.items()}
        self.outcome = Outcome(orders, statuses, min(deadlines, default=None))
        return self.outcome


def _log_changes(before: Outcome, after: Outcome) -> None:
    """Writes a line for each set whose phase or message changed."""
    for key, fares in after.statuses.items():
        known = before.statuses.get(key)
        if known is None or (known.phase, known.message) != (fares.phase, fares.message):
            _LOG.log(logging.ERROR if fares.phase.is_stop else logging.INFO, "%s: %s", key, fares)


def assigned(
    shim_sets: Sequence[ShimSet], reports: Iterable[ShimReport]
) -> tuple[dict[ResourceId, list[ShimReport]], dict[ResourceId, int]]:
    """Returns the shims of each set, and how many more it selects that are another's.

    A shim belongs to the set that names the most labels; of two that name as many, to the first by namespace and name.
    """
    members: dict[ResourceId, list[ShimReport]] = {each.id: [] for each in shim_sets}
    left = dict.fromkeys(members, 0)
    ordered = sorted(shim_sets, key=lambda each: (-len(each.selector), each.id.namespace, each.id.name))
    for report in reports:
        found = [each for each in ordered if each.selector.items() <= report.labels.items()]
        if found:
            members[found[0].id].append(report)
        for each in found[1:]:
            left[each.id] += 1
    return members, left
