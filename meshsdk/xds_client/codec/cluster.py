"""Cluster -> `model.resources.Cluster`. Called by `decoding` (CDS).

Specs: gRFC A27 (EDS), A37 (aggregate, LOGICAL_DNS), A47 (xdstp names), A29 (TLS), A32, A50; `balancing` for A42, A48,
A52, A62.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.clusters.aggregate.v3 import cluster_pb2 as aggregate_pb2
from google.protobuf.any_pb2 import Any as PackedAny

from meshsdk.model.resources import AggregateSource, Cluster, DnsSource, EdsSource, RegistrySource, StaticSource
from meshsdk.xds_client.codec import balancing, endpoints, registry_cluster
from meshsdk.xds_client.codec.ignored import Honoured, unhonoured
from meshsdk.xds_client.codec.outlier import BREAKERS, OUTLIER, circuit_breakers, outlier_detection
from meshsdk.xds_client.codec.refusal import FieldError, shown
from meshsdk.xds_client.codec.values import from_ads, parsed, required, type_name

_HONOURED: Honoured = {
    **balancing.HONOURED,
    "name": None,
    "alt_stat_name": None,  # names a statistic
    "type": None,
    "cluster_type": None,
    "eds_cluster_config": None,
    "load_assignment": None,  # lists for itself
    "http2_protocol_options": {},  # gRPC speaks HTTP/2 anyway
    "typed_extension_protocol_options": None,  # `_protocol_options`
    "transport_socket": None,
    "lrs_server": None,  # `reports`
    "outlier_detection": OUTLIER,
    "circuit_breakers": BREAKERS,
}
_TYPES = cluster_pb2.Cluster.DiscoveryType
_AGGREGATE = "envoy.extensions.clusters.aggregate.v3.ClusterConfig"
_PLAINTEXT = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_NEW_STYLE = "xdstp:"

Source = EdsSource | DnsSource | AggregateSource | StaticSource | RegistrySource


def decode(raw: bytes) -> Cluster:
    """Returns a serialised Cluster; raises `FieldError`."""
    message = parsed(cluster_pb2.Cluster, raw)
    noted = set(unhonoured(message, _HONOURED))
    noted.update(balancing.unhonoured_metadata(message))
    noted.update(_protocol_options(message.typed_extension_protocol_options))
    _check_plaintext(message)
    if message.HasField("lrs_server") and message.lrs_server.WhichOneof("config_source_specifier") != "self":
        raise FieldError("lrs_server", "must be self (gRFC A27)")
    default, high = circuit_breakers(message.circuit_breakers)
    return Cluster(
        name=message.name,
        source=_source(message, noted),
        lb=balancing.lb_config(message, noted),
        outlier=outlier_detection(message.outlier_detection) if message.HasField("outlier_detection") else None,
        breakers=default,
        ignored=tuple(sorted(noted)),
        reports=message.HasField("lrs_server"),
        high_breakers=high,
    )


def _check_plaintext(message: Any) -> None:
    """Refuses TLS (A29): calls must not go out in the clear where the control plane says that they are encrypted."""
    if message.transport_socket_matches:
        raise FieldError("transport_socket_matches", "is not supported (gRFC A29)")
    kind = type_name(message.transport_socket.typed_config)
    if message.HasField("transport_socket") and kind != _PLAINTEXT:
        raise FieldError("transport_socket", f"{shown(kind)} is not supported; connections here are in plaintext")


def _protocol_options(options: Mapping[str, PackedAny]) -> Iterator[str]:
    """Yields what protocol options ask for beyond HTTP/2, which Envoy must be told to speak and gRPC speaks anyway."""
    if not options:
        return
    from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2  # noqa: PLC0415 - many meshes have none

    for name in options:
        path = f"typed_extension_protocol_options.{name}"
        if type_name(options[name]) == _HTTP_OPTIONS:
            message = parsed(http_protocol_options_pb2.HttpProtocolOptions, options[name].value, path)
            yield from unhonoured(message, {"explicit_http_config": {"http2_protocol_options": {}}}, path)
        else:
            yield path


def _source(message: Any, noted: set[str]) -> Source:
    if message.WhichOneof("cluster_discovery_type") == "cluster_type":
        return _custom(message.cluster_type, noted)
    if message.type == _TYPES.EDS:
        return _eds(message)
    if message.type == _TYPES.LOGICAL_DNS:
        return _dns(message)
    if message.type == _TYPES.STATIC:
        return _static(message, noted)
    known = _TYPES.DESCRIPTOR.values_by_number.get(message.type)
    raise FieldError("type", f"{known.name if known else message.type} is not supported")


def _custom(cluster_type: Any, noted: set[str]) -> AggregateSource | RegistrySource:
    if cluster_type.name == registry_cluster.NAME:
        return registry_cluster.source(cluster_type.typed_config, noted)
    if type_name(cluster_type.typed_config) != _AGGREGATE:
        what = shown(type_name(cluster_type.typed_config) or cluster_type.name)
        raise FieldError("cluster_type", f"{what} is not supported")
    names = tuple(parsed(aggregate_pb2.ClusterConfig, cluster_type.typed_config.value, "cluster_type").clusters)
    if not names:
        raise FieldError("cluster_type.clusters", "is empty")
    return AggregateSource(tuple(required(name, f"cluster_type.clusters[{i}]") for i, name in enumerate(names)))


def _eds(message: Any) -> EdsSource:
    from_ads(message.eds_cluster_config.eds_config, "eds_cluster_config.eds_config")
    name = message.eds_cluster_config.service_name
    if not name and message.name.startswith(_NEW_STYLE):
        raise FieldError("eds_cluster_config.service_name", "is empty, which an xdstp cluster may not have (gRFC A47)")
    return EdsSource(name or message.name)


def _dns(message: Any) -> DnsSource:
    """A37: exactly one locality with one endpoint, whose address is the name to resolve."""
    path = "load_assignment.endpoints"
    localities = message.load_assignment.endpoints
    if len(localities) != 1:
        raise FieldError(path, f"a LOGICAL_DNS cluster needs exactly one locality, has {len(localities)}")
    if len(localities[0].lb_endpoints) != 1:
        count = len(localities[0].lb_endpoints)
        raise FieldError(f"{path}[0].lb_endpoints", f"a LOGICAL_DNS cluster needs exactly one endpoint, has {count}")
    address = localities[0].lb_endpoints[0].endpoint.address
    path = f"{path}[0].lb_endpoints[0].endpoint.address.socket_address"
    if not address.HasField("socket_address"):
        raise FieldError(path, "is not set")
    if address.socket_address.resolver_name:
        raise FieldError(f"{path}.resolver_name", "must be empty (gRFC A37)")
    host = required(address.socket_address.address, f"{path}.address")
    if any(character.isspace() or character in "/?#@" for character in host):
        raise FieldError(f"{path}.address", f"{shown(host)} is not a host name")
    return DnsSource(host, endpoints.port(address.socket_address, path))


def _static(message: Any, noted: set[str]) -> StaticSource:
    if not message.HasField("load_assignment"):
        raise FieldError("load_assignment", "is not set, which a STATIC cluster needs")
    assignment = message.load_assignment
    assignment.cluster_name = assignment.cluster_name or message.name
    try:
        found = endpoints.decode(assignment.SerializeToString())
    except FieldError as error:
        raise error.under("load_assignment") from error
    if any(one.collection for one in found.localities):
        raise FieldError("load_assignment.endpoints", "names a LEDS collection, which only EDS resources may")
    noted.update(f"load_assignment.{one}" for one in found.ignored)
    return StaticSource(found)
