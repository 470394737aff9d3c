"""Configuration resources on the wire between control planes: MCP over xDS (`mcp.proto`), and its xDS messages.

The only file of `sources` that knows protobuf. Called by `offering` (to send) and by `upstream` (to receive). A
resource is an `Any` of Istio's `istio.mcp.v1alpha1.Resource`; its body holds the spec as a `google.protobuf.Struct` or
a TypedStruct, since Istio's own messages exist for no Python package.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2, json_format, struct_pb2
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from udpa.type.v1 import typed_struct_pb2 as udpa_typed_struct
from xds.type.v3 import typed_struct_pb2

from controlplane.config.documents import Documents, Entry, join, parse
from controlplane.config.problems import Problem
from controlplane.model.identity import Origin, ResourceId, ResourceKind
from controlplane.sources import mcp_pb2

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
RESOURCE = "type.googleapis.com/istio.mcp.v1alpha1.Resource"
_ISTIO = frozenset(("ServiceEntry", "WorkloadEntry", "VirtualService", "DestinationRule"))
_API_VERSIONS = {
    kind: "networking.istio.io/v1" if kind.value in _ISTIO else "meshsdk.io/v1alpha1" for kind in ResourceKind
}
TYPE_URLS: Mapping[ResourceKind, str] = {kind: f"{version}/{kind.value}" for kind, version in _API_VERSIONS.items()}
KINDS: Mapping[str, ResourceKind] = {type_url: kind for kind, type_url in TYPE_URLS.items()}
_STRUCT = "type.googleapis.com/google.protobuf.Struct"
_TYPED_STRUCTS = {
    "type.googleapis.com/xds.type.v3.TypedStruct": typed_struct_pb2.TypedStruct,
    "type.googleapis.com/udpa.type.v1.TypedStruct": udpa_typed_struct.TypedStruct,
}
_WHOLE = 2**53  # a Struct's numbers are doubles: up to here a whole one is exact
_MAX_RESOURCES = 100_000  # in one response
_LONGEST_ERROR = 4_096  # characters


def resource_name(identity: ResourceId) -> str:
    """Returns the xDS name of a resource, as Istio forms it."""
    return f"{identity.namespace}/{identity.name}"


def encode(entry: Entry) -> any_pb2.Any:
    """Returns a resource as it goes into a response, but for its type URL in the response (`TYPE_URLS`)."""
    body = entry.body()
    document = body if isinstance(body, dict) else {}
    metadata = document.get("metadata") or {}
    message = mcp_pb2.Resource()
    message.metadata.name = resource_name(entry.id)
    for name in ("labels", "annotations"):
        found = metadata.get(name) or {}
        getattr(message.metadata, name).update({str(key): str(value) for key, value in found.items()})
    spec = struct_pb2.Struct()
    json_format.ParseDict(document.get("spec") or {}, spec)
    message.body.type_url = _STRUCT
    message.body.value = spec.SerializeToString(deterministic=True)
    return any_pb2.Any(type_url=RESOURCE, value=message.SerializeToString(deterministic=True))


# -- the receiving side -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Response:
    """A state-of-the-world response. `documents`: its resources, and why some of them cannot be used."""

    type_url: str
    version: str
    nonce: str
    documents: Documents


def request(type_url: str, node: str, version: str = "", nonce: str = "", error: str = "") -> bytes:
    """Returns a DiscoveryRequest for all resources of a type: the first, an ACK, or with `error` a NACK."""
    message = discovery_pb2.DiscoveryRequest(type_url=type_url, version_info=version, response_nonce=nonce)
    message.node.id = node
    message.node.user_agent_name = "meshctl"
    if error:
        message.error_detail.CopyFrom(status_pb2.Status(code=3, message=error[:_LONGEST_ERROR]))
    return bytes(message.SerializeToString())


def response(raw: bytes, source: str) -> Response:
    """Reads a DiscoveryResponse of the control plane `source`. Raises ValueError where it is none."""
    try:
        message = discovery_pb2.DiscoveryResponse.FromString(raw)
    except DecodeError as error:
        raise ValueError(f"the response is not a DiscoveryResponse: {error}") from None
    kind = KINDS.get(message.type_url)
    if kind is None:
        raise ValueError(f"the response is of type {message.type_url[:200]!r}, which was not asked for")
    if len(message.resources) > _MAX_RESOURCES:
        raise ValueError(f"the response has {len(message.resources)} resources; {_MAX_RESOURCES} are taken")
    documents = _documents(kind, message.resources, source)
    return Response(message.type_url, message.version_info, message.nonce, documents)


def _documents(kind: ResourceKind, resources: Iterable[any_pb2.Any], source: str) -> Documents:
    return join(_decode(kind, resource, source) for resource in resources)


def _decode(kind: ResourceKind, resource: any_pb2.Any, source: str) -> Documents:
    place = f"{source}/{kind.value}"
    try:
        _check_type(resource)
        message = mcp_pb2.Resource.FromString(resource.value)
        place = f"{place}/{_printable(message.metadata.name[:300])}"
        spec = _spec(message.body)
    except (DecodeError, ValueError) as error:
        return Documents(problems=(Problem(Origin(place, 1), f"cannot be read: {_printable(str(error))}"),))
    namespace, _, name = message.metadata.name.removeprefix("/").rpartition("/")
    document = {
        "apiVersion": _API_VERSIONS[kind],
        "kind": kind.value,
        "metadata": {
            "name": name,
            "namespace": namespace or "default",
            "labels": dict(message.metadata.labels),
            "annotations": dict(message.metadata.annotations),
        },
        "spec": spec,
    }
    return parse(json.dumps(document, indent=2), place)


def _printable(text: str) -> str:
    """Returns the text with what is not printable escaped: it goes into lines of logs and of `meshctl`."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _check_type(resource: any_pb2.Any) -> None:
    if resource.type_url != RESOURCE:
        raise ValueError(f"a resource is of type {resource.type_url[:200]!r}, not {RESOURCE}")


def _spec(body: any_pb2.Any) -> object:
    if body.type_url == _STRUCT:
        return _plain(struct_pb2.Struct.FromString(body.value))
    typed = _TYPED_STRUCTS.get(body.type_url)
    if typed is not None:
        return _plain(typed.FromString(body.value).value)
    raise ValueError(f"its body is of type {body.type_url[:200]!r}; a google.protobuf.Struct or a TypedStruct is read")


def _plain(struct: struct_pb2.Struct) -> object:
    try:
        return _whole(json_format.MessageToDict(struct))
    except json_format.Error as error:
        raise ValueError(str(error)) from None


def _whole(value: object) -> object:
    """Returns the value with whole numbers as such: a Struct knows doubles only."""
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= _WHOLE:
        return int(value)
    return value
