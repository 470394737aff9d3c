"""Least request: of a few randomly drawn endpoints, the one with the fewest calls in flight (gRFC A48).

Endpoint weights: Envoy schedules by weight / (in_flight + 1), which needs one shared heap and so a lock on every call.
Here candidates are drawn in proportion to their weights, and the one with the least in_flight / weight is taken; of
equals, the first drawn. With nothing in flight that is Envoy's distribution (exactly by weight); under load both even
out the calls in flight per unit of weight. With equal weights it is A48, except that two choices are always distinct.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from meshsdk.lb.backend import Backend, Connectivity
from meshsdk.lb.random_choice import drawn
from meshsdk.lb.stand_in import Pick, StandIn

_READY = Connectivity.READY
_PAIR = 2


def least_request(
    backends: Sequence[Backend], weights: Sequence[float], choices: int, draw: Callable[[], float], other: StandIn
) -> Pick:
    """Returns a pick among `choices` (>= 2) drawn candidates; `draw` gives numbers in [0, 1)."""
    if len(set(weights)) > 1:
        return _weighted(backends, weights, choices, draw, other)
    if choices == _PAIR and len(backends) > 1:
        return _of_two(tuple(backends), draw, other)
    return _of_many(drawn(backends, weights, draw), choices, other)


def _of_two(members: tuple[Backend, ...], draw: Callable[[], float], other: StandIn) -> Pick:
    size = len(members)
    rest = size - 1

    def pick(_hash_key: int | None) -> Backend:
        at = draw() * size  # one draw for both: the whole part is the first, the fraction the second
        index = int(at)
        backend = members[index]
        second = int((at - index) * rest)
        rival = members[second + (second >= index)]
        if rival.in_flight < backend.in_flight:
            backend = rival
        return backend if backend.state is _READY else other(backend)

    return pick


def _of_many(one: Callable[[], Backend], choices: int, other: StandIn) -> Pick:
    rivals = range(choices - 1)

    def pick(_hash_key: int | None) -> Backend:
        backend = one()
        running = backend.in_flight
        for _ in rivals:
            rival = one()
            if (load := rival.in_flight) < running:
                backend, running = rival, load
        return backend if backend.state is _READY else other(backend)

    return pick


def _weighted(
    backends: Sequence[Backend], weights: Sequence[float], choices: int, draw: Callable[[], float], other: StandIn
) -> Pick:
    one = drawn(backends, weights, draw)
    weight = {id(backend): weight for backend, weight in zip(backends, weights, strict=True)}
    rivals = range(choices - 1)

    def pick(_hash_key: int | None) -> Backend:
        backend = one()
        load = backend.in_flight / weight[id(backend)]
        for _ in rivals:
            rival = one()
            if (rival_load := rival.in_flight / weight[id(rival)]) < load:
                backend, load = rival, rival_load
        return backend if backend.state is _READY else other(backend)

    return pick
