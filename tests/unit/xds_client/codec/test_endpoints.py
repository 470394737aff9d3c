"""EDS: what a ClusterLoadAssignment becomes, and why one is refused (gRFC A27, A32, A52, A76)."""

from __future__ import annotations

from typing import Any

import pytest

from meshsdk.errors import InvalidResource
from meshsdk.model.endpoints import Endpoint, Health
from meshsdk.model.resources import ClusterEndpoints, Drop, Kind, Locality
from meshsdk.xds_client.codec import decode
from tests.unit.xds_client.codec.messages import Json, assignment, endpoint, locality


def decoded(raw: bytes) -> ClusterEndpoints:
    """Returns a resource that must be accepted."""
    name, resource = decode(Kind.ENDPOINTS, raw)
    assert isinstance(resource, ClusterEndpoints)
    assert resource.name == name == "orders"
    return resource


def only(raw: bytes) -> Endpoint:
    """Returns the only endpoint of a resource."""
    (one,) = (found for place in decoded(raw).localities for found in place.endpoints)
    return one


def refusal(raw: bytes) -> str:
    """Returns the text of the NACK after the resource's name."""
    with pytest.raises(InvalidResource) as caught:
        decode(Kind.ENDPOINTS, raw)
    assert caught.value.name == "orders"
    prefix = "ClusterLoadAssignment 'orders': "
    assert str(caught.value).startswith(prefix)
    return str(caught.value).removeprefix(prefix)


def test_no_localities() -> None:
    """A cluster without any endpoint is a valid state."""
    assert decoded(assignment()).localities == ()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (endpoint(), Endpoint("10.0.0.1:80")),
        (endpoint("2001:db8::1", 443), Endpoint("[2001:db8::1]:443")),
        ({"endpoint": {"address": {"pipe": {"path": "/run/x.sock"}}}}, Endpoint("unix:/run/x.sock")),
        ({"endpoint": {"address": {"pipe": {"path": "@abstract"}}}}, Endpoint("unix-abstract:abstract")),
        (endpoint(load_balancing_weight=7), Endpoint("10.0.0.1:80", weight=7)),
        (endpoint(health_status="HEALTHY"), Endpoint("10.0.0.1:80")),
        (endpoint(health_status="UNHEALTHY"), Endpoint("10.0.0.1:80", health=Health.UNHEALTHY)),
        (endpoint(health_status="TIMEOUT"), Endpoint("10.0.0.1:80", health=Health.UNHEALTHY)),
        (endpoint(health_status="DRAINING"), Endpoint("10.0.0.1:80", health=Health.DRAINING)),
        (endpoint(health_status="DEGRADED"), Endpoint("10.0.0.1:80", health=Health.DEGRADED)),
        (
            endpoint(metadata={"filter_metadata": {"meshsdk": {"started_at": 1.7e9, "labels": {"version": "v1"}}}}),
            Endpoint("10.0.0.1:80", started_at=1.7e9),
        ),
        (
            endpoint(metadata={"filter_metadata": {"envoy.lb": {"hash_key": "blue"}}}),
            Endpoint("10.0.0.1:80", hash_key="blue"),
        ),
    ],
)
def test_endpoint(fields: Json, expected: Endpoint) -> None:
    """Each form of address, every health status, weight and metadata of an endpoint are read as they mean."""
    raw = assignment(locality(fields))
    assert only(raw) == expected
    assert decoded(raw).ignored == ()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (endpoint(port=0), "endpoint.address.socket_address.port_value: 0 is not in 1 to 65535"),
        (endpoint(port=65536), "endpoint.address.socket_address.port_value: 65536 is not in 1 to 65535"),
        (
            {"endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "named_port": "http"}}}},
            "endpoint.address.socket_address.port_value: is not set",
        ),
        (endpoint("orders.local"), "endpoint.address.socket_address.address: 'orders.local' is not an IP address"),
        (endpoint("10.0.0"), "endpoint.address.socket_address.address: '10.0.0' is not an IP address"),
        (endpoint("::zz"), "endpoint.address.socket_address.address: '::zz' is not an IP address"),
        (endpoint("10.0.0.1\0"), r"endpoint.address.socket_address.address: '10.0.0.1\x00' is not an IP address"),
        ({"endpoint": {}}, "endpoint.address: is not set"),
        ({"endpoint": {"address": {"pipe": {"path": ""}}}}, "endpoint.address.pipe.path: '' is not a path"),
        (
            {"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": "x"}}}},
            "endpoint.address: 'envoy_internal_address' is not supported",
        ),
        (
            {"endpoint": {"address": {"socket_address": {"protocol": "UDP", "address": "10.0.0.1", "port_value": 1}}}},
            "endpoint.address.socket_address.protocol: must be TCP",
        ),
        ({"endpoint_name": "one"}, "endpoint_name: is not supported"),
        (endpoint(load_balancing_weight=0), "load_balancing_weight: must be 1 or more"),
        (endpoint(health_status=77), "health_status: 77 is not a known status"),
        (
            endpoint(metadata={"filter_metadata": {"meshsdk": {"started_at": "noon"}}}),
            "metadata.filter_metadata.meshsdk.started_at: must be a number of zero or more",
        ),
        (
            endpoint(metadata={"filter_metadata": {"meshsdk": {"started_at": -1}}}),
            "metadata.filter_metadata.meshsdk.started_at: must be a number of zero or more",
        ),
    ],
)
def test_endpoint_refused(fields: Json, words: str) -> None:
    """A bad endpoint refuses the resource; the text points at its index and field."""
    good = [endpoint(f"10.1.0.{i}") for i in range(70)]
    text = refusal(assignment(locality(), locality(*good, fields, zone="b")))
    assert text == f"endpoints[1].lb_endpoints[70].{words}"


