"""LEDS: localities that name a collection, and the resources in it (envoy.config.endpoint.v3)."""

from __future__ import annotations

import pytest

from meshsdk.errors import InvalidResource
from meshsdk.model.collection import LbEndpoint
from meshsdk.model.endpoints import Endpoint, Health
from meshsdk.model.resources import ClusterEndpoints, Kind, Locality
from meshsdk.xds_client.codec import decode
from tests.unit.xds_client.codec.messages import Json, assignment, cluster, endpoint, lb_endpoint, leds, locality

FORM = "xdstp://AUTHORITY/envoy.config.endpoint.v3.LbEndpoint/.../*"
NAME = "xdstp:///envoy.config.endpoint.v3.LbEndpoint/orders/-/*"


def decoded(raw: bytes) -> ClusterEndpoints:
    """Returns an EDS resource that must be accepted."""
    _, resource = decode(Kind.ENDPOINTS, raw)
    assert isinstance(resource, ClusterEndpoints)
    return resource


def refusal(raw: bytes, kind: Kind = Kind.ENDPOINTS) -> str:
    """Returns the text of the NACK."""
    with pytest.raises(InvalidResource) as caught:
        decode(kind, raw)
    return str(caught.value)


def test_locality_of_a_collection() -> None:
    """A locality may name a collection beside others that list their endpoints; both keep weight and priority."""
    inline = locality(endpoint(), zone="b", weight=2)
    found = decoded(assignment(locality(leds_cluster_locality_config=leds(), weight=7, priority=0), inline))
    places = [(one.locality, one.weight, one.collection, len(one.endpoints)) for one in found.localities]
    assert places == [(Locality(zone="a"), 7, NAME, 0), (Locality(zone="b"), 2, "", 1)]
    assert found.ignored == ()


def test_name_with_parameters_is_canonical() -> None:
    """Context parameters come in any order; the collection has one name."""
    config = leds(f"{NAME}?xds.node.id=n&a=b")
    (place,) = decoded(assignment(locality(leds_cluster_locality_config=config))).localities
    assert place.collection == f"{NAME}?a=b&xds.node.id=n"


def test_locality_without_weight() -> None:
    """A27: a locality without weight gets no calls, so its collection is not asked for, and the field is listed."""
    found = decoded(assignment(locality(leds_cluster_locality_config=leds(), weight=0)))
    assert found.localities == ()
    assert found.ignored == ("endpoints.leds_cluster_locality_config",)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            locality(endpoint(), leds_cluster_locality_config=leds()),
            "leds_cluster_locality_config: is set beside lb_endpoints; a locality has one or the other",
        ),
        (
            locality(leds_cluster_locality_config=leds(leds_config={"path": "/etc/leds"})),
            "leds_cluster_locality_config.leds_config: must be ads or self, is 'path'",
        ),
        *(
            (
                locality(leds_cluster_locality_config=leds(name)),
                f"leds_cluster_locality_config.leds_collection_name: {name!r} is not {FORM}",
            )
            for name in (
                "",
                "x/*",
                "xdstp:///envoy.config.endpoint.v3.LbEndpoint/orders",
                "xdstp:///envoy.config.endpoint.v3.LbEndpoint",
                "xdstp:///envoy.config.cluster.v3.Cluster/*",
                "xdstp:///envoy.config.endpoint.v3.LbEndpoint/*#alt=x",
            )
        ),
    ],
)
@pytest.mark.parametrize("weight", [0, 1])
def test_locality_refused(fields: Json, words: str, weight: int) -> None:
    """Both forms at once (as in Envoy), another source than ADS, and names of no glob refuse the resource."""
    raw = assignment(locality(endpoint("10.9.9.9"), zone="x"), {**fields, "load_balancing_weight": weight})
    assert refusal(raw) == f"ClusterLoadAssignment 'orders': endpoints[1].{words}"


def test_one_collection_in_two_localities() -> None:
    """Its endpoints would be in two localities."""
    places = [locality(leds_cluster_locality_config=leds(), zone=zone) for zone in "ab"]
    assert "the collection 'xdstp:///envoy.config.endpoint.v3.LbEndpoint/orders/-/*' is in two" in refusal(
        assignment(*places)
    )


def test_change_from_list_to_collection() -> None:
    """A newer version may move a locality from one form to the other, whatever was known of the older one."""
    listed, named = assignment(locality(endpoint())), assignment(locality(leds_cluster_locality_config=leds()))
    for before, after in ((listed, named), (named, listed)):
        _, stepped = decode(Kind.ENDPOINTS, after, decoded(before), before)
        assert stepped == decoded(after)


def test_static_cluster_has_no_collections() -> None:
    """A STATIC cluster lists its endpoints; there is no EDS resource whose collections could be followed."""
    config = {"cluster_name": "orders", "endpoints": [locality(leds_cluster_locality_config=leds())]}
    raw = cluster(type="STATIC", eds_cluster_config=None, load_assignment=config)
    words = refusal(raw, Kind.CLUSTER)
    assert words == "Cluster 'orders': load_assignment.endpoints: names a LEDS collection, which only EDS resources may"


def test_resource_of_a_collection() -> None:
    """An endpoint is read as in EDS, with the paths that have no effect here; its name is not inside."""
    raw = lb_endpoint(load_balancing_weight=3, health_status="DRAINING", metadata={"filter_metadata": {"x": {"y": 1}}})
    expected = LbEndpoint(Endpoint("10.0.0.1:80", 3, Health.DRAINING), ("metadata.filter_metadata.x.y",))
    assert decode(Kind.LB_ENDPOINTS, raw) == ("", expected)


def test_bad_resource_of_a_collection() -> None:
    """What EDS refuses of an endpoint is refused here, with the field."""
    words = "LbEndpoint: endpoint.address.socket_address.port_value: 0 is not in 1 to 65535"
    assert refusal(lb_endpoint(port=0), Kind.LB_ENDPOINTS) == words
    assert refusal(b"\xff", Kind.LB_ENDPOINTS).endswith("is not a serialised envoy.config.endpoint.v3.LbEndpoint")
