"""Ejected endpoints in pickers: not picked, counted as unhealthy, back as they were."""

from __future__ import annotations

import random

import pytest

from meshsdk.lb.backend import Connectivity
from meshsdk.lb.outage import Failing
from meshsdk.lb.picker import build
from meshsdk.model.endpoints import Endpoint
from meshsdk.model.policy import LbConfig, LeastRequest, Maglev, PickFirst, RandomChoice, RingHash, RoundRobin
from tests.unit.lb.fleet import address, backends, by_net, endpoints, locality, picker, selected, tallied

POLICIES = [RoundRobin(), RandomChoice(), LeastRequest(), PickFirst(), RingHash(), Maglev(table_size=251)]


@pytest.mark.parametrize("policy", POLICIES)
def test_an_ejected_endpoint_gets_no_calls_until_it_is_back(policy) -> None:
    """Under every policy."""
    chosen = selected(locality(endpoints(4)), lb=LbConfig(policy=policy))
    made = backends(chosen)
    made[address(0)].ejected = True
    keys = [random.Random(number).getrandbits(64) for number in range(2000)]
    assert address(0) not in tallied(picker(chosen, made), 2000, keys)
    made[address(0)].ejected = False
    assert address(0) in tallied(picker(chosen, made), 2000, keys)


@pytest.mark.parametrize("policy", [RingHash(), Maglev(table_size=251)])
def test_an_ejection_moves_only_its_own_keys(policy) -> None:
    """The keys of the other endpoints stay where they were."""
    chosen = selected(locality(endpoints(5)), lb=LbConfig(policy=policy))
    made = backends(chosen)
    keys = [random.Random(number).getrandbits(64) for number in range(2000)]
    before = [picker(chosen, made).pick(key).endpoint.address for key in keys]
    made[address(1)].ejected = True
    built = picker(chosen, made)
    after = [built.pick(key).endpoint.address for key in keys]
    moved = {was for was, now in zip(before, after, strict=True) if was != now}
    assert moved == {address(1)}


def test_ejected_endpoints_lower_the_health_of_their_priority() -> None:
    """With three of five out, 2/5 * 1.4 = 56 % of the calls stay, the others go to the next priority."""
    chosen = selected(locality(endpoints(5)), locality(endpoints(5, net=1), priority=1), lb=LbConfig(panic_threshold=0))
    made = backends(chosen)
    for number in range(3):
        made[address(number)].ejected = True
    assert by_net(tallied(picker(chosen, made), 20000))["0"] == pytest.approx(0.56, abs=0.02)


def test_a_priority_that_panics_uses_its_ejected_endpoints() -> None:
    """With three of five out, less than half are healthy: all five are used."""
    chosen = selected(locality(endpoints(5)))
    made = backends(chosen)
    for number in range(3):
        made[address(number)].ejected = True
    assert len(tallied(picker(chosen, made), 100)) == 5
    made[address(2)].ejected = False
    assert len(tallied(picker(chosen, made), 100)) == 3


def test_without_panic_nothing_is_picked_when_all_are_out() -> None:
    """The error says why."""
    chosen = selected(locality(endpoints(2)), lb=LbConfig(panic_threshold=0))
    made = backends(chosen)
    for backend in made.values():
        backend.ejected = True
    built = build(chosen, made, 0.0, random.random)
    assert built == Failing("cluster 'orders' has no usable endpoint: 2 ejected as outliers")
    made[address(1)].ejected = False
    made[address(1)].state = Connectivity.FAILED
    built = build(chosen, made, 0.0, random.random)
    words = "cluster 'orders': 1 of 2 endpoints failed to connect; 1 ejected as outliers"
    assert built == Failing(words)


def test_pick_first_moves_on_from_an_ejected_endpoint() -> None:
    """The next endpoint takes all calls while the first one is out."""
    chosen = selected(locality([Endpoint("10.0.0.1:1"), Endpoint("10.0.0.2:1")]), lb=LbConfig(policy=PickFirst()))
    made = backends(chosen)
    made["10.0.0.1:1"].ejected = True
    assert set(tallied(picker(chosen, made), 10)) == {"10.0.0.2:1"}
