"""A roster kept up to date is the roster made anew; its LEDS form has the same endpoints as its EDS form."""

from __future__ import annotations

from dataclasses import replace

import pytest
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.model.service import ServicePort, Workload
from controlplane.server.globs import collection_of, glob_of
from controlplane.translate.roster import Roster
from controlplane.translate.targets import Target
from meshsdk.model.instance import Instance, InstanceState
from meshsdk.model.resources import Locality

TARGET = Target("orders", {"app": "orders"}, None)
PREFIX = "xdstp:///envoy.config.endpoint.v3.LbEndpoint/"


def instance(number: int, **fields: object) -> Instance:
    """An instance of `orders`."""
    return Instance("orders", str(number), f"10.0.0.{number}:80", **fields)


def made(*instances: Instance, target: Target = TARGET) -> Roster:
    """The roster of these."""
    return Roster(target, (), {"orders": {each.id: each for each in instances}})


def skeleton(roster: Roster) -> endpoint_pb2.ClusterLoadAssignment:
    """The EDS resource of the LEDS form."""
    return endpoint_pb2.ClusterLoadAssignment.FromString(roster.skeleton()[0])


def weights(roster: Roster) -> list[tuple[str, int]]:
    """Zone and weight of each locality of the LEDS form."""
    return [(group.locality.zone, group.load_balancing_weight.value) for group in skeleton(roster).endpoints]


MEMBERS = st.builds(
    lambda number, octet, zone, weight, state, started: Instance(
        "orders", str(number), f"10.0.0.{octet}:80", "", "", "eu", zone, weight, {}, state, started
    ),
    st.integers(0, 8),
    st.integers(1, 5),
    st.sampled_from(["a", "b", ""]),
    st.integers(1, 400),
    st.sampled_from(InstanceState),
    st.integers(0, 2).map(float),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(MEMBERS, st.booleans()), max_size=25))
def test_kept_up_to_date_is_made_anew(steps: list[tuple[Instance, bool]]) -> None:
    """Whatever registers, changes and goes, on one address too: versions, bytes and LEDS resources are those of now."""
    known: dict[str, Instance] = {}
    kept = made()
    singles = {single.name: single for single in kept.singles()}
    for each, there in steps:
        before = known.pop(each.id, None)
        if there:
            known[each.id] = each
        was = kept.assignment()
        changed = kept.change(before, each if there else None)
        assert changed == (kept.assignment() != was)
        for name, single in kept.take_moved().items():
            if single is None:
                singles.pop(name, None)
            else:
                singles[name] = single
    fresh = made(*known.values())
    assert (kept.assignment(), kept.skeleton()) == (fresh.assignment(), fresh.skeleton())
    assert singles == {single.name: single for single in fresh.singles()}


@given(st.lists(MEMBERS, max_size=20, unique_by=lambda each: each.id))
def test_both_forms_have_the_same_endpoints(instances: list[Instance]) -> None:
    """The collections that the LEDS form names hold, locality by locality, what the EDS form lists."""
    roster = made(*instances)
    plain = endpoint_pb2.ClusterLoadAssignment.FromString(b"".join(roster.assignment()[1]))
    listed = {group.locality.zone: [e.SerializeToString() for e in group.lb_endpoints] for group in plain.endpoints}
    found: dict[str, list[bytes]] = {}
    for group in skeleton(roster).endpoints:
        assert not group.lb_endpoints  # Envoy refuses a locality with both
        key = glob_of(group.leds_cluster_locality_config.leds_collection_name).key
        members = sorted(single for single in roster.singles() if single.collection == key)
        assert all(collection_of(single.name) == key for single in members)
        values = [endpoint_components_pb2.LbEndpoint.FromString(single.value) for single in members]
        found[group.locality.zone] = [value.SerializeToString() for value in values]
    assert {zone: sorted(values) for zone, values in found.items()} == {z: sorted(v) for z, v in listed.items()}


def test_names_on_the_wire() -> None:
    """Cluster, locality and address are one percent-encoded segment each; no locality is a dash."""
    target = replace(TARGET, name="orders|v1")
    roster = made(instance(1), instance(2, region="eu", zone="a"), target=target)
    names = [group.leds_cluster_locality_config.leds_collection_name for group in skeleton(roster).endpoints]
    assert names == [PREFIX + "orders%7Cv1/-/*", PREFIX + "orders%7Cv1/eu%3Aa%3A/*"]
    assert sorted(single.name for single in roster.singles()) == [
        PREFIX + "orders%7Cv1/-/10.0.0.1%3A80",
        PREFIX + "orders%7Cv1/eu%3Aa%3A/10.0.0.2%3A80",
    ]
    source = skeleton(roster).endpoints[0].leds_cluster_locality_config.leds_config
    assert source.HasField("ads")
    assert roster.skeleton("?k=v")[1] == tuple(name + "?k=v" for name in names)


def test_weight_of_one_endpoint_is_one_small_resource() -> None:
    """Where there is one locality its weight means nothing; where there are more it follows within one per cent."""
    alone = made(*(instance(number, zone="a") for number in range(1, 4)))
    before = alone.skeleton()
    assert alone.change(instance(1, zone="a"), instance(1, zone="a", weight=50))
    assert alone.skeleton() == before
    assert alone.change(None, instance(4, zone="b", weight=3))
    assert weights(alone) == [("a", 52), ("b", 3)]
    assert alone.change(instance(1, zone="a", weight=50), instance(1, zone="a", weight=10_000))
    ((_, a), (_, b)) = weights(alone)
    assert a == pytest.approx(10_002, rel=0.008)
    assert b == 3
    said = alone.skeleton()
    assert alone.change(instance(1, zone="a", weight=10_000), instance(1, zone="a", weight=10_001))
    assert alone.skeleton() == said


def test_an_instance_stands_before_a_workload() -> None:
    """On an address that is both configured and registered the instance is shown, and the workload when it went."""
    workload = Workload("10.0.0.1", {"grpc": 81}, {"app": "orders"}, Locality(), 7)
    roster = Roster(replace(TARGET, port=ServicePort(80, "grpc", "GRPC")), [workload], {})
    assert [single.name.rpartition("/")[2] for single in roster.singles()] == ["10.0.0.1%3A81"]
    registered = Instance("orders", "1", "10.0.0.1:81", weight=2)
    assert roster.change(None, registered)
    assert [each.load_balancing_weight.value for each in _endpoints(roster)] == [2]
    assert roster.change(registered, None)
    assert [each.load_balancing_weight.value for each in _endpoints(roster)] == [7]


def _endpoints(roster: Roster) -> list[endpoint_components_pb2.LbEndpoint]:
    plain = endpoint_pb2.ClusterLoadAssignment.FromString(b"".join(roster.assignment()[1]))
    return [endpoint for group in plain.endpoints for endpoint in group.lb_endpoints]
