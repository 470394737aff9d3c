"""Warm-up of endpoints that have just appeared."""

from __future__ import annotations

import pytest

from meshsdk.lb.backend import Connectivity
from meshsdk.lb.slow_start import warmth
from meshsdk.model.endpoints import Endpoint
from meshsdk.model.policy import LbConfig, LeastRequest, Maglev, RandomChoice, RoundRobin, SlowStart
from tests.unit.lb.fleet import address, backends, endpoints, locality, picker, selected, tallied

WINDOW = SlowStart(window=100)


@pytest.mark.parametrize(
    ("age", "config", "factor"),
    [
        (0, WINDOW, 0.1),
        (50, WINDOW, 0.5),
        (100, WINDOW, 1),
        (1e9, WINDOW, 1),
        (-5, WINDOW, 0.1),
        (25, SlowStart(100, aggression=2), 0.5),
        (5, SlowStart(100, min_weight=0.3), 0.3),
        (0, SlowStart(100, min_weight=0), 0.001),
    ],
)
def test_warmth_follows_envoys_curve(age: float, config: SlowStart, factor: float) -> None:
    """(t / window) ** (1 / aggression), not below min_weight, not above 1, never nothing."""
    assert warmth(age, config) == pytest.approx(factor)


@pytest.mark.parametrize("policy", [RoundRobin(), RandomChoice(), LeastRequest()])
def test_a_new_instance_gets_less_until_it_is_warm(policy: RoundRobin | RandomChoice | LeastRequest) -> None:
    """Beside two warm endpoints, one that started a quarter of the window ago has a weight of 1/4; later a full one."""
    members = [*endpoints(2), Endpoint(address(2), started_at=1000)]
    chosen = selected(locality(members), lb=LbConfig(policy=policy, slow_start=WINDOW))
    made = backends(chosen)
    made[address(2)].state = Connectivity.CONNECTING
    picker(chosen, made, now=900.0)  # two are seen here; they do not tell when they began
    made[address(2)].state = Connectivity.READY
    young = picker(chosen, made, now=1025.0)
    assert tallied(young, 9000)[address(2)] / 9000 == pytest.approx(0.25 / 2.25, abs=0.02)
    assert young.expires == 1030
    warm = picker(chosen, made, now=1100.0)
    assert tallied(warm, 9000)[address(2)] / 9000 == pytest.approx(1 / 3, abs=0.02)
    assert warm.expires is None


def test_without_a_start_time_the_first_sight_counts() -> None:
    """An endpoint that connects later than the others is warmed up from when it was first seen connected."""
    chosen = selected(locality(endpoints(3)), lb=LbConfig(slow_start=WINDOW))
    made = backends(chosen)
    made[address(1)].state = Connectivity.CONNECTING
    picker(chosen, made, now=0.0)
    made[address(1)].state = Connectivity.READY
    late = picker(chosen, made, now=500.0)
    assert late.expires == 505
    assert tallied(late, 2100)[address(1)] == pytest.approx(100, abs=5)


def test_an_endpoint_that_failed_is_warmed_anew() -> None:
    """What comes back at the address after a failed connection may be another process."""
    chosen = selected(locality(endpoints(2)), lb=LbConfig(slow_start=WINDOW))
    made = backends(chosen)
    picker(chosen, made, now=0.0)
    for state, now in ((Connectivity.FAILED, 200.0), (Connectivity.READY, 300.0)):
        made[address(0)].state = state
        built = picker(chosen, made, now=now)
    assert built.expires == 305
    assert tallied(built, 1100)[address(0)] == pytest.approx(100, abs=5)


def test_a_new_process_at_an_address_is_warmed_anew() -> None:
    """A new start time means a new instance, even if the connection was never seen to fail."""
    lb = LbConfig(slow_start=WINDOW)
    before = selected(locality([Endpoint(address(0), started_at=10), *endpoints(2)[1:]]), lb=lb)
    made = backends(before)
    picker(before, made, now=100.0)
    after = selected(locality([Endpoint(address(0), started_at=1000), *endpoints(2)[1:]]), lb=lb)
    assert tallied(picker(after, made, now=1010.0), 1100)[address(0)] == pytest.approx(100, abs=5)


def test_a_clock_that_runs_ahead_does_not_keep_an_endpoint_cold() -> None:
    """A start time in the future counts as the moment we saw the endpoint."""
    chosen = selected(
        locality([Endpoint(address(0), started_at=1e9), *endpoints(2)[1:]]), lb=LbConfig(slow_start=WINDOW)
    )
    made = backends(chosen)
    picker(chosen, made, now=0.0)
    assert picker(chosen, made, now=100.0).expires is None


def test_hash_policies_have_no_slow_start() -> None:
    """Keys must not wander while an endpoint warms up."""
    chosen = selected(locality(endpoints(2)), lb=LbConfig(policy=Maglev(table_size=101), slow_start=WINDOW))
    assert picker(chosen, backends(chosen)).expires is None
