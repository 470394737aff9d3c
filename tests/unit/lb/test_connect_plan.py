"""What is connected ahead of calls."""

from __future__ import annotations

import pytest

from meshsdk.lb.backend import Connectivity
from meshsdk.lb.connect_plan import connect_plan
from meshsdk.model.policy import LbConfig, PickFirst
from tests.unit.lb.fleet import address, backends, endpoints, locality, mixed, selected

IDLE, CONNECTING, READY, FAILED = Connectivity


def nets(plan: tuple[str, ...]) -> str:
    """The networks that a plan connects to, in order."""
    return "".join(dict.fromkeys(one.split(".")[1] for one in plan))


@pytest.mark.parametrize(("state", "expected"), [(IDLE, "0"), (CONNECTING, "0"), (READY, "0"), (FAILED, "01")])
def test_the_next_priority_is_connected_when_the_first_cannot_carry(state: Connectivity, expected: str) -> None:
    """A priority that has not failed is enough; one that failed is tried on, beside the next."""
    chosen = selected(
        locality(endpoints(3)), locality(endpoints(3, 1), priority=1), locality(endpoints(3, 2), priority=2)
    )
    assert nets(connect_plan(chosen, backends(chosen, IDLE, net0=state))) == expected


def test_a_few_failures_do_not_begin_the_next_priority() -> None:
    """Overprovisioning by 1.4: two of ten may fail, with three the next priority is needed."""
    chosen = selected(locality(endpoints(10)), locality(endpoints(1, 1), priority=1))
    made = backends(chosen)
    for number, expected in enumerate(["0", "0", "01"]):
        made[address(number)].state = FAILED
        assert nets(connect_plan(chosen, made)) == expected


def test_before_anything_is_made_the_first_priority_is_planned_whole() -> None:
    """All healthy endpoints of the first priority, each once, none of the others."""
    chosen = selected(locality(mixed(healthy=3, degraded=1, draining=1)), locality(endpoints(3, 1), priority=1))
    assert sorted(connect_plan(chosen, {})) == [address(0), address(1), address(2)]


def test_degraded_endpoints_are_connected_when_healthy_ones_have_failed() -> None:
    """They come in, and the healthy ones are tried on to take over again."""
    chosen = selected(locality(mixed(healthy=2, degraded=2)))
    made = backends(chosen)
    assert set(connect_plan(chosen, made)) == {address(0), address(1)}
    made[address(0)].state = made[address(1)].state = FAILED
    assert set(connect_plan(chosen, made)) == set(made)


def test_panic_connects_unhealthy_endpoints() -> None:
    """With most endpoints unhealthy all are connected; with panic off only the healthy one."""
    members = locality(mixed(healthy=1, unhealthy=4, draining=1))
    assert len(connect_plan(selected(members), {})) == 5
    assert connect_plan(selected(members, lb=LbConfig(panic_threshold=0)), {}) == (address(0),)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([IDLE, IDLE, IDLE], [0]),
        ([CONNECTING, IDLE, IDLE], [0]),
        ([FAILED, IDLE, IDLE], [1]),
        ([FAILED, READY, IDLE], [1]),
        ([IDLE, READY, IDLE], [1]),
        ([FAILED, FAILED, FAILED], [0, 1, 2]),
    ],
)
def test_pick_first_connects_one_at_a_time(states: list[Connectivity], expected: list[int]) -> None:
    """The connected one is kept; else the first that has not failed is tried; with none left, all are."""
    chosen = selected(locality(endpoints(3)), lb=LbConfig(PickFirst()))
    made = backends(chosen)
    for number, state in enumerate(states):
        made[address(number)].state = state
    assert list(connect_plan(chosen, made)) == [address(number) for number in expected]
