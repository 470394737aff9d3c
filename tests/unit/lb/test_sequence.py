"""Smooth weighted sequences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.lb.sequence import smooth


def taken(weights: Sequence[float], count: int, start: int = 0) -> list[int]:
    """The first turns of a sequence over the indices of `weights`."""
    upcoming = smooth(range(len(weights)), weights, start)
    return [upcoming() for _ in range(count)]


def test_equal_weights_take_turns() -> None:
    """Three items of one weight come in turn, from the start position on."""
    assert taken([5, 5, 5], 6, start=1) == [1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize(
    ("weights", "round_"), [([3, 1], [0, 0, 1, 0]), ([2, 4], [1, 0, 1]), ([1, 1, 2], [2, 0, 1, 2])]
)
def test_small_weights_are_exact_and_spread_within_a_round(weights: list[float], round_: list[int]) -> None:
    """Small whole weights follow a schedule in which no item has its turns in one go."""
    assert taken(weights, 2 * len(round_)) == 2 * round_


@given(st.lists(st.integers(1, 20), min_size=1, max_size=40), st.integers(0, 2**16))
def test_whole_weights_are_exact_in_each_round(weights: list[int], start: int) -> None:
    """Whatever the whole weights and the start, a round of as many turns as their sum has each item weight times."""
    counts = Counter(taken(weights, sum(weights), start))
    assert counts == dict(enumerate(weights))


@given(st.lists(st.floats(0.001, 1000), min_size=2, max_size=100), st.integers(0, 2**16), st.integers(1, 3000))
def test_any_weights_are_kept_to_within_a_few_turns(weights: list[float], start: int, turns: int) -> None:
    """Fractions and wild ratios: after any number of turns, no item is more than a few turns off its share."""
    counts = Counter(taken(weights, turns, start))
    for index, weight in enumerate(weights):
        assert abs(counts[index] - turns * weight / sum(weights)) < 6


def test_no_item_waits_much_longer_than_its_share() -> None:
    """An item with a quarter of the weight comes at least every eighth turn (three-gap theorem), not in bursts."""
    turns = taken([3.1, 1.03], 2000)
    hits = [at for at, item in enumerate(turns) if item == 1]
    gaps = {later - earlier for earlier, later in zip(hits, islice(hits, 1, None), strict=False)}
    assert len(gaps) <= 3
    assert max(gaps) <= 8
