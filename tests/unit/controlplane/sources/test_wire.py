"""Configuration resources between control planes: what is sent is what is read, and garbage is said in words."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2, struct_pb2
from xds.type.v3 import typed_struct_pb2

from controlplane.config.documents import parse
from controlplane.sources import mcp_pb2, wire

ROUTES = """\
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: orders, namespace: shop, labels: {team: a}}
spec:
  hosts: [orders]
  http:
  - timeout: 2.5s
    retries: {attempts: 3, perTryTimeout: 500ms}
    match: [{headers: {x: {exact: "1"}}}]
    route: [{destination: {host: orders, port: {number: 80}}, weight: 100}]
"""
TYPE = "networking.istio.io/v1/VirtualService"


def response(*resources: any_pb2.Any, type_url: str = TYPE) -> bytes:
    """Returns a response as it comes."""
    message = discovery_pb2.DiscoveryResponse(type_url=type_url, version_info="7", nonce="n", resources=resources)
    return message.SerializeToString()


def sent(change: Callable[[mcp_pb2.Resource], object]) -> any_pb2.Any:
    """Returns a resource after `change`."""
    message = mcp_pb2.Resource.FromString(wire.encode(parse(ROUTES, "f").entries[0]).value)
    change(message)
    return any_pb2.Any(type_url=wire.RESOURCE, value=message.SerializeToString())


def test_a_resource_survives_its_way() -> None:
    """What one control plane sends is the same resource on the other, with a place of its own."""
    (entry,) = parse(ROUTES, "f.yaml").entries
    found = wire.response(response(wire.encode(entry)), "xds://up:1")
    assert (found.type_url, found.version, found.nonce, found.documents.problems) == (TYPE, "7", "n", ())
    (read,) = found.documents.entries
    assert read.resource == entry.resource
    assert read.file == "xds://up:1/VirtualService/shop/orders"
    assert read.body()["metadata"]["labels"] == {"team": "a"}
    assert wire.encode(read) == wire.encode(entry)


def test_a_typed_struct_is_read_as_well() -> None:
    """The spec may come as a TypedStruct."""

    def typed(message: mcp_pb2.Resource) -> None:
        struct = typed_struct_pb2.TypedStruct(type_url="x", value=struct_pb2.Struct.FromString(message.body.value))
        message.body.Pack(struct)

    assert len(wire.response(response(sent(typed)), "xds://up:1").documents.entries) == 1


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        (any_pb2.Any(type_url="type.googleapis.com/x.Y"), "a resource is of type 'type.googleapis.com/x.Y', not"),
        (any_pb2.Any(type_url=wire.RESOURCE, value=b"\xff"), "cannot be read: "),
        (sent(lambda message: message.ClearField("body")), "its body is of type ''"),
        (sent(lambda message: setattr(message.body, "value", b"\xff")), "cannot be read: "),
        (sent(lambda message: setattr(message.metadata, "name", "shop/")), "metadata.name: "),
        (sent(lambda message: setattr(message.metadata, "name", "")), "metadata.name: "),
        (sent(lambda message: setattr(message.body, "value", b"")), "spec.hosts: required field is missing"),
    ],
)
def test_garbage_is_said_in_words(resource: any_pb2.Any, reason: str) -> None:
    """A resource that cannot be used is a problem with its place; the others of the response are still read."""
    good = wire.encode(parse(ROUTES, "f").entries[0])
    documents = wire.response(response(resource, good), "xds://up:1").documents
    (problem,) = documents.problems
    assert reason in str(problem)
    assert str(problem).startswith("xds://up:1/VirtualService")
    assert len(documents.entries) == 1


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\xff", "is not a DiscoveryResponse"),
        (response(type_url="x"), "of type 'x', which was not asked for"),
    ],
)
def test_a_response_that_is_none_ends_the_stream(raw: bytes, reason: str) -> None:
    """What is no answer to what was asked is an error of the stream."""
    with pytest.raises(ValueError, match=reason):
        wire.response(raw, "xds://up:1")


def test_requests_ask_acknowledge_and_refuse() -> None:
    """The first names the node, an ACK the version, a NACK the reason."""
    read = discovery_pb2.DiscoveryRequest.FromString
    first = read(wire.request(TYPE, "n1"))
    assert (first.type_url, first.node.id, first.version_info, first.HasField("error_detail")) == (
        TYPE,
        "n1",
        "",
        False,
    )
    ack = read(wire.request(TYPE, "n1", "7", "n"))
    assert (ack.version_info, ack.response_nonce) == ("7", "n")
    nack = read(wire.request(TYPE, "n1", nonce="n", error="x" * 9_999))
    assert (nack.response_nonce, len(nack.error_detail.message)) == ("n", 4_096)


def test_a_name_with_a_newline_stays_on_one_line() -> None:
    """A resource's name goes into places and problems with its control characters escaped."""
    hostile = sent(lambda message: setattr(message.metadata, "name", "shop/or\nders\x1b[2J"))
    found = wire.response(response(hostile), "xds://up:1").documents
    assert found.problems
    assert all(str(each).isprintable() for each in found.problems)
    assert "or\\nders\\x1b" in str(found.problems[0])
