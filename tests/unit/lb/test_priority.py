"""Priority loads and panic against Envoy's documented formula and tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.lb.priority import Headcount, shares


def percent(*healthy: float) -> list[Headcount]:
    """Priorities of 100 endpoints with so many usable, overprovisioned by 1.4."""
    return [Headcount(100, count, count, 1.4) for count in healthy]


@pytest.mark.parametrize(
    ("healthy", "loads"),
    [  # envoy docs, "Priority levels": two and three levels
        ((100, 100, 100), (100, 0, 0)),
        ((72, 72, 100), (100, 0, 0)),
        ((71, 71, 100), (99, 1, 0)),
        ((50, 50, 100), (70, 30, 0)),
        ((25, 100, 100), (35, 65, 0)),
        ((25, 25, 100), (35, 35, 30)),
        ((25, 25, 20), (36, 36, 28)),
        ((0, 100), (0, 100)),
        ((5, 0), (100, 0)),
        ((0, 0, 3), (0, 0, 100)),
    ],
)
def test_loads_are_those_of_envoys_documentation(healthy: tuple[int, ...], loads: tuple[int, ...]) -> None:
    """The tables of Envoy's documentation come out, to the whole percent that they are rounded to."""
    got = shares(percent(*healthy), panic_threshold=0).loads
    assert [load * 100 for load in got] == pytest.approx(loads, abs=1)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=6),
    st.sampled_from([1.0, 1.4, 2.5]),
)
def test_loads_equal_a_naive_reading_of_the_formula(sizes: list[tuple[int, int]], factor: float) -> None:
    """Any healthy and unhealthy counts: loads are what one computes by hand from the documented formula."""
    counts = [Headcount(good + bad, good, good, factor) for good, bad in sizes]
    health = [min(100, factor * 100 * good / (good + bad)) if good + bad else 0 for good, bad in sizes]
    normalized = min(100, sum(health))
    expected: list[float] = []
    for one in health:
        expected.append(min(100 - sum(expected), one * 100 / normalized) if normalized else 0)
    got = shares(counts, panic_threshold=0)
    assert [load * 100 for load in got.loads] == pytest.approx(expected, abs=1e-6)
    assert sum(got.loads) == pytest.approx(1 if normalized else 0)
    assert not any(got.panic)


@pytest.mark.parametrize(
    ("healthy", "panic", "loads"),
    [  # envoy docs, "Panic threshold", default 50 %
        ((72, 72), (False, False), (100, 0)),
        ((71, 71), (False, False), (99, 1)),
        ((50, 60), (False, False), (70, 30)),
        ((25, 100), (False, False), (35, 65)),
        ((25, 25), (True, True), (50, 50)),
        ((5, 65), (True, False), (7, 93)),
        ((0, 0), (True, True), (50, 50)),
        ((49,), (True,), (100,)),
        ((50,), (False,), (100,)),
    ],
)
def test_panic_is_that_of_envoys_documentation(
    healthy: tuple[int, ...], panic: tuple[bool, ...], loads: tuple[int, ...]
) -> None:
    """A priority panics when all together cannot carry the load and it is below the threshold."""
    got = shares(percent(*healthy), panic_threshold=0.5)
    assert got.panic == panic
    assert [load * 100 for load in got.loads] == pytest.approx(loads, abs=1)


def test_when_all_panic_load_follows_the_number_of_endpoints() -> None:
    """In total panic a priority of 30 endpoints gets three times the load of one of 10; an empty one gets none."""
    counts = [Headcount(30, 3, 3, 1.4), Headcount(0, 0, 0, 1.4), Headcount(10, 1, 1, 1.4)]
    assert shares(counts, 0.5).loads == (0.75, 0, 0.25)


def test_degraded_endpoints_avert_panic() -> None:
    """Availability, healthy and degraded together, decides on panic; load follows those in force."""
    assert shares([Headcount(10, 4, 9, 1.4)], 0.5).panic == (False,)


def test_threshold_zero_never_panics() -> None:
    """Without panic, priorities with nothing usable get nothing at all."""
    got = shares(percent(0, 0), 0)
    assert (got.loads, got.panic) == ((0, 0), (False, False))


@pytest.mark.parametrize(("healthy", "reach"), [((100, 100), 1), ((72, 9, 100), 1), ((50, 100, 100), 2), ((1, 1), 2)])
def test_reach_is_how_many_priorities_carry_the_load(healthy: tuple[int, ...], reach: int) -> None:
    """Priorities behind the ones that suffice are not needed."""
    assert shares(percent(*healthy), 0.5).reach == reach
