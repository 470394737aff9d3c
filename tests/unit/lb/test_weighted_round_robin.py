"""Weights by reported load: A58's formula, its periods, and the spread that follows."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshsdk.lb.backend import Connectivity
from meshsdk.lb.endpoint_load import LoadReport, LoadWeight, usable, weighed
from meshsdk.lb.weighted_round_robin import load_weights
from meshsdk.model.endpoints import Endpoint
from meshsdk.model.policy import LbConfig, SlowStart, WeightedRoundRobin
from tests.unit.lb.fleet import address, backends, endpoints, locality, picker, selected, tallied

POLICY = WeightedRoundRobin(blackout=10.0, expiration=180.0, error_penalty=1.0)


@pytest.mark.parametrize(
    ("report", "penalty", "weight"),
    [
        (LoadReport(qps=100, cpu=0.5), 1.0, 200),
        (LoadReport(qps=100, cpu=0.9, application=0.5), 1.0, 200),
        (LoadReport(qps=100, application=0.4, eps=10), 1.0, 200),
        (LoadReport(qps=100, application=0.4, eps=10), 2.0, 100 / 0.6),
        (LoadReport(qps=100, application=0.4, eps=10), 0.0, 250),
        (LoadReport(qps=100, application=1.6), 1.0, 62.5),
    ],
)
def test_the_formula(report: LoadReport, penalty: float, weight: float) -> None:
    """qps / (utilization + eps / qps * penalty), the application's utilization first."""
    told = weighed(report, None, WeightedRoundRobin(error_penalty=penalty), 5.0)
    assert told is not None
    assert told.weight == pytest.approx(weight)
    assert (told.updated, told.since) == (5.0, 5.0)


@pytest.mark.parametrize("report", [LoadReport(), LoadReport(qps=10), LoadReport(cpu=0.5)])
def test_a_report_that_says_too_little_changes_nothing(report: LoadReport) -> None:
    """Without queries or utilization the weight before stays, with its age."""
    before = LoadWeight(7.0, 1.0, 0.0)
    assert weighed(report, before, POLICY, 100.0) is before
    assert weighed(report, None, POLICY, 100.0) is None


def test_blackout_and_expiration() -> None:
    """A weight counts from 10 s after the first report until 180 s after the last; after a gap the blackout is anew."""
    report = LoadReport(qps=10, cpu=0.5)
    first = weighed(report, None, POLICY, 0.0)
    assert usable(first, POLICY, 9.9) == 0.0
    assert usable(first, POLICY, 10.0) == 20.0
    second = weighed(report, first, POLICY, 100.0)
    assert usable(second, POLICY, 279.9) == 20.0
    assert usable(second, POLICY, 280.0) == 0.0
    late = weighed(report, second, POLICY, 280.0)
    assert usable(late, POLICY, 289.9) == 0.0
    assert usable(late, POLICY, 290.0) == 20.0


def test_calls_follow_the_weights() -> None:
    """Weights 100, 200 and 300 and one endpoint that has told nothing: it gets the mean, 200."""
    chosen = selected(locality(endpoints(4)), lb=LbConfig(policy=POLICY))
    made = backends(chosen)
    for number, weight in enumerate((100.0, 200.0, 300.0)):
        made[address(number)].load = LoadWeight(weight, 50.0, 0.0)
    built = picker(chosen, made, now=60.0)
    counts = tallied(built, 8000)
    assert [counts[address(number)] for number in range(4)] == pytest.approx([1000, 2000, 3000, 2000], abs=10)
    assert built.expires == 61.0


def test_one_weight_is_none() -> None:
    """While fewer than two have told a weight, configured weights count."""
    chosen = selected(locality([*endpoints(2), *endpoints(1, net=1, weight=2)]), lb=LbConfig(policy=POLICY))
    made = backends(chosen)
    made[address(0)].load = LoadWeight(900.0, 50.0, 0.0)
    counts = tallied(picker(chosen, made, now=60.0), 4000)
    assert counts[address(0)] == counts[address(1)] == 1000


def test_slow_start_lowers_what_was_told() -> None:
    """An endpoint a quarter of the window old gets a quarter of what its load would give it."""
    chosen = selected(
        locality([*endpoints(2), Endpoint(address(2), started_at=1000)]),
        lb=LbConfig(policy=POLICY, slow_start=SlowStart(100)),
    )
    made = backends(chosen)
    made[address(2)].state = Connectivity.CONNECTING
    picker(chosen, made, now=900.0)
    made[address(2)].state = Connectivity.READY
    for backend in made.values():
        backend.load = LoadWeight(500.0, 1020.0, 1000.0)
    counts = tallied(picker(chosen, made, now=1025.0), 9000)
    assert counts[address(2)] / 9000 == pytest.approx(0.25 / 2.25, abs=0.01)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.001, 1e6), min_size=2, max_size=12))
def test_the_spread_is_that_of_the_weights_within_bounds(weights: list[float]) -> None:
    """Each endpoint's share is its weight's, where none counts below a tenth of the mean or above ten times it."""
    chosen = selected(locality(endpoints(len(weights))), lb=LbConfig(policy=POLICY))
    made = backends(chosen)
    for number, weight in enumerate(weights):
        made[address(number)].load = LoadWeight(weight, 50.0, 0.0)
    mean = sum(weights) / len(weights)
    bounded = [min(max(weight, mean / 10), mean * 10) for weight in weights]
    in_order = [made[address(number)] for number in range(len(weights))]
    assert load_weights(in_order, [1] * len(weights), POLICY, 60.0) == pytest.approx(bounded)
    counts = tallied(picker(chosen, made, now=60.0), 4000)
    for number, weight in enumerate(bounded):
        assert counts[address(number)] / 4000 == pytest.approx(weight / sum(bounded), abs=0.01)
