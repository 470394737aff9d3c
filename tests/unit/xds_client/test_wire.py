"""ADS messages between protobuf and values: what a server may send, however strange, and what it gets."""

from __future__ import annotations

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from meshsdk.bootstrap import Node, Transport
from meshsdk.model.resources import Kind, Locality
from meshsdk.xds_client.messages import DeltaRequest, Received, ServerProblem, SotwRequest
from meshsdk.xds_client.wire import encode, node_message, parse, peek_name

CDS = Kind.CLUSTER.value
NODE = node_message(Node("n1", "web", Locality("r", "z", "s"), {"LABELS": {"app": "web"}}), "1.2")


def packed(name: str):
    """A cluster in an Any."""
    message = discovery_pb2.DiscoveryResponse().resources.add()
    message.Pack(cluster_pb2.Cluster(name=name))
    return message


def test_node_says_who_we_are():
    """The node has the bootstrap's fields and what A27 wants the client to add."""
    assert (NODE.id, NODE.cluster, NODE.locality.sub_zone) == ("n1", "web", "s")
    assert NODE.metadata["LABELS"]["app"] == "web"
    assert (NODE.user_agent_name, NODE.user_agent_version) == ("meshsdk", "1.2")
    standard = ["envoy.lb.does_not_support_overprovisioning", "xds.config.resource-in-sotw"]
    assert list(NODE.client_features) == [*standard, "meshsdk.load_reports"]


def test_sotw_request_on_the_wire():
    """All fields of a request arrive; a NACK carries INVALID_ARGUMENT and the reasons."""
    data = encode(SotwRequest(CDS, ("a", "b"), "7", "n", "why", with_node=True), NODE)
    message = discovery_pb2.DiscoveryRequest.FromString(data)
    assert (message.type_url, list(message.resource_names)) == (CDS, ["a", "b"])
    assert (message.version_info, message.response_nonce, message.node.id) == ("7", "n", "n1")
    assert (message.error_detail.code, message.error_detail.message) == (3, "why")


def test_leds_is_announced_on_delta_streams():
    """Collections cannot come on a state-of-the-world stream, so a client that fell back to one does not claim them."""
    delta = encode(DeltaRequest(CDS, ("a",), with_node=True), NODE)
    assert "meshsdk.leds" in discovery_pb2.DeltaDiscoveryRequest.FromString(delta).node.client_features
    sotw = encode(SotwRequest(CDS, ("a",), with_node=True), NODE)
    assert "meshsdk.leds" not in discovery_pb2.DiscoveryRequest.FromString(sotw).node.client_features


def test_delta_request_on_the_wire():
    """Subscriptions, unsubscriptions and initial versions arrive; without error there is no error_detail."""
    data = encode(DeltaRequest(CDS, ("a",), ("b",), {"c": "1"}, "n"), NODE)
    message = discovery_pb2.DeltaDiscoveryRequest.FromString(data)
    assert (list(message.resource_names_subscribe), list(message.resource_names_unsubscribe)) == (["a"], ["b"])
    assert (dict(message.initial_resource_versions), message.response_nonce) == ({"c": "1"}, "n")
    assert not message.HasField("error_detail")
    assert not message.HasField("node")


def test_sotw_response():
    """Plain and wrapped resources come out alike, the latter with name and version of their own."""
    response = discovery_pb2.DiscoveryResponse(type_url=CDS, version_info="7", nonce="n", resources=[packed("a")])
    wrapper = discovery_pb2.Resource(name="b", version="8", resource=packed("b"))
    response.resources.add().Pack(wrapper)
    parsed = parse(Transport.SOTW, response.SerializeToString())
    assert (parsed.type_url, parsed.version, parsed.nonce) == (CDS, "7", "n")
    assert parsed.resources == (
        Received("a", packed("a").value, CDS),
        Received("b", packed("b").value, CDS, "8", named=True),
    )


def test_delta_response():
    """Both ways to remove a resource count, and so do the server's own errors (xRFC TP3)."""
    response = discovery_pb2.DeltaDiscoveryResponse(type_url=CDS, nonce="n", removed_resources=["x"])
    response.removed_resource_names.add(name="y")
    response.resources.add(name="a", version="1", resource=packed("a"))
    response.resources.add(name="beat")
    problem = response.resource_errors.add()
    problem.resource_name.name, problem.error_detail.code, problem.error_detail.message = "z", 5, "no"
    parsed = parse(Transport.DELTA, response.SerializeToString())
    assert parsed.removed == ("x", "y")
    assert parsed.problems == (ServerProblem("z", 5, "no"),)
    assert tuple(parsed.resources) == (
        Received("a", packed("a").value, CDS, "1", named=True),
        Received("beat", None, CDS, "", named=True),
    )


def test_bytes_that_are_no_response():
    """Truncated bytes are an error for the stream, not a response."""
    data = discovery_pb2.DiscoveryResponse(type_url=CDS, resources=[packed("a")]).SerializeToString()
    for transport in (Transport.SOTW, Transport.DELTA):
        with pytest.raises(DecodeError):
            parse(transport, data[:-3])


def test_garbage_in_a_wrapper_spares_the_rest():
    """A wrapper that does not parse is refused like a resource; the other resources of the response stand."""
    response = discovery_pb2.DiscoveryResponse(type_url=CDS, resources=[packed("a")])
    response.resources.add(type_url="type.googleapis.com/envoy.service.discovery.v3.Resource", value=b"\xff\xff")
    parsed = parse(Transport.SOTW, response.SerializeToString())
    assert parsed.resources[0].name == "a"
    assert parsed.resources[1].type_url != CDS


@pytest.mark.parametrize("name", ["", "a", "x" * 127, "x" * 128, "ü" * 5_000])
def test_name_is_read_from_the_front(name):
    """Names of any usual length are seen without parsing."""
    assert peek_name(cluster_pb2.Cluster(name=name, alt_stat_name="other").SerializeToString()) == name


@pytest.mark.parametrize("raw", [b"", b"\x0a", b"\x0a\x80", b"\x0a\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x12\x01a"])
def test_name_that_cannot_be_read(raw):
    """Hostile or unusual bytes give no name, and no error."""
    assert peek_name(raw) == ""