def test_localities() -> None:
    """Localities come out by priority and name, with their weights; the same name may stand in two priorities."""
    raw = assignment(
        locality(endpoint("10.0.0.1"), zone="b", weight=3, priority=1),
        locality(endpoint("10.0.0.2"), zone="b", weight=2),
        locality(endpoint("10.0.0.3"), zone="a", locality={"region": "r", "zone": "a", "sub_zone": "s"}),
        policy={"overprovisioning_factor": 200},
    )
    found = decoded(raw)
    assert [(one.locality, one.priority, one.weight) for one in found.localities] == [
        (Locality("", "b", ""), 0, 2),
        (Locality("r", "a", "s"), 0, 1),
        (Locality("", "b", ""), 1, 3),
    ]
    assert found.overprovisioning == 2.0


def test_locality_without_weight() -> None:
    """A27: a locality without weight gets no calls, counts for no check, and is listed."""
    raw = assignment(locality(endpoint("not an address"), weight=0, priority=5), locality(endpoint(), zone="b"))
    found = decoded(raw)
    assert [one.locality.zone for one in found.localities] == ["b"]
    assert found.ignored == ("endpoints.lb_endpoints",)


@pytest.mark.parametrize(
    ("localities", "words"),
    [
        ([{"load_balancing_weight": 1}], "endpoints[0].locality: is not set"),
        (
            [locality(endpoint(), endpoint())],
            "endpoints[0].lb_endpoints[1]: the address '10.0.0.1:80' is there twice",
        ),
        (
            [locality(endpoint()), locality(endpoint(), zone="b")],
            "endpoints: the address '10.0.0.1:80' is in two localities",
        ),
        ([locality(), locality()], "endpoints: the locality '/a/' is twice in priority 0"),
        ([locality(), locality(priority=2)], "endpoints: priority 1 has no locality with weight, while 2 has"),
        ([locality(priority=1)], "endpoints: priority 0 has no locality with weight, while 1 has"),
        ([locality(priority=129)], "endpoints[0].priority: 129 is more than 128"),
        (
            [locality(weight=2**32 - 1), locality(zone="b")],
            "endpoints: the weights in priority 0 add up to more than 4294967295",
        ),
        (
            [locality(endpoint(load_balancing_weight=2**32 - 1), endpoint("10.0.0.2"))],
            "endpoints[0].lb_endpoints: the sum of the weights is 4294967296, more than 4294967295",
        ),
        (
            [locality(load_balancer_endpoints={})],
            "endpoints[0].load_balancer_endpoints: is not supported",
        ),
    ],
)
def test_localities_refused(localities: list[Json], words: str) -> None:
    """Doubles, gaps in priorities and sums beyond a uint32 refuse the resource (A27)."""
    assert refusal(assignment(*localities)) == words


