"""EDS resources: who belongs to a target, and that gRPC's own clients take the result (gRFC A27)."""

from __future__ import annotations

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from google.protobuf.any_pb2 import Any
from hypothesis import given
from hypothesis import strategies as st

from controlplane.config.documents import parse
from controlplane.config.merge import merge
from controlplane.model.configuration import Configuration
from controlplane.translate import roster
from controlplane.translate.describe import endpoint_rows
from controlplane.translate.roster import load_assignment
from controlplane.translate.targets import Target, targets
from meshsdk.model.instance import Instance, InstanceState
from meshsdk.model.resources import Locality

HEAD = "apiVersion: networking.istio.io/v1\nkind: {}\nmetadata: {{name: {}}}\nspec: "
SELECTED = (
    HEAD.format("ServiceEntry", "shop")
    + "{hosts: [shop], ports: [{number: 80, name: grpc}], resolution: STATIC, "
    + "workloadSelector: {labels: {role: web}}}\n"
    + "---\n"
    + HEAD.format("DestinationRule", "shop")
    + "{host: shop, subsets: [{name: v1, labels: {version: v1}}, {name: never, labels: {role: db}}]}\n---\n"
    + HEAD.format("WorkloadEntry", "w")
    + "{address: 10.9.9.9, ports: {grpc: 81}, labels: {role: web, version: v1}}\n"
)


def configuration(text: str = "") -> Configuration:
    """Returns the configuration of a text."""
    return merge(parse(text, "f.yaml")).configuration


def unpacked(packed: Any) -> endpoint_pb2.ClusterLoadAssignment:
    """Returns the message in a resource."""
    message = endpoint_pb2.ClusterLoadAssignment()
    assert packed.Unpack(message)
    return message


def addresses(target: Target, found: Configuration, *instances: Instance) -> list[str]:
    """Returns the addresses of a target."""
    groups: dict[str, dict[str, Instance]] = {}
    for instance in instances:
        groups.setdefault(instance.app, {})[instance.id] = instance
    message = load_assignment(target, [entry.workload for entry in found.workloads], groups)
    return [str(row["address"]) for row in endpoint_rows(message.SerializeToString())]


def instance(number: int, app: str = "orders", **fields: object) -> Instance:
    """Returns an instance."""
    return Instance(app, str(number), f"10.0.0.{number}:80", **fields)


def test_application_without_configuration_is_a_service() -> None:
    """Instances of an application are the endpoints of the host of that name, whatever their labels say."""
    (target,) = targets("orders", configuration())
    found = addresses(target, configuration(), instance(1), instance(2, labels={"app": "x"}), instance(3, "users"))
    assert found == ["10.0.0.1:80", "10.0.0.2:80"]


def test_only_online_and_draining_instances_are_shown() -> None:
    """STARTING and OFFLINE instances are in the registry and not among the endpoints."""
    (target,) = targets("orders", configuration())
    states = [instance(number, state=state) for number, state in enumerate(InstanceState, 1)]
    message = load_assignment(target, [], {"orders": {each.id: each for each in states}})
    rows = endpoint_rows(message.SerializeToString())
    assert [(row["address"], row["health"]) for row in rows] == [
        ("10.0.0.2:80", "HEALTHY"),
        ("10.0.0.3:80", "DRAINING"),
    ]


def test_selector_finds_workloads_and_instances() -> None:
    """A selector picks WorkloadEntries and registered instances of any application; subsets narrow it."""
    found = configuration(SELECTED)
    whole, v1, never = targets("shop", found)
    instances = [
        instance(1, "a", labels={"role": "web"}),
        instance(2, "b", labels={"role": "web", "version": "v1"}),
        instance(3, "a", labels={"role": "db"}),
    ]
    assert addresses(whole, found, *instances) == ["10.0.0.1:80", "10.0.0.2:80", "10.9.9.9:81"]
    assert addresses(v1, found, *instances) == ["10.0.0.2:80", "10.9.9.9:81"]
    assert addresses(never, found, *instances) == []
    assert whole.app is None


def test_listed_endpoints_stand_alone() -> None:
    """A ServiceEntry that lists endpoints has those, and no instances that happen to register."""
    found = configuration(
        HEAD.format("ServiceEntry", "orders")
        + "{hosts: [orders], ports: [{number: 80, name: grpc}], resolution: STATIC, endpoints: [{address: 10.5.5.5}]}\n"
    )
    (target,) = targets("orders", found)
    assert addresses(target, found, instance(1)) == ["10.5.5.5:80"]


def test_younger_of_two_instances_on_one_address_is_shown() -> None:
    """An instance that was killed and came back on its address under a new id appears once, as the new one."""
    (target,) = targets("orders", configuration())
    old = Instance("orders", "old", "10.0.0.1:80", weight=1, started_at=100.0)
    new = Instance("orders", "new", "10.0.0.1:80", weight=2, started_at=200.0)
    message = load_assignment(target, [], {"orders": {"new": new, "old": old}})
    rows = list(endpoint_rows(message.SerializeToString()))
    assert [(row["address"], row["weight"]) for row in rows] == [("10.0.0.1:80", 2)]


INSTANCES = st.builds(
    lambda number, octet, zone, weight, state, started: Instance(
        "orders", str(number), f"10.0.0.{octet}:80", "", "", "eu", zone, weight, {}, state, started
    ),
    st.integers(0, 30),
    st.integers(1, 20),
    st.sampled_from(["a", "b", ""]),
    st.integers(1, 65_535),
    st.sampled_from(InstanceState),
    st.floats(0, 2e9),
)


@given(st.lists(INSTANCES, max_size=40))
def test_result_is_valid_for_grpc(instances: list[Instance]) -> None:
    """Whatever registers: no address twice, no locality twice, weights above 0 whose sum fits 32 bits, priority 0."""
    (target,) = targets("orders", configuration())
    message = unpacked(load_assignment(target, [], {"orders": {each.id: each for each in instances}}))
    sockets = [
        endpoint.endpoint.address.socket_address.address
        for group in message.endpoints
        for endpoint in group.lb_endpoints
    ]
    assert len(set(sockets)) == len(sockets)
    localities = [Locality(g.locality.region, g.locality.zone, g.locality.sub_zone) for g in message.endpoints]
    assert len(set(localities)) == len(localities)
    assert all(group.HasField("locality") and group.priority == 0 for group in message.endpoints)
    weights = [group.load_balancing_weight.value for group in message.endpoints]
    assert all(weights)
    assert sum(weights) < 2**32


def test_weights_beyond_the_limit_are_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Localities whose weights sum up to more than clients take keep their proportion."""
    monkeypatch.setattr(roster, "_WEIGHTS", 1_000)
    (target,) = targets("orders", configuration())
    many = {"1": instance(1, zone="a", weight=900), "2": instance(2, zone="b", weight=300)}
    message = unpacked(load_assignment(target, [], {"orders": many}))
    assert [group.load_balancing_weight.value for group in message.endpoints] == [375, 125]
