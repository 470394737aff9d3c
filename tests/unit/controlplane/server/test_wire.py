"""Bytes: packed resources and assembled responses are what protobuf itself would make and read."""

from __future__ import annotations

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2

from controlplane.server.machine import Reply
from controlplane.server.packing import pack
from controlplane.server.type_urls import CLUSTER, ENDPOINT, LB_ENDPOINT, LISTENER, ROUTE
from controlplane.server.wire import Assembler, Limits, Refused, RequestReader, decode_delta, decode_node, decode_sotw
from meshsdk.errors import ConfigurationError

LIMITS = Limits(names=3, name_bytes=10)


def listener(name: str, padding: int = 0) -> listener_pb2.Listener:
    """A listener of about the given size."""
    return listener_pb2.Listener(name=name, stat_prefix="x" * padding)


@pytest.mark.parametrize("padding", [0, 200, 20_000])
def test_assembled_sotw_response_reads_back(padding):
    """A DiscoveryResponse made by joining bytes parses to the resources, version, type and nonce it was made of."""
    resources = (pack(listener("a", padding)), pack(listener("b")))
    raw = Assembler("me").assemble(Reply(LISTENER, "v1", "7", resources), delta=False)
    message = discovery_pb2.DiscoveryResponse.FromString(raw)
    assert (message.version_info, message.type_url, message.nonce) == ("v1", LISTENER, "7")
    assert message.control_plane.identifier == "me"
    found = [listener_pb2.Listener.FromString(resource.value) for resource in message.resources]
    assert found == [listener("a", padding), listener("b")]
    assert {resource.type_url for resource in message.resources} == {LISTENER}


@pytest.mark.parametrize("padding", [0, 200, 20_000])
def test_assembled_delta_response_reads_back(padding):
    """A DeltaDiscoveryResponse carries name and version with each resource, and the names that are gone."""
    packed = pack(listener("a", padding))
    raw = Assembler("me").assemble(Reply(LISTENER, "v1", "7", (packed,), ("gone", "too")), delta=True)
    message = discovery_pb2.DeltaDiscoveryResponse.FromString(raw)
    assert (message.system_version_info, message.type_url, message.nonce) == ("v1", LISTENER, "7")
    assert message.control_plane.identifier == "me"
    assert list(message.removed_resources) == ["gone", "too"]
    (resource,) = message.resources
    assert (resource.name, resource.version) == ("a", packed.version)
    assert listener_pb2.Listener.FromString(resource.resource.value) == listener("a", padding)


def test_one_serialisation_is_shared():
    """Two streams that are owed the same get one body; a reply that differs gets its own; memory is bounded."""
    assembler = Assembler("me", memory=1_000)
    packed = pack(listener("a", 300))
    first = assembler.assemble(Reply(LISTENER, "v1", "1", (packed,)), delta=False)
    again = assembler.assemble(Reply(LISTENER, "v1", "2", (packed,)), delta=False)
    assert first[:-1] == again[:-1]
    assert len(assembler._bodies) == 1
    for version in range(10):
        assembler.assemble(Reply(LISTENER, f"x{version}", "1", (packed,)), delta=False)
    assert assembler._held == sum(map(len, assembler._bodies.values())) <= 1_000
    assembler.assemble(Reply(LISTENER, "v1", "1", (pack(listener("a", 3_000)),)), delta=True)
    assert assembler._held <= 1_000


def test_version_follows_content():
    """Equal content has an equal version, other content another."""
    assert pack(listener("a", 5)).version == pack(listener("a", 5)).version
    assert pack(listener("a", 5)).version != pack(listener("a", 6)).version


def test_names_are_found_where_types_keep_them():
    """Endpoints are named by their cluster, an Any and an LbEndpoint by whoever sets them, a wrapper by itself."""
    assert pack(endpoint_pb2.ClusterLoadAssignment(cluster_name="c")).name == "c"
    assert pack(endpoint_components_pb2.LbEndpoint(), "e").type_url == LB_ENDPOINT
    box = any_pb2.Any(type_url=ENDPOINT, value=b"")
    assert pack(box, "boxed").name == "boxed"
    assert pack(discovery_pb2.Resource(name="wrapped", resource=box)).name == "wrapped"


@pytest.mark.parametrize(
    ("resource", "name", "words"),
    [
        (endpoint_components_pb2.LbEndpoint(), None, "has no name"),
        (listener(""), None, "has no name"),
        (listener("a"), "b", "calls itself 'a'"),
        (listener("*"), None, "cannot be the name"),
        (listener("n" * 3_000), None, "cannot be the name"),
        (any_pb2.Any(), "a", "without a type_url"),
        (any_pb2.Any(type_url=CLUSTER, value=b"\xff\xff"), "a", "does not hold a Cluster"),
    ],
)
def test_resource_that_no_client_could_get_is_refused(resource, name, words):
    """A resource without a usable name is an error with words, where it is set."""
    with pytest.raises(ConfigurationError, match=words):
        pack(resource, name)


def test_clusters_refer_to_their_endpoints():
    """An EDS cluster needs the endpoints of its service name, or its own; others need none."""
    cluster = cluster_pb2.Cluster(name="c", type=cluster_pb2.Cluster.EDS)
    assert pack(cluster).refers == ("c",)
    cluster.eds_cluster_config.service_name = "s"
    assert pack(cluster).refers == ("s",)
    assert pack(cluster_pb2.Cluster(name="c", type=cluster_pb2.Cluster.STATIC)).refers == ()