@pytest.mark.parametrize("many", [2, 60])
def test_same_address_in_two_of_many_localities(many: int) -> None:
    """An address in two localities is found however the endpoints spread."""
    places = [locality(*(endpoint(f"10.{i}.0.{j}") for j in range(5)), zone=f"z{i}") for i in range(many)]
    places[-1]["lb_endpoints"].append(endpoint("10.0.0.0"))
    assert refusal(assignment(*places)) == "endpoints: the address '10.0.0.0:80' is in two localities"


@pytest.mark.parametrize(
    ("percentage", "expected"),
    [
        ({"numerator": 5}, 50_000),
        ({"numerator": 5, "denominator": "TEN_THOUSAND"}, 500),
        ({"numerator": 5, "denominator": "MILLION"}, 5),
        ({"numerator": 300}, 1_000_000),
        ({}, 0),
    ],
)
def test_drops(percentage: Json, expected: int) -> None:
    """Drop shares are parts per million, at most all."""
    raw = assignment(policy={"drop_overloads": [{"category": "lb", "drop_percentage": percentage}]})
    assert decoded(raw).drops == (Drop("lb", expected),)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"drop_overloads": [{}]}, "policy.drop_overloads[0].category: is empty"),
        (
            {"drop_overloads": [{"category": "x", "drop_percentage": {"denominator": 9}}]},
            "policy.drop_overloads[0].drop_percentage.denominator: 9 is not a known denominator",
        ),
        ({"overprovisioning_factor": 0}, "policy.overprovisioning_factor: must be 1 or more"),
    ],
)
def test_policy_refused(policy: Json, words: str) -> None:
    """Drops need a category and a denominator; a factor of zero would leave no endpoint its share."""
    assert refusal(assignment(policy=policy)) == words


def test_ignored_fields_are_listed() -> None:
    """Every field that is set and has no effect is listed once, however many endpoints set it."""
    one: dict[str, Any] = endpoint(metadata={"filter_metadata": {"istio": {"workload": "w"}, "envoy.lb": {"x": 1}}})
    one["endpoint"]["hostname"] = "orders.local"
    two: dict[str, Any] = endpoint("10.0.0.2")
    two["endpoint"]["hostname"] = "orders.local"
    two["endpoint"]["additional_addresses"] = [
        {"address": {"socket_address": {"address": "10.0.0.3", "port_value": 1}}}
    ]
    two["endpoint"]["address"]["socket_address"]["resolver_name"] = "dns"
    raw = assignment(
        locality(one, two, proximity=3), policy={"endpoint_stale_after": "3s"}, named_endpoints={"x": {"hostname": "y"}}
    )
    assert decoded(raw).ignored == (
        "endpoints.lb_endpoints.endpoint.additional_addresses",
        "endpoints.lb_endpoints.endpoint.address.socket_address.resolver_name",
        "endpoints.lb_endpoints.endpoint.hostname",
        "endpoints.lb_endpoints.metadata.filter_metadata.envoy.lb.x",
        "endpoints.lb_endpoints.metadata.filter_metadata.istio.workload",
        "endpoints.proximity",
        "named_endpoints",
        "policy.endpoint_stale_after",
    )


def test_more_endpoints_than_a_block() -> None:
    """A locality of several blocks loses none of its endpoints."""
    raw = assignment(locality(*(endpoint(f"10.0.{i // 250}.{i % 250}") for i in range(1000))))
    (place,) = decoded(raw).localities
    assert sorted(one.address for one in place.endpoints) == sorted(
        f"10.0.{i // 250}.{i % 250}:80" for i in range(1000)
    )
