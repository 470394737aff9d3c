"""ADS on the wire: protobuf messages to and from the frozen values of `messages`.

Called by the driver with whole messages as bytes. It takes the envelope apart and leaves the resources inside as bytes,
which `codec` decodes if they are new. Those of a delta response are taken out one by one as they are read, so that a
listing of 100,000 endpoints never stands in memory as messages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from meshsdk.bootstrap import Node, Transport
from meshsdk.xds_client.codec.refusal import FieldError
from meshsdk.xds_client.codec.wire import fields, tag
from meshsdk.xds_client.messages import DeltaRequest, Received, Request, Response, ServerProblem, SotwRequest

# A27: load is spread as the control plane says. xDS protocol, "TTL": resources of state of the world may come wrapped.
LEDS_FEATURE = "meshsdk.leds"  # ours: endpoints may come as LEDS collections; said where the stream can carry them
LOADS_FEATURE = "meshsdk.load_reports"  # ours: reports the counts of calls where a cluster asks for it (LRS)
CLIENT_FEATURES = ("envoy.lb.does_not_support_overprovisioning", "xds.config.resource-in-sotw", LOADS_FEATURE)
REGISTRY_CLUSTERS_FEATURE = "meshsdk.registry_clusters"  # ours: a cluster may name a registry of the bootstrap
USER_AGENT = "meshsdk"

_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService"
METHODS = {
    Transport.SOTW: f"{_SERVICE}/StreamAggregatedResources",
    Transport.DELTA: f"{_SERVICE}/DeltaAggregatedResources",
}

_WRAPPER = "type.googleapis.com/envoy.service.discovery.v3.Resource"
_RESOURCES = tag(2)  # DeltaDiscoveryResponse.resources
_INVALID_ARGUMENT = 3
_NAME_FIELD = 0x0A  # field 1, length-delimited: `name` or `cluster_name`; LbEndpoint has none inside


def node_message(node: Node, version: str) -> base_pb2.Node:
    """Builds the Node of a stream's first request; `version` is this package's own."""
    message = base_pb2.Node(
        id=node.id,
        cluster=node.cluster,
        user_agent_name=USER_AGENT,
        user_agent_version=version,
        client_features=CLIENT_FEATURES,
    )
    message.metadata.update(node.metadata)
    place = node.locality
    if place.region or place.zone or place.sub_zone:
        message.locality.region, message.locality.zone = place.region, place.zone
        message.locality.sub_zone = place.sub_zone
    return message


def encode(request: Request, node: base_pb2.Node) -> bytes:
    """Serialises a request; `node` goes into a stream's first one only (xDS protocol)."""
    message: discovery_pb2.DiscoveryRequest | discovery_pb2.DeltaDiscoveryRequest
    if isinstance(request, SotwRequest):
        message = discovery_pb2.DiscoveryRequest(
            type_url=request.kind,
            version_info=request.version,
            resource_names=request.names,
            response_nonce=request.nonce,
        )
    else:
        message = _delta_message(request)
    if request.error:
        message.error_detail.CopyFrom(status_pb2.Status(code=_INVALID_ARGUMENT, message=request.error))
    if request.with_node:
        message.node.CopyFrom(node)
        if not isinstance(request, SotwRequest):
            message.node.client_features.append(LEDS_FEATURE)
    data: bytes = message.SerializeToString()
    return data


def _delta_message(request: DeltaRequest) -> discovery_pb2.DeltaDiscoveryRequest:
    return discovery_pb2.DeltaDiscoveryRequest(
        type_url=request.kind,
        resource_names_subscribe=request.subscribe,
        resource_names_unsubscribe=request.unsubscribe,
        initial_resource_versions=request.initial_versions,
        response_nonce=request.nonce,
    )


def parse(transport: Transport, data: bytes) -> Response:
    """Parses a response of the stream's transport; raises protobuf's DecodeError on bytes that are none."""
    if transport is Transport.DELTA:
        return _parse_delta(data)
    message = discovery_pb2.DiscoveryResponse.FromString(data)
    return Response(
        type_url=message.type_url,
        version=message.version_info,
        nonce=message.nonce,
        resources=tuple(_unwrapped(packed, message.type_url) for packed in message.resources),
        problems=_problems(message.resource_errors),
    )


class _Resources(Collection[Received]):
    """The `resources` of a serialised DeltaDiscoveryResponse. Read-only; each iteration parses them."""

    __slots__ = ("_data", "_size", "_type_url")

    def __init__(self, data: bytes, size: int, type_url: str) -> None:
        self._data = data
        self._size = size
        self._type_url = type_url

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Received]:
        for key, _, start, end in fields(self._data, 0, len(self._data)):
            if key == _RESOURCES:
                raw = self._data[start:end]
                try:
                    yield _from_wrapper(discovery_pb2.Resource.FromString(raw), self._type_url)
                except DecodeError:
                    yield Received("", raw, _WRAPPER)  # refused for its type; the rest of the response stands

    def __contains__(self, received: object) -> bool:
        return any(one == received for one in self)


def _parse_delta(data: bytes) -> Response:
    count, rest = 0, bytearray()
    try:
        for key, start, _, end in fields(data, 0, len(data)):
            if key == _RESOURCES:
                count += 1
            else:
                rest += data[start:end]
    except FieldError as error:
        raise DecodeError(str(error)) from error
    message = discovery_pb2.DeltaDiscoveryResponse.FromString(bytes(rest))
    removed = list(message.removed_resources)
    removed.extend(name.name for name in message.removed_resource_names)
    return Response(
        type_url=message.type_url,
        version=message.system_version_info,
        nonce=message.nonce,
        resources=_Resources(data, count, message.type_url),
        removed=tuple(removed),
        problems=_problems(message.resource_errors),
    )


def _problems(errors: Iterable[discovery_pb2.ResourceError]) -> tuple[ServerProblem, ...]:
    return tuple(
        ServerProblem(error.resource_name.name, error.error_detail.code, error.error_detail.message) for error in errors
    )


def _unwrapped(packed: any_pb2.Any, heartbeat_type: str) -> Received:
    raw = packed.value
    if packed.type_url != _WRAPPER:
        return Received(peek_name(raw), raw, packed.type_url)
    try:
        return _from_wrapper(discovery_pb2.Resource.FromString(raw), heartbeat_type)
    except DecodeError:
        return Received("", raw, _WRAPPER)  # refused for its type, with a NACK; the rest of the response stands


def _from_wrapper(resource: discovery_pb2.Resource, heartbeat_type: str) -> Received:
    """A resource in its `Resource`; one without content is a heartbeat, and has the type of the response."""
    name = resource.name or resource.resource_name.name
    if not resource.HasField("resource"):
        return Received(name, None, heartbeat_type, resource.version, named=True)
    raw, type_url = resource.resource.value, resource.resource.type_url
    return Received(name or peek_name(raw), raw, type_url, resource.version, named=bool(name))


def peek_name(raw: bytes) -> str:
    """Reads the resource's name where every serialiser puts it, at the front; "" if it is not there.

    Costs the same for a small and for a large resource. The answer is a hint: bytes in another order are legal.
    """
    if len(raw) < 2 or raw[0] != _NAME_FIELD:  # noqa: PLR2004 - a tag and a length
        return ""
    length, start = raw[1], 2
    if length & 0x80:
        if len(raw) == start or raw[start] & 0x80:
            return ""
        length, start = (length & 0x7F) | raw[start] << 7, start + 1
    try:
        return raw[start : start + length].decode()
    except UnicodeDecodeError:
        return ""
