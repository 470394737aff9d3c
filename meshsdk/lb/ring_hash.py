"""Ring hash: a call goes to the endpoint whose point on a ring follows the call's hash (gRFC A42, ketama).

A ring depends on who is in it and with what weight, never on connectivity, so that it is built once per membership
(`selection.tables`) and a broken connection moves only the calls of that endpoint: they walk on to the next endpoint
that is READY. Unlike A42, no call waits for its endpoint to connect while another is connected.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from meshsdk.lb.backend import Backend, Connectivity
from meshsdk.lb.stand_in import Pick, StandIn
from meshsdk.model.policy import RingHash
from meshsdk.model.xxh64 import xxh64

_READY = Connectivity.READY
_SIZE_CAP = 4096  # A42: the client's own cap on both bounds, against configurations that cost it megabytes
_HASHES = 1 << 64


@dataclass(frozen=True, slots=True)
class Ring:
    """Points in ascending order; `owners[i]` is the index of the member that owns `points[i]`."""

    points: array[int]
    owners: array[int]


def build_ring(keys: Sequence[str], weights: Sequence[float], config: RingHash) -> Ring:
    """Returns the ring of members with these `keys` (A76: hash key or address) and weights (> 0).

    Every member gets points in proportion to its weight, and the least of them at least one (sizes: A42, as Envoy).
    """
    total = sum(weights)
    least = min(weights) / total
    smallest = min(config.min_size, _SIZE_CAP)
    scale = min(ceil(least * smallest) / least, max(smallest, min(config.max_size, _SIZE_CAP)))
    entries: list[tuple[int, int]] = []
    target = 0.0
    for owner in sorted(range(len(keys)), key=keys.__getitem__):
        target += scale * weights[owner] / total
        number = 0
        while len(entries) < target:
            entries.append((xxh64(f"{keys[owner]}_{number}".encode()), owner))
            number += 1
    entries.sort()
    return Ring(array("Q", [point for point, _ in entries]), array("I", [owner for _, owner in entries]))


def ring_hash(ring: Ring, members: Sequence[Backend | None], draw: Callable[[], float], other: StandIn) -> Pick:
    """Returns a pick over `ring`; `members[i]` is the backend of owner i, None while it has none.

    A call without a hash goes to a random point (A42).
    """
    points = ring.points
    size = len(points)
    owners = [members[owner] for owner in ring.owners]

    def walk(begin: int) -> Backend:
        for step in range(1, size):
            backend = owners[(begin + step) % size]
            if backend is not None and backend.state is _READY:
                return backend
        return other(next(member for member in members if member is not None))

    def pick(hash_key: int | None) -> Backend:
        index = bisect_left(points, int(draw() * _HASHES) if hash_key is None else hash_key) % size
        backend = owners[index]
        return backend if backend is not None and backend.state is _READY else walk(index)

    return pick
