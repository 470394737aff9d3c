"""Bytes to requests, and replies to bytes. Between the gRPC shell (`service`) and the machines.

Responses are put together from resources that are serialised already: a protobuf message is the concatenation of its
fields, so a reply costs one `join`, and streams that are owed the same get the same bytes but for the nonce.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from controlplane.server.framing import length_delimited
from controlplane.server.globs import glob_of
from controlplane.server.machine import DeltaRequest, Reply, SotwRequest
from controlplane.server.node import Node
from meshsdk.errors import MeshError

_VERSION, _TYPE_URL, _NONCE, _REMOVED = b"\x0a", b"\x22", b"\x2a", b"\x32"
_SOTW_CONTROL_PLANE, _DELTA_CONTROL_PLANE, _IDENTIFIER = b"\x32", b"\x3a", b"\x0a"
_LONGEST_ERROR = 4096  # characters of a NACK that are kept
_KEPT_BODIES = 1024
_KEPT_REQUESTS = 4096
_SHORT = 256  # bytes of a request that is remembered


class Refused(MeshError):
    """A request that the server does not serve; the text goes to the client as INVALID_ARGUMENT."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may ask of the server.

    `message_bytes`: of a request. `names`: in a request, and subscribed on one stream. `name_bytes`: of one name.
    `types`: on one stream. `streams`: open at once on the server.
    """

    message_bytes: int = 8 * 1024 * 1024
    names: int = 100_000
    name_bytes: int = 2048
    types: int = 64
    streams: int = 10_000


# -- requests ---------------------------------------------------------------------------------------------------------


class RequestReader:
    """Reads requests, and remembers short ones. Mutable; owned by the server's loop thread.

    Streams in step send the same ACKs byte by byte.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[tuple[bytes, str, bool], tuple[SotwRequest | DeltaRequest, base_pb2.Node]] = {}

    def read(self, raw: bytes, type_url: str, *, delta: bool) -> tuple[SotwRequest | DeltaRequest, base_pb2.Node]:
        """Reads a request as `decode_sotw` or `decode_delta` does."""
        key = (raw, type_url, delta)
        found = self._known.get(key)
        if found is None:
            found = (decode_delta if delta else decode_sotw)(raw, type_url, self._limits)
            if len(raw) <= _SHORT and not found[1].ByteSize():
                if len(self._known) >= _KEPT_REQUESTS:
                    self._known.clear()
                self._known[key] = found
        return found


def decode_sotw(raw: bytes, type_url: str, limits: Limits) -> tuple[SotwRequest, base_pb2.Node]:
    """Reads a `DiscoveryRequest`. `type_url`: the service's own type, "" on the aggregated one.

    The node is returned as it came: only a stream's first one counts, and `decode_node` is not cheap.

    Raises:
        Refused: not a request, of another type, or over a limit.
    """
    message = _parsed(discovery_pb2.DiscoveryRequest, raw)
    names = (*message.resource_names, *_located(message.resource_locators))
    _check_names(names, limits)
    globs = [name for name in names if glob_of(name) is not None]
    if globs:
        raise Refused(f"{globs[0]!r} is a glob collection, which only the incremental protocol (delta xDS) can serve")
    request = SotwRequest(
        type_url=_type_of(message.type_url, type_url),
        names=names,
        nonce=message.response_nonce,
        version=message.version_info,
        error=_error(message),
    )
    return request, message.node


def decode_delta(raw: bytes, type_url: str, limits: Limits) -> tuple[DeltaRequest, base_pb2.Node]:
    """Reads a `DeltaDiscoveryRequest`, as `decode_sotw` does its sibling."""
    message = _parsed(discovery_pb2.DeltaDiscoveryRequest, raw)
    subscribe = (*message.resource_names_subscribe, *_located(message.resource_locators_subscribe))
    unsubscribe = (*message.resource_names_unsubscribe, *_located(message.resource_locators_unsubscribe))
    known = dict(message.initial_resource_versions)
    _check_names((*subscribe, *unsubscribe, *known), limits)
    request = DeltaRequest(
        type_url=_type_of(message.type_url, type_url),
        subscribe=subscribe,
        unsubscribe=unsubscribe,
        nonce=message.response_nonce,
        known=known,
        error=_error(message),
    )
    return request, message.node


