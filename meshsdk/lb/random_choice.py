"""Random choice in proportion to endpoint weights (envoy.load_balancing_policies.random)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from meshsdk.lb.backend import Backend, Connectivity
from meshsdk.lb.stand_in import Pick, StandIn

_READY = Connectivity.READY


def drawn(backends: Sequence[Backend], weights: Sequence[float], draw: Callable[[], float]) -> Callable[[], Backend]:
    """Returns a function that draws one backend in proportion to its weight (> 0)."""
    members = tuple(backends)
    size = len(members)
    if len(set(weights)) == 1:
        return lambda: members[int(draw() * size)]
    bounds = list(accumulate(weights))
    total = bounds.pop()  # without the last bound, no rounding can point past the last member
    return lambda: members[bisect_right(bounds, draw() * total)]


def random_choice(
    backends: Sequence[Backend], weights: Sequence[float], draw: Callable[[], float], other: StandIn
) -> Pick:
    """Returns a pick that draws anew for each call; `draw` gives numbers in [0, 1)."""
    one = drawn(backends, weights, draw)

    def pick(_hash_key: int | None) -> Backend:
        backend = one()
        return backend if backend.state is _READY else other(backend)

    return pick
