"""Spreading a priority's calls over its localities."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.lb.backend import Connectivity
from meshsdk.model.policy import LbConfig, LeastRequest, RandomChoice
from tests.unit.lb.fleet import backends, by_net, endpoints, locality, mixed, picker, selected, tallied

ZONES = LbConfig(zone_preference=True, locality_weighted=False)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=5), st.sampled_from([RandomChoice(), LeastRequest(), None]))
def test_localities_get_calls_by_their_weights(weights: list[int], policy: RandomChoice | LeastRequest | None) -> None:
    """Whatever the weights and the numbers of endpoints, each locality gets its share of 1,000 calls."""
    localities = [
        locality(endpoints(2 + net, net), weight=weight, zone=f"z{net}") for net, weight in enumerate(weights)
    ]
    chosen = selected(*localities, lb=LbConfig(policy=policy) if policy else LbConfig())
    got = by_net(tallied(picker(chosen, backends(chosen)), 1000))
    for net, weight in enumerate(weights):
        assert got.get(str(net), 0) == pytest.approx(weight / sum(weights), abs=0.01)


def test_a_locality_that_loses_endpoints_keeps_its_share_first() -> None:
    """With 3 of 4 endpoints usable (x 1.4 is more than 1) the share stays; with 1 of 4 it is 35 % of its weight."""
    for usable, expected in ((3, 0.5), (1, 0.35 / 1.35)):
        chosen = selected(
            locality(mixed(0, healthy=usable, unhealthy=4 - usable), zone="a"),
            locality(endpoints(40, 1), zone="b"),
        )
        got = by_net(tallied(picker(chosen, backends(chosen)), 2000))
        assert got["0"] == pytest.approx(expected, abs=0.01)


def test_a_locality_with_nothing_connected_gives_its_share_away() -> None:
    """Calls do not wait for the connections of one locality while another has some."""
    chosen = selected(locality(endpoints(3, 0), zone="a"), locality(endpoints(3, 1), zone="b"))
    got = by_net(tallied(picker(chosen, backends(chosen, net0=Connectivity.CONNECTING)), 100))
    assert got == {"1": 1.0}


def test_without_weights_localities_are_one_pool() -> None:
    """With locality weights off, each endpoint gets the same, wherever it is."""
    chosen = selected(
        locality(endpoints(1, 0), zone="a", weight=9),
        locality(endpoints(3, 1), zone="b", weight=1),
        lb=LbConfig(locality_weighted=False),
    )
    assert by_net(tallied(picker(chosen, backends(chosen)), 1000)) == {"0": 0.25, "1": 0.75}


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((4, 4, 4), {"0": 1.0}),  # its fair third: all stays
        ((8, 2, 2), {"0": 1.0}),
        ((2, 4, 4), {"0": 0.6, "1": 0.2, "2": 0.2}),  # a fifth of the endpoints, for a third of the callers
        ((1, 8, 3), {"0": 0.25, "1": 0.75}),  # only zone 1 has more than a third to lend
        ((3,), {"0": 1.0}),
    ],
)
def test_calls_stay_in_the_zone_as_far_as_its_endpoints_carry_them(
    sizes: tuple[int, ...], expected: dict[str, float]
) -> None:
    """A client in zone 0 uses its zone up to the load that endpoints elsewhere have."""
    zones = [locality(endpoints(size, net), zone=f"z{net}") for net, size in enumerate(sizes)]
    chosen = selected(*zones, lb=ZONES, zone="z0")
    assert by_net(tallied(picker(chosen, backends(chosen)), 5000)) == pytest.approx(expected, abs=0.005)


def test_each_endpoint_gets_the_same_when_every_zone_prefers_itself() -> None:
    """Clients spread evenly over zones of 2, 5 and 8 endpoints together load all endpoints alike."""
    zones = [locality(endpoints(size, net), zone=f"z{net}") for net, size in enumerate((2, 5, 8))]
    total = dict.fromkeys("012", 0.0)
    for zone in ("z0", "z1", "z2"):
        chosen = selected(*zones, lb=ZONES, zone=zone)
        for net, share in by_net(tallied(picker(chosen, backends(chosen)), 5000)).items():
            total[net] += share / 3
    assert total == pytest.approx({"0": 2 / 15, "1": 5 / 15, "2": 8 / 15}, abs=0.01)


def test_failed_endpoints_lower_a_zones_capacity() -> None:
    """When the local zone cannot be reached, calls go to the other zones by their endpoints."""
    zones = [locality(endpoints(size, net), zone=f"z{net}") for net, size in enumerate((4, 1, 3))]
    chosen = selected(*zones, lb=ZONES, zone="z0")
    got = by_net(tallied(picker(chosen, backends(chosen, net0=Connectivity.FAILED)), 4000))
    assert got == pytest.approx({"1": 0.25, "2": 0.75}, abs=0.01)


def test_a_zone_that_is_still_connecting_holds_no_call_back() -> None:
    """At the start, calls go to whichever zone is connected."""
    zones = [locality(endpoints(3, net), zone=f"z{net}") for net in range(2)]
    chosen = selected(*zones, lb=ZONES, zone="z0")
    got = by_net(tallied(picker(chosen, backends(chosen, net0=Connectivity.CONNECTING)), 100))
    assert got == {"1": 1.0}


@pytest.mark.parametrize("zone", ["", "elsewhere"])
def test_a_client_outside_all_zones_has_no_preference(zone: str) -> None:
    """Without a zone of its own, or in one without endpoints, a client uses all endpoints alike."""
    zones = [locality(endpoints(size, net), zone=f"z{net}") for net, size in enumerate((1, 3))]
    chosen = selected(*zones, lb=ZONES, zone=zone)
    assert by_net(tallied(picker(chosen, backends(chosen)), 400)) == {"0": 0.25, "1": 0.75}


def test_panic_ends_zone_preference() -> None:
    """In panic every endpoint is used, in all zones alike."""
    zones = [locality(mixed(net, healthy=1, unhealthy=3), zone=f"z{net}") for net in range(2)]
    chosen = selected(*zones, lb=ZONES, zone="z0")
    assert by_net(tallied(picker(chosen, backends(chosen)), 800)) == {"0": 0.5, "1": 0.5}