def _parsed(kind: type[discovery_pb2.DiscoveryRequest], raw: bytes) -> discovery_pb2.DiscoveryRequest:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise Refused(f"the request is not a {kind.DESCRIPTOR.full_name}: {error}") from error


def _located(locators: Iterable[discovery_pb2.ResourceLocator]) -> tuple[str, ...]:
    found = tuple(locators)
    if any(locator.dynamic_parameters for locator in found):
        raise Refused("resource locators with dynamic parameters are not served; ask by name")
    return tuple(locator.name for locator in found)


def _check_names(names: tuple[str, ...], limits: Limits) -> None:
    if len(names) > limits.names:
        raise Refused(f"{len(names)} resource names in one request; this server takes {limits.names}")
    longest = max(map(len, names), default=0)
    if longest > limits.name_bytes:
        raise Refused(f"a resource name of {longest} characters; this server takes {limits.name_bytes}")


def _type_of(asked: str, served: str) -> str:
    if served and asked and asked != served:
        raise Refused(f"this service serves {served}, not {asked}; ask the aggregated service")
    if not served and not asked:
        raise Refused("the request has no type_url, which the aggregated service needs")
    return served or asked


def _error(message: discovery_pb2.DiscoveryRequest) -> str | None:
    if not message.HasField("error_detail"):
        return None
    return str(message.error_detail.message)[:_LONGEST_ERROR]


def decode_node(node: base_pb2.Node) -> Node:
    """Turns the wire's node into ours.

    Raises:
        Refused: metadata that has no JSON form.
    """
    try:
        metadata = json_format.MessageToDict(node.metadata)
    except (ValueError, json_format.Error) as error:
        raise Refused(f"the node's metadata cannot be read: {error}") from error
    return Node(
        id=node.id,
        cluster=node.cluster,
        region=node.locality.region,
        zone=node.locality.zone,
        sub_zone=node.locality.sub_zone,
        metadata=metadata,
        features=frozenset(node.client_features),
        user_agent=f"{node.user_agent_name} {node.user_agent_version}".strip(),
    )


# -- replies ----------------------------------------------------------------------------------------------------------


class Assembler:
    """Turns replies into bytes and remembers the last ones. Mutable; owned by the server's loop thread.

    `identifier` is sent as `control_plane.identifier`. `memory`: bytes of responses that are kept for other streams.
    """

    def __init__(self, identifier: str, memory: int = 32 * 1024 * 1024) -> None:
        named = length_delimited(_IDENTIFIER, identifier.encode())
        self._sotw_tail = length_delimited(_SOTW_CONTROL_PLANE, named)
        self._delta_tail = length_delimited(_DELTA_CONTROL_PLANE, named)
        self._memory = memory
        self._held = 0
        self._bodies: OrderedDict[object, bytes] = OrderedDict()

    def assemble(self, reply: Reply, *, delta: bool) -> bytes:
        """Returns the serialised `DiscoveryResponse` or `DeltaDiscoveryResponse`."""
        key = (delta, reply.type_url, reply.version, reply.resources, reply.removed)
        body = self._bodies.get(key)
        if body is None:
            body = self._delta(reply) if delta else self._sotw(reply)
            self._keep(key, body)
        else:
            self._bodies.move_to_end(key)
        return body + length_delimited(_NONCE, reply.nonce.encode())

    def _sotw(self, reply: Reply) -> bytes:
        parts = [_head(reply), self._sotw_tail]
        for packed in reply.resources:
            parts += (packed.sotw_head, packed.body)
        return b"".join(parts)

    def _delta(self, reply: Reply) -> bytes:
        parts = [_head(reply), self._delta_tail]
        for packed in reply.resources:
            parts += (packed.delta_head, packed.body)
        parts += [length_delimited(_REMOVED, name.encode()) for name in reply.removed]
        return b"".join(parts)

    def _keep(self, key: object, body: bytes) -> None:
        if len(body) > self._memory:
            return
        self._bodies[key] = body
        self._held += len(body)
        while self._held > self._memory or len(self._bodies) > _KEPT_BODIES:
            _, dropped = self._bodies.popitem(last=False)
            self._held -= len(dropped)


def _head(reply: Reply) -> bytes:
    return length_delimited(_VERSION, reply.version.encode()) + length_delimited(_TYPE_URL, reply.type_url.encode())
