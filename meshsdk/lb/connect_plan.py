"""Which endpoints of a selection should be connected now, ahead of calls.

Called by the channel layer with every change of selection or connectivity. A plan says what to connect (and connect
again after a failure); it never asks to disconnect: what is connected may stay as long as it is in the selection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from meshsdk.lb.backend import Backend
from meshsdk.lb.pick_first import attempt_order, next_to_connect
from meshsdk.lb.selection import Selection
from meshsdk.lb.survey import GroupView, survey
from meshsdk.model.endpoints import Health
from meshsdk.model.policy import PickFirst


def connect_plan(selection: Selection, backends: Mapping[str, Backend]) -> tuple[str, ...]:
    """Returns addresses, those of higher priorities first, without repeats.

    Priorities are connected in order until they can carry the whole load: the next one is begun as soon as failed or
    unhealthy endpoints leave too few (gRFC A56 begins it after a failure or 10 s). In each, the endpoints in force are
    connected: healthy ones; degraded ones where those stand in; all but draining ones in a priority that panics.
    pick_first connects one at a time.
    """
    seen = survey(selection, backends)
    plan: dict[str, None] = {}
    for view in seen.groups[: seen.reach]:
        if isinstance(selection.lb.policy, PickFirst):
            plan.update(dict.fromkeys(next_to_connect(attempt_order(view, selection.lb), backends)))
        else:
            plan.update((endpoint.address, None) for locality in view.localities for endpoint in locality.candidates)
        if seen.stands_in:  # all healthy ones have failed: they are tried on, to take over again
            plan.update((address, None) for address in _healthy(view))
    return tuple(plan)


def _healthy(view: GroupView) -> Iterator[str]:
    for members in view.group.localities:
        for endpoint in members.endpoints:
            if endpoint.health is Health.HEALTHY:
                yield endpoint.address