def test_requests_are_read():
    """Names, nonce, version and error of both kinds of request arrive as sent; locators count as names."""
    sotw = discovery_pb2.DiscoveryRequest(
        type_url=CLUSTER, resource_names=["a"], response_nonce="3", version_info="v", node={"id": "n"}
    )
    sotw.resource_locators.add(name="b")
    sotw.error_detail.message = "no"
    request, node = decode_sotw(sotw.SerializeToString(), "", LIMITS)
    assert (request.type_url, request.names, request.nonce, request.version) == (CLUSTER, ("a", "b"), "3", "v")
    assert request.error == "no"
    assert node.id == "n"
    delta = discovery_pb2.DeltaDiscoveryRequest(
        resource_names_subscribe=["a"], resource_names_unsubscribe=["b"], initial_resource_versions={"a": "1"}
    )
    request, _ = decode_delta(delta.SerializeToString(), ROUTE, LIMITS)
    assert (request.type_url, request.subscribe, request.unsubscribe) == (ROUTE, ("a",), ("b",))
    assert (request.known, request.error) == ({"a": "1"}, None)


def test_empty_error_is_still_a_nack():
    """A NACK without words is a NACK."""
    request = discovery_pb2.DiscoveryRequest(type_url=CLUSTER)
    request.error_detail.SetInParent()
    assert decode_sotw(request.SerializeToString(), "", LIMITS)[0].error == ""


@pytest.mark.parametrize(
    ("request_", "served", "words"),
    [
        ({"type_url": CLUSTER, "resource_names": ["a", "b", "c", "d"]}, "", "4 resource names"),
        ({"type_url": CLUSTER, "resource_names": ["n" * 11]}, "", "name of 11 characters"),
        ({}, "", "no type_url"),
        ({"type_url": ROUTE}, CLUSTER, "this service serves"),
        ({"type_url": CLUSTER, "resource_locators": [{"name": "a", "dynamic_parameters": {"k": "v"}}]}, "", "dynamic"),
    ],
)
def test_request_over_a_limit_is_refused(request_, served, words):
    """Too many names, too long a name, and what is not served are refused with words."""
    raw = discovery_pb2.DiscoveryRequest(**request_).SerializeToString()
    with pytest.raises(Refused, match=words):
        decode_sotw(raw, served, LIMITS)


@pytest.mark.parametrize("decode", [decode_sotw, decode_delta])
def test_garbage_is_refused(decode):
    """Bytes that are no request are refused with words."""
    with pytest.raises(Refused, match="not a envoy"):
        decode(b"\xff\x01garbage", CLUSTER, LIMITS)


def test_node_is_read():
    """Labels and the calling application come from the metadata, the cluster where there are none."""
    message = discovery_pb2.DiscoveryRequest(node={"id": "n", "cluster": "c", "locality": {"zone": "z"}}).node
    assert decode_node(message).app == "c"
    message.metadata.update({"LABELS": {"app": "web", "tier": "gold", "n": 1}, "app": "other"})
    node = decode_node(message)
    assert (node.id, node.zone, node.labels, node.app) == ("n", "z", {"app": "web", "tier": "gold"}, "web")


def test_node_without_json_form_is_refused():
    """Metadata with a number that JSON does not have is refused and does not break the server."""
    message = discovery_pb2.DiscoveryRequest().node
    message.metadata.update({"x": float("inf")})
    with pytest.raises(Refused, match="metadata"):
        decode_node(message)


def test_state_of_the_world_has_no_collections():
    """A glob in a state-of-the-world request is refused in words; a single xdstp name is a name like any other."""
    message = discovery_pb2.DiscoveryRequest(type_url=ENDPOINT, resource_names=["a", "xdstp:///T/orders/*"])
    with pytest.raises(Refused, match=r"xdstp:///T/orders/\*.*only the incremental protocol"):
        decode_sotw(message.SerializeToString(), "", Limits())
    message = discovery_pb2.DiscoveryRequest(type_url=ENDPOINT, resource_names=["xdstp:///T/orders/x"])
    assert decode_sotw(message.SerializeToString(), "", Limits())[0].names == ("xdstp:///T/orders/x",)


def test_short_requests_are_read_once():
    """The same ACK of many streams is decoded once; requests with a node, and other services', are not mixed up."""
    reader = RequestReader(Limits())
    ack = discovery_pb2.DeltaDiscoveryRequest(type_url=ENDPOINT, response_nonce="7").SerializeToString()
    request, _ = reader.read(ack, "", delta=True)
    assert reader.read(ack, "", delta=True)[0] is request
    assert reader.read(ack, ENDPOINT, delta=True)[0] is not request
    with pytest.raises(Refused, match="not a envoy"):
        reader.read(ack, "", delta=False)
    named = discovery_pb2.DeltaDiscoveryRequest(type_url=ENDPOINT, node=base_pb2.Node(id="n")).SerializeToString()
    assert reader.read(named, "", delta=True)[1].id == "n"
    assert reader.read(named, "", delta=True)[0] is not reader.read(named, "", delta=True)[0]
    for nonce in range(10_000):
        other = discovery_pb2.DeltaDiscoveryRequest(type_url=ENDPOINT, response_nonce=str(nonce))
        reader.read(other.SerializeToString(), "", delta=True)
    assert len(reader._known) <= 4_096
