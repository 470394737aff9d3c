"""Round robin, random and least request over backends, without the picker around them."""

from __future__ import annotations

from collections import Counter
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.lb.backend import Backend, Connectivity
from meshsdk.lb.least_request import least_request
from meshsdk.lb.random_choice import random_choice
from meshsdk.lb.round_robin import round_robin
from meshsdk.lb.stand_in import Pick, stand_in
from tests.unit.lb.fleet import draws, endpoints

Weights = list[float]


def ready(count: int) -> list[Backend]:
    """So many connected backends."""
    made = [Backend(endpoint) for endpoint in endpoints(count)]
    for backend in made:
        backend.state = Connectivity.READY
    return made


def schedulers(members: list[Backend], weights: Weights) -> dict[str, Pick]:
    """Each scheduler over the same backends."""
    draw = draws().random
    other = stand_in(members, (), draw)
    return {
        "round_robin": round_robin(members, weights, 0, other),
        "random": random_choice(members, weights, draw, other),
        "least_request": least_request(members, weights, 2, draw, other),
        "least_request_of_4": least_request(members, weights, 4, draw, other),
    }


@pytest.mark.parametrize("name", ["round_robin", "random", "least_request", "least_request_of_4"])
@pytest.mark.parametrize("weights", [[1, 1, 1], [1, 2, 3], [1, 1000], [0.5, 0.25, 7.5, 1.75], [4]])
def test_idle_backends_are_picked_by_weight(name: str, weights: Weights) -> None:
    """With no call in flight, every scheduler gives each backend its share, within five standard deviations."""
    members = ready(len(weights))
    calls = 20_000
    counts = Counter(id(backend) for backend in map(schedulers(members, weights)[name], [None] * calls))
    for backend, weight in zip(members, weights, strict=True):
        share = weight / sum(weights)
        assert abs(counts[id(backend)] - calls * share) <= 5 * sqrt(calls * share * (1 - share)) + 1


@given(st.lists(st.integers(1, 50), min_size=2, max_size=20), st.integers(0, 2**32))
def test_random_follows_any_weights(weights: list[int], seed: int) -> None:
    """Whatever whole weights, random stays within six standard deviations of them."""
    members = ready(len(weights))
    pick = random_choice(members, weights, draws(seed).random, lambda backend: backend)
    counts = Counter(id(pick(None)) for _ in range(2000))
    for backend, weight in zip(members, weights, strict=True):
        share = weight / sum(weights)
        assert abs(counts[id(backend)] - 2000 * share) <= 6 * sqrt(2000 * share * (1 - share)) + 2


def test_least_request_takes_the_less_loaded_of_two() -> None:
    """Of two backends, the one with calls in flight is never picked while the other has fewer."""
    members = ready(2)
    members[0].calls.append(None)
    pick = least_request(members, [1, 1], 2, draws().random, lambda backend: backend)
    assert {pick(None) for _ in range(200)} == {members[1]}


def test_least_request_leaves_the_most_loaded_alone() -> None:
    """Two distinct candidates are compared, so that of ten backends the single busiest one is never picked."""
    members = ready(10)
    members[4].calls.extend([None] * 3)
    pick = least_request(members, [1] * 10, 2, draws().random, lambda backend: backend)
    assert {id(pick(None)) for _ in range(1000)} == {id(member) for member in members if member is not members[4]}


def test_more_choices_avoid_loaded_backends_more() -> None:
    """With half of the backends busy, five choices hit a busy one about 2**-5 of the time."""
    members = ready(10)
    for member in members[:5]:
        member.calls.append(None)
    pick = least_request(members, [1] * 10, 5, draws().random, lambda backend: backend)
    busy = sum(bool(pick(None).calls) for _ in range(10_000)) / 10_000
    assert 0.02 < busy < 0.045


def test_calls_in_flight_even_out_per_weight() -> None:
    """Under load, backends of weight 1 and 3 end up with calls in flight as 1 to 3, whatever was there before."""
    members = ready(4)
    weights = [1, 1, 3, 3]
    members[0].calls.extend([None] * 50)
    pick = least_request(members, weights, 2, draws().random, lambda backend: backend)
    for _ in range(750):
        pick(None).calls.append(None)
    assert [len(member.calls) for member in members] == pytest.approx([100, 100, 300, 300], rel=0.1)


@pytest.mark.parametrize("name", ["round_robin", "random", "least_request", "least_request_of_4"])
@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [1, 2, 3, 4], [1, 1, 1, 0.3]])
def test_a_backend_that_went_away_is_not_picked(name: str, weights: Weights) -> None:
    """A backend that leaves READY after the scheduler was built gets no call; its turns are spread over the others."""
    members = ready(4)
    pick = schedulers(members, weights)[name]
    members[2].state = Connectivity.CONNECTING
    counts = Counter(pick(None).endpoint.address for _ in range(2000))
    assert set(counts) == {member.endpoint.address for member in members if member is not members[2]}
    assert min(counts.values()) > 100


def test_with_nothing_connected_the_choice_stands() -> None:
    """When every backend left READY, a pick still answers, with one that is not READY."""
    members = ready(3)
    for member in members:
        member.state = Connectivity.FAILED
    for pick in schedulers(members, [1, 1, 1]).values():
        assert pick(None) in members


def test_a_stand_in_comes_from_near_before_far() -> None:
    """A replacement is looked for in the same priority first, then in the others in their order."""
    near, far = ready(3), ready(5)[3:]
    search = stand_in(near, far, draws().random)
    near[0].state = near[1].state = Connectivity.IDLE
    assert search(near[0]) is near[2]
    near[2].state = Connectivity.IDLE
    assert search(near[0]) is far[0]
