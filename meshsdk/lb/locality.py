"""How a priority's calls are spread over its localities: by weight, by zone, or not at all.

Called by `picker.build` for each priority in use. Gives portions, each a share of the calls and the connected backends
that take it; which of those takes a call is the endpoint policy's matter.

Locality weights (Envoy "Locality weighted load balancing"): a locality's weight counts in full until fewer than
1 / overprovisioning of its endpoints are usable, then falls with them.

Zone preference (Envoy "Zone aware routing"): calls stay in this client's zone as far as that burdens its endpoints no
more than those of other zones. Envoy compares the zone's share of callers with its share of endpoints; a client
without a proxy fleet's knowledge takes callers to be spread evenly over the Z zones that have usable endpoints. With a
share of at least 1/Z of the usable endpoints, the zone takes all of its own calls; with a share s below, it takes
s * Z of them, and the rest goes to the zones with more than 1/Z, by their surplus. There is no least size of cluster:
whoever asks for zone preference gets it. Locality weights have no effect then (the two exclude each other in xDS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshsdk.lb.backend import Backend
from meshsdk.lb.survey import GroupView, LocalityView
from meshsdk.model.endpoints import Endpoint
from meshsdk.model.policy import LbConfig


@dataclass(frozen=True, slots=True)
class Portion:
    """A share (> 0, relative to the portions beside it) of a priority's calls, for these connected endpoints."""

    share: float
    members: tuple[tuple[Endpoint, Backend], ...]


def portions(view: GroupView, lb: LbConfig) -> tuple[Portion, ...]:
    """Splits a priority that has connected backends; one portion where localities make no difference."""
    connected = [locality for locality in view.localities if locality.ready]
    if lb.zone_preference:
        if not view.panic and any(locality.members.local for locality in view.localities):
            return _by_zone(view.localities)
        return (_pooled(1.0, connected),)
    if lb.locality_weighted and len(connected) > 1:
        return tuple(Portion(effective_weight(view, locality), locality.ready) for locality in connected)
    return (_pooled(1.0, connected),)


def effective_weight(view: GroupView, locality: LocalityView) -> float:
    """Returns weight * min(1, overprovisioning * usable share); in panic the weight itself, as all are in use."""
    weight, total = locality.members.weight, locality.members.tally.staying
    if view.panic or not total:
        return weight
    return weight * min(1.0, view.group.overprovisioning * locality.usable / total)


def _pooled(share: float, localities: Sequence[LocalityView]) -> Portion:
    return Portion(share, tuple(member for locality in localities for member in locality.ready))


def _by_zone(localities: Sequence[LocalityView]) -> tuple[Portion, ...]:
    zones: dict[tuple[str, str], list[LocalityView]] = {}
    for locality in localities:
        if locality.usable:
            zones.setdefault((locality.members.locality.region, locality.members.locality.zone), []).append(locality)
    usable = {zone: sum(locality.usable for locality in members) for zone, members in zones.items()}
    here = next((zone for zone, members in zones.items() if members[0].members.local), None)
    split = _zone_shares(usable, here)
    parts = [_pooled(split[zone], members) for zone, members in zones.items() if split[zone] > 0]
    parts = [part for part in parts if part.members]
    if not parts:  # the zones that should take the calls have nothing connected yet: whoever has, does
        parts = [_pooled(1.0, localities)]
    return tuple(parts)


def _zone_shares(usable: dict[tuple[str, str], float], here: tuple[str, str] | None) -> dict[tuple[str, str], float]:
    """Returns the share of this client's calls for each zone; `here` is its own, None if nothing is usable there."""
    total = sum(usable.values())
    if here is None:
        return {zone: count / total for zone, count in usable.items()}
    fair = 1 / len(usable)
    stay = min(1.0, usable[here] / total / fair)
    surplus = {zone: max(0.0, count / total - fair) for zone, count in usable.items() if zone != here}
    spread = sum(surplus.values())
    split = {zone: (1 - stay) * extra / spread if spread else 0.0 for zone, extra in surplus.items()}
    return {**split, here: stay}
