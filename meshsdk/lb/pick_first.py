"""Pick first: one endpoint takes all calls until its connection breaks (gRFC A62).

What to connect is decided by `next_to_connect`: one at a time, so that in the steady state there is one connection.
Whoever is connected stays chosen when an earlier endpoint could be reached again, since nothing tries the earlier ones.

The order: localities of this client's zone first where zones are preferred, then by locality weight; within a locality
by address (EDS order does not survive in `EndpointMap`), or with `shuffle` by this client's own ranks (A68's hash).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from meshsdk.lb.backend import Backend, Connectivity
from meshsdk.lb.stand_in import Pick, StandIn
from meshsdk.lb.survey import GroupView
from meshsdk.model.policy import LbConfig, PickFirst

_READY = Connectivity.READY


def attempt_order(view: GroupView, lb: LbConfig) -> tuple[str, ...]:
    """Returns the addresses in force of a priority, in the order in which they are tried."""
    localities = sorted(
        view.localities,
        key=lambda one: (not (lb.zone_preference and one.members.local), -one.members.weight, one.members.locality),
    )
    shuffled = isinstance(lb.policy, PickFirst) and lb.policy.shuffle
    return tuple(
        endpoint.address
        for locality in localities
        for endpoint in (locality.candidates if shuffled else sorted(locality.candidates, key=lambda one: one.address))
    )


def next_to_connect(addresses: Sequence[str], backends: Mapping[str, Backend]) -> Sequence[str]:
    """Returns what to connect of `addresses` (in order): the connected ones, else the first not failed, else all."""
    states = {address: backends[address].state for address in addresses if address in backends}
    connected = [address for address, state in states.items() if state is _READY]
    if connected:
        return connected
    for address in addresses:
        if states.get(address) is not Connectivity.FAILED:
            return [address]
    return addresses


def pick_first(view: GroupView, lb: LbConfig, backends: Mapping[str, Backend], other: StandIn) -> Pick:
    """Returns a pick that gives the first connected backend of `view`, which has at least one."""
    tried = (backends.get(address) for address in attempt_order(view, lb))
    first = next(backend for backend in tried if backend is not None and backend.state is _READY)

    def pick(_hash_key: int | None) -> Backend:
        return first if first.state is _READY else other(first)

    return pick
