"""The two entrances of the codec: `unwrap` what arrived in a DiscoveryResponse, `decode` one resource.

Called by the driver thread of the xDS client for every resource received. Protobuf goes in, frozen values of
`meshsdk.model` come out; what is not acceptable is `InvalidResource`, whose text is the NACK (gRFC A27, A46).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.any_pb2 import Any as PackedAny
from google.protobuf.message import DecodeError

from meshsdk.errors import InvalidResource
from meshsdk.model.resources import Kind, Resource
from meshsdk.xds_client.codec import cluster, endpoint, endpoints, listener, route, runtime, wire
from meshsdk.xds_client.codec.refusal import FieldError, shown
from meshsdk.xds_client.codec.values import NAME_MAX

_KINDS: Mapping[str, Kind] = {kind.value: kind for kind in Kind}
_WRAPPER = "type.googleapis.com/envoy.service.discovery.v3.Resource"
_DECODERS: Mapping[Kind, Callable[[bytes], Resource]] = {
    Kind.LISTENER: listener.decode,
    Kind.ROUTE: route.decode,
    Kind.CLUSTER: cluster.decode,
    Kind.RUNTIME: runtime.decode,
}
_NAME = wire.tag(1)  # all types but LbEndpoint have their name in field 1


def unwrap(packed: PackedAny) -> tuple[Kind | str, bytes]:
    """Returns (kind, serialised resource) of an entry of a response; the type URL where it is none of `Kind`.

    A `Resource` wrapper (A46 names, A53 TTLs, which do not count here) is taken off. Raises `InvalidResource`.
    """
    if packed.type_url == _WRAPPER:
        try:
            packed = discovery_pb2.Resource.FromString(packed.value).resource
        except DecodeError as error:
            raise InvalidResource(f"{_WRAPPER}: is not a serialised envoy.service.discovery.v3.Resource") from error
    return _KINDS.get(packed.type_url, packed.type_url), packed.value


def decode(kind: Kind, raw: bytes, previous: Resource | None = None, previous_raw: bytes = b"") -> tuple[str, Resource]:
    """Returns (name, resource) of a serialised resource of this kind.

    `previous`: what `previous_raw` was decoded to, if this is a newer version of it. Then an EDS resource costs what
    changed, and equal bytes give `previous` itself. Raises `InvalidResource`, with `.name` where it can be read.
    The resource of a LEDS collection has no name inside: "" is returned.
    """
    if kind is Kind.LB_ENDPOINTS:
        return "", _lb_endpoint(raw)
    try:
        if kind is Kind.ENDPOINTS:
            resource: Resource = endpoints.decode(raw, previous, previous_raw)
        elif previous is not None and raw == previous_raw:
            resource = previous
        else:
            resource = _DECODERS[kind](raw)
    except FieldError as error:
        name = _name_in(raw)
        raise InvalidResource(f"{_words(kind)} {shown(name)}: {error}", name) from error
    if not 0 < len(resource.name) <= NAME_MAX:
        field = "cluster_name" if kind is Kind.ENDPOINTS else "name"
        what = f"is longer than {NAME_MAX} characters" if resource.name else "is empty"
        raise InvalidResource(f"{_words(kind)} {shown(resource.name)}: {field}: {what}", resource.name)
    return resource.name, resource


def _lb_endpoint(raw: bytes) -> Resource:
    try:
        return endpoint.decode(raw)
    except FieldError as error:
        raise InvalidResource(f"LbEndpoint: {error}") from error


def _words(kind: Kind) -> str:
    return kind.value.rpartition(".")[2]


def _name_in(raw: bytes) -> str:
    """Returns the name in a resource that could not be decoded, "" if that cannot be read either."""
    name = ""
    try:
        for key, _, payload, end in wire.fields(raw, 0, len(raw)):
            if key == _NAME:
                name = raw[payload:end].decode()
    except (FieldError, UnicodeDecodeError):
        return ""
    return name[:NAME_MAX]
