"""Clusters as Envoy is to have them: the control plane's own bytes, changed only where this machine differs.

Passing the bytes on keeps all that the SDK itself does not honour (outlier detection, circuit breakers, connection
pools, health checks): Envoy does. What differs: endpoints come from the shim's own EDS, whatever source they have;
connections speak the protocol of the caller; load reports have no receiver here.
"""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf.any_pb2 import Any as PackedAny

from meshsdk.model.resources import Cluster, EdsSource, RegistrySource
from meshsdk.shim.settings import Protocol
from meshsdk.shim.xds.endpoints import set_address

_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_UNLIMITED = 2**31 - 1
_CONNECT_SECONDS = 5


def outbound_cluster(cluster: Cluster, raw: bytes) -> bytes:
    """Returns a serialised Cluster. `raw`: as the control plane gave it, b"" for a `mesh:` target, which has none."""
    message = cluster_pb2.Cluster.FromString(raw) if raw else _direct(cluster)
    if isinstance(cluster.source, (EdsSource, RegistrySource)):
        message.ClearField("cluster_type")
        message.type = cluster_pb2.Cluster.EDS
        message.eds_cluster_config.Clear()
        message.eds_cluster_config.service_name = cluster.name
        message.eds_cluster_config.eds_config.ads.SetInParent()
        message.eds_cluster_config.eds_config.resource_api_version = 2  # ApiVersion.V3
    message.ClearField("lrs_server")
    if not message.HasField("connect_timeout"):
        message.connect_timeout.seconds = _CONNECT_SECONDS
    _as_called(message)
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _direct(cluster: Cluster) -> cluster_pb2.Cluster:
    """A cluster of a `mesh:` target, balanced as the SDK does (`xds_client.direct.LB`)."""
    message = cluster_pb2.Cluster(name=cluster.name, lb_policy=cluster_pb2.Cluster.LEAST_REQUEST)
    message.circuit_breakers.thresholds.append(_no_limits())
    return message


def inbound_cluster(name: str, target: str, protocol: Protocol) -> bytes:
    """Returns the serialised cluster of the application itself, at `target` (`ip:port` or `unix:path`)."""
    message = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.STATIC)
    message.connect_timeout.seconds = _CONNECT_SECONDS
    message.circuit_breakers.thresholds.append(_no_limits())
    message.load_assignment.cluster_name = name
    set_address(message.load_assignment.endpoints.add().lb_endpoints.add().endpoint.address, target)
    options = http_protocol_options_pb2.HttpProtocolOptions()
    if protocol is Protocol.H2C:
        options.explicit_http_config.http2_protocol_options.SetInParent()
    elif protocol is Protocol.HTTP1:
        options.explicit_http_config.http_protocol_options.SetInParent()
    else:
        options.use_downstream_protocol_config.http_protocol_options.SetInParent()
        options.use_downstream_protocol_config.http2_protocol_options.SetInParent()
    message.typed_extension_protocol_options[_OPTIONS].CopyFrom(packed(options))
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def packed(message: Any) -> PackedAny:
    """Packs with a deterministic encoding, so that equal configuration has equal bytes."""
    found = PackedAny()
    found.Pack(message, deterministic=True)
    return found


def _as_called(message: cluster_pb2.Cluster) -> None:
    """Has an HTTP/1.1 caller's request sent as HTTP/1.1 and a gRPC call as HTTP/2.

    A control plane for gRPC says HTTP/2 for every cluster, which an HTTP/1.1 server would not understand.
    """
    if message.WhichOneof("cluster_discovery_type") == "cluster_type":  # an aggregate: its leaves connect
        return
    options = http_protocol_options_pb2.HttpProtocolOptions()
    known = message.typed_extension_protocol_options.get(_OPTIONS)
    if known is not None:
        options = http_protocol_options_pb2.HttpProtocolOptions.FromString(known.value)
    http2 = options.explicit_http_config.http2_protocol_options
    kept = type(http2).FromString(http2.SerializeToString())
    options.use_downstream_protocol_config.http_protocol_options.SetInParent()  # the other choices of the oneof go
    options.use_downstream_protocol_config.http2_protocol_options.CopyFrom(kept)
    message.ClearField("http2_protocol_options")
    message.typed_extension_protocol_options[_OPTIONS].CopyFrom(packed(options))


def _no_limits() -> circuit_breaker_pb2.CircuitBreakers.Thresholds:
    limits = circuit_breaker_pb2.CircuitBreakers.Thresholds()
    for name in ("max_connections", "max_pending_requests", "max_requests", "max_retries"):
        getattr(limits, name).value = _UNLIMITED
    return limits
