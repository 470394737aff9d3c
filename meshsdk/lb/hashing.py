"""The hash policies over one priority: its ring or table, built once per membership and kept in the selection.

Called by `picker.build`. Membership is every endpoint in force with its weight, connected or not, so that a connection
that comes or goes leaves the keys of all other endpoints where they are; so does an ejection. Localities share one
ring, or the failure of an endpoint would move its keys twice (A42): an endpoint's weight is its share of its locality
times its locality's share of the priority (A113). Zone preference has no effect: a key's endpoint cannot depend on who
asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from meshsdk.lb.backend import Backend
from meshsdk.lb.maglev import build_table, maglev
from meshsdk.lb.ring_hash import Ring, build_ring, ring_hash
from meshsdk.lb.selection import Selection
from meshsdk.lb.stand_in import Pick, StandIn
from meshsdk.lb.survey import GroupView
from meshsdk.model.policy import LbConfig, Maglev, RingHash

_KEPT = 8  # tables a cluster keeps: its priorities, with and without panic; the oldest goes first


def hashed(
    view: GroupView, selection: Selection, backends: Mapping[str, Backend], draw: Callable[[], float], other: StandIn
) -> Pick:
    """Returns the pick of a RingHash or Maglev policy over the endpoints in force in `view`, of which one is READY."""
    lb, tables = selection.lb, selection.tables
    shares = _shares(view, lb)
    ejected = frozenset[str]().union(*(locality.ejected for locality in view.localities))
    members = [None if address in ejected else backends.get(address) for address, _, _ in shares]
    table = tables.get((lb.policy, shares))
    if table is None:
        keys, weights = [key for _, key, _ in shares], [share for _, _, share in shares]
        if isinstance(lb.policy, RingHash):
            table = build_ring(keys, weights, lb.policy)
        elif isinstance(lb.policy, Maglev):
            table = build_table(keys, weights, lb.policy)
        else:
            raise TypeError(f"{lb.policy} is no hash policy")
        while len(tables) >= _KEPT:
            tables.pop(next(iter(tables)), None)
        tables[lb.policy, shares] = table
    if isinstance(table, Ring):
        return ring_hash(table, members, draw, other)
    return maglev(table, members, draw, other)


def _shares(view: GroupView, lb: LbConfig) -> tuple[tuple[str, str, float], ...]:
    """Address, key and share of each endpoint in force."""
    shares: list[tuple[str, str, float]] = []
    for locality in view.localities:
        membership = locality.membership
        whole = sum(endpoint.weight for endpoint in membership)
        weight = locality.members.weight / whole if lb.locality_weighted and whole else 1.0
        shares.extend(
            (endpoint.address, endpoint.hash_key or endpoint.address, endpoint.weight * weight)
            for endpoint in membership
        )
    return tuple(shares)
