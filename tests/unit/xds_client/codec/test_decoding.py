"""The codec's entrances: unwrapping, names, reuse, and bytes from hell."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.any_pb2 import Any as PackedAny
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshsdk.errors import InvalidResource
from meshsdk.model.resources import Kind, Resource
from meshsdk.xds_client.codec import decode, unwrap
from tests.unit.xds_client.codec.messages import (
    Json,
    assignment,
    cluster,
    endpoint,
    host,
    lb_policy,
    leds,
    listener,
    locality,
    manager,
    route_config,
    to,
)

FIELD = {
    "filter": "envoy.filters.http.grpc_field_extraction",
    "path": [{"key": "a.b"}],
    "value": {"present_match": True},
}
HEADERS: list[Json] = [
    {"name": "x", "safe_regex_match": {"regex": "a+b"}},
    {"name": "y", "range_match": {"start": 1, "end": 5}},
    {"name": "z", "string_match": {"prefix": "p"}},
]
RICH_ROUTES: Json = {
    "match": {
        "prefix": "/a",
        "headers": HEADERS,
        "dynamic_metadata": [FIELD],
        "runtime_fraction": {"default_value": {}},
    },
    "route": {
        "weighted_clusters": {"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 2}]},
        "retry_policy": {"retry_on": "unavailable", "retry_back_off": {"base_interval": "1s"}},
        "hash_policy": [{"header": {"header_name": "u", "regex_rewrite": {"pattern": {"regex": "b"}}}}],
        "max_stream_duration": {"max_stream_duration": "5s"},
    },
}
VALID: dict[Kind, list[bytes]] = {
    Kind.LISTENER: [
        listener(),
        listener(manager(rds=None, route_config={"virtual_hosts": [host(RICH_ROUTES)]})),
    ],
    Kind.ROUTE: [route_config(host(RICH_ROUTES, to("c")))],
    Kind.CLUSTER: [
        cluster(load_balancing_policy={"policies": [lb_policy("round_robin.v3.RoundRobin")]}),
        cluster(outlier_detection={"interval": "1s"}, metadata={"filter_metadata": {"meshsdk": {"subset_size": 3}}}),
    ],
    Kind.ENDPOINTS: [
        assignment(
            locality(endpoint(), endpoint("10.0.0.2", load_balancing_weight=3)),
            locality(endpoint("::1", metadata={"filter_metadata": {"meshsdk": {"started_at": 4}}}), zone="b"),
            locality(zone="c", leds_cluster_locality_config=leds()),
            policy={"drop_overloads": [{"category": "x", "drop_percentage": {"numerator": 1}}]},
        )
    ],
}
XDS = [kind for kind in Kind if kind is not Kind.INSTANCES]
EACH = [(kind, raw) for kind, raws in VALID.items() for raw in raws]


def outcome(kind: Kind, raw: bytes, *before: Any) -> Resource | str:
    """Returns what is decoded, or the text of the NACK; any other exception is a failure."""
    try:
        return decode(kind, raw, *before)[1]
    except InvalidResource as error:
        refused = error
    assert isinstance(refused.name, str)
    assert len(str(refused)) < 10_000
    return str(refused)


@pytest.mark.parametrize(("kind", "raw"), EACH)
def test_decode_is_a_function_of_the_bytes(kind: Kind, raw: bytes) -> None:
    """Equal bytes decode to equal resources, and to the same object where the earlier one is given."""
    name, first = decode(kind, raw)
    assert name == first.name == "orders"
    assert decode(kind, raw)[1] == first
    assert decode(kind, bytes(bytearray(raw)), first, raw)[1] is first


@pytest.mark.parametrize("kind", [Kind.LISTENER, Kind.CLUSTER, Kind.ROUTE, Kind.ENDPOINTS])
def test_no_name(kind: Kind) -> None:
    """A resource without a name is refused, and the error has none either."""
    raws = {Kind.LISTENER: listener(name=""), Kind.CLUSTER: cluster(name=""), Kind.ROUTE: b"", Kind.ENDPOINTS: b""}
    with pytest.raises(InvalidResource, match="name") as caught:
        decode(kind, raws[kind])
    assert caught.value.name == ""


def test_long_name() -> None:
    """A name that would bloat every request is refused."""
    with pytest.raises(InvalidResource, match="name: is longer than 4096 characters"):
        decode(Kind.CLUSTER, cluster(name="x" * 5000))


def test_name_of_a_refused_resource() -> None:
    """The name is told even if the resource is broken elsewhere, so that only that resource is refused."""
    with pytest.raises(InvalidResource) as caught:
        decode(Kind.CLUSTER, b"\x0a\x06orders\x1a\x03\xff\xff\xff")
    assert caught.value.name == "orders"
    assert str(caught.value) == "Cluster 'orders': is not a serialised envoy.config.cluster.v3.Cluster"


def test_name_that_cannot_be_read() -> None:
    """Bytes that are no message at all give an error without a name."""
    for raw in (b"\x0a\x06or", b"\x0a\x02\xff\xff", b"\xff" * 20):
        with pytest.raises(InvalidResource) as caught:
            decode(Kind.CLUSTER, raw)
        assert caught.value.name == ""


def test_unwrap() -> None:
    """A resource comes bare or in a wrapper; a type that is none of ours comes back by its URL."""
    raw = cluster()
    bare = PackedAny(type_url=Kind.CLUSTER.value, value=raw)
    assert unwrap(bare) == (Kind.CLUSTER, raw)
    wrapper = discovery_pb2.Resource(name="orders", resource=bare)
    url = "type.googleapis.com/envoy.service.discovery.v3.Resource"
    assert unwrap(PackedAny(type_url=url, value=wrapper.SerializeToString())) == (Kind.CLUSTER, raw)
    assert unwrap(PackedAny(type_url="a/b", value=b"x")) == ("a/b", b"x")
    with pytest.raises(InvalidResource, match="is not a serialised"):
        unwrap(PackedAny(type_url=url, value=b"\xff"))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(XDS), st.binary(max_size=200))
@example(Kind.ENDPOINTS, b"\x12\x04\x12\x02\x0a\x00")
@example(Kind.ENDPOINTS, b"\x92\x00\x00")
@example(Kind.ENDPOINTS, b"\x13\x14")
@example(Kind.ENDPOINTS, b"\x12\x02\x12")
@example(Kind.ENDPOINTS, b"\x12\x01\x12")
@example(Kind.ENDPOINTS, b"\x12\x02\x12\x80")
def test_any_bytes(kind: Kind, raw: bytes) -> None:
    """Whatever arrives, the codec says yes or no and nothing else."""
    assert outcome(kind, raw)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[Kind, bytes, bytes]:
    """Returns a valid resource and a version of it with a few bytes changed, cut out or put in."""
    kind, raw = draw(st.sampled_from(EACH))
    bad = bytearray(raw)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(bad) - 1, 0)))
        action = draw(st.sampled_from(["set", "flip", "cut", "put", "repeat"]))
        if action == "cut":
            del bad[at : at + draw(st.integers(1, 8))]
        elif action == "put":
            bad[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif action == "repeat":
            bad[at:at] = bad[at : at + draw(st.integers(1, 40))]
        elif bad and action == "set":
            bad[at] = draw(st.integers(0, 255))
        elif bad:
            bad[at] ^= 1 << draw(st.integers(0, 7))
    return kind, raw, bytes(bad)


@settings(max_examples=800, deadline=None)
@given(mutated())
def test_damaged_resources(case: tuple[Kind, bytes, bytes]) -> None:
    """A damaged resource is accepted or refused, alike with and without the earlier version, never an accident."""
    kind, raw, bad = case
    fresh = outcome(kind, bad)
    before = outcome(kind, raw)
    stepped = outcome(kind, bad, before, raw)
    if isinstance(fresh, str):
        assert stepped == fresh
    else:
        assert not isinstance(stepped, str)
        assert stepped.ignored == fresh.ignored
