"""Maglev: a call goes to the owner of the table slot that its hash names (envoy.load_balancing_policies.maglev).

Slots are filled in turns, each member taking the next free slot of its own permutation, which makes the shares more
even than a ring's and the look-up one index. Like a ring, a table depends on membership only and is kept in
`selection.tables`; filling 65,537 slots takes some tens of milliseconds, once per change of membership.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import count, filterfalse, repeat
from math import isqrt
from operator import mod
from typing import TypeAlias

from meshsdk.lb.backend import Backend, Connectivity
from meshsdk.lb.stand_in import Pick, StandIn
from meshsdk.model.policy import Maglev
from meshsdk.model.xxh64 import xxh64

_READY = Connectivity.READY
_LARGEST = 65537  # Envoy's default; larger tables even out sets of more than 650 members and would stall the builder
_HASHES = 1 << 64

Table: TypeAlias = "array[int]"
"""Slot -> index of the member that owns it."""


def build_table(keys: Sequence[str], weights: Sequence[float], config: Maglev) -> Table:
    """Returns the table of members with these `keys` and weights (> 0).

    Its size is `config.table_size`, at most 65,537, raised to the next prime: only then every permutation reaches every
    slot.
    """
    size = _prime(min(max(config.table_size, len(keys)), _LARGEST))
    taken = bytearray(size)
    table = array("I", bytes(4 * size))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    slots = [_permutation(keys[owner].encode(), size, taken) for owner in order]
    shares = [weights[owner] / max(weights) for owner in order]
    credit = [0.0] * len(order)
    free = size
    while True:
        for turn, owner in enumerate(order):
            credit[turn] += shares[turn]
            if credit[turn] < 1.0:
                continue
            credit[turn] -= 1.0
            slot = next(slots[turn])
            taken[slot] = 1
            table[slot] = owner
            free -= 1
            if not free:
                return table


def _permutation(key: bytes, size: int, taken: bytearray) -> Iterator[int]:
    """The slots in this member's order, without those that are taken by the time they come up."""
    offset = xxh64(key) % size
    skip = xxh64(key, 1) % (size - 1) + 1
    return filterfalse(taken.__getitem__, map(mod, count(offset, skip), repeat(size)))


def _prime(least: int) -> int:
    number = max(least, 3) | 1
    while any(number % divisor == 0 for divisor in range(3, isqrt(number) + 1, 2)):
        number += 2
    return number


def maglev(table: Table, members: Sequence[Backend | None], draw: Callable[[], float], other: StandIn) -> Pick:
    """Returns a pick over `table`; `members[i]` is the backend of owner i, None while it has none.

    Calls of a member that is not READY go on to the next slot whose owner is; calls without a hash to a random slot.
    """
    size = len(table)

    def walk(begin: int) -> Backend:
        for step in range(1, size):
            backend = members[table[(begin + step) % size]]
            if backend is not None and backend.state is _READY:
                return backend
        return other(next(member for member in members if member is not None))

    def pick(hash_key: int | None) -> Backend:
        slot = (int(draw() * _HASHES) if hash_key is None else hash_key) % size
        backend = members[table[slot]]
        return backend if backend is not None and backend.state is _READY else walk(slot)

    return pick
