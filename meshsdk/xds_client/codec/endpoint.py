"""LbEndpoint -> `Endpoint`. Called for every endpoint of an EDS resource, so this is the codec's hot path.

`decode` takes one that is a resource of its own (LEDS).

Specs: gRFC A27 (address, health, weight), A76 (hash_key), A81 (`hostname` is listed, not honoured);
`metadata.filter_metadata["meshsdk"]["started_at"]` (unix seconds) is ours, for slow start.
"""

from __future__ import annotations

import socket
from typing import Any

from envoy.config.core.v3 import address_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2

from meshsdk.model.collection import LbEndpoint
from meshsdk.model.endpoints import Endpoint, Health
from meshsdk.xds_client.codec.ignored import Honoured, unhonoured
from meshsdk.xds_client.codec.refusal import FieldError, shown
from meshsdk.xds_client.codec.values import parsed

_Status = health_check_pb2.HealthStatus
_HEALTH = {
    _Status.UNKNOWN: Health.HEALTHY,
    _Status.HEALTHY: Health.HEALTHY,
    _Status.UNHEALTHY: Health.UNHEALTHY,
    _Status.DRAINING: Health.DRAINING,
    _Status.TIMEOUT: Health.UNHEALTHY,
    _Status.DEGRADED: Health.DEGRADED,
}
_PORT_MAX = 65_535
_SOCKET = "endpoint.address.socket_address"
_SOCKET_FIELDS = 2  # address, port_value: a socket address with just these is looked at no closer
_HONOURED: Honoured = {"address": {"socket_address": {"address": None, "port_value": None}, "pipe": {"path": None}}}
_OURS, _ENVOY = "meshsdk", "envoy.lb"


class Shared:
    """Values that many endpoints share, kept once each. Lives for one decode, in one thread."""

    def __init__(self) -> None:
        self._floats: dict[float, float] = {}
        self._ints: dict[int, int] = {}
        self._texts: dict[str, str] = {}

    def times(self, value: float) -> float:
        """Returns the first float given that equals `value`."""
        return self._floats.setdefault(value, value)

    def weights(self, value: int) -> int:
        """Returns the first int given that equals `value`."""
        return self._ints.setdefault(value, value)

    def texts(self, value: str) -> str:
        """Returns the first string given that equals `value`."""
        return self._texts.setdefault(value, value)


def decode(raw: bytes) -> LbEndpoint:
    """Returns a serialised envoy.config.endpoint.v3.LbEndpoint; raises `FieldError`."""
    noted: dict[str, int] = {}
    one = endpoint(parsed(endpoint_components_pb2.LbEndpoint, raw), Shared(), noted)
    return LbEndpoint(one, tuple(sorted(noted)))


def endpoint(message: Any, shared: Shared, noted: dict[str, int]) -> Endpoint:
    """Returns an envoy.config.endpoint.v3.LbEndpoint; raises `FieldError` with a path relative to it.

    `noted` counts, per path, the endpoints that set a field without effect here.
    """
    if message.HasField("endpoint_name"):
        raise FieldError("endpoint_name", "is not supported")
    address = _address(message.endpoint, noted)
    health = _HEALTH.get(message.health_status)
    if health is None:
        raise FieldError("health_status", f"{message.health_status} is not a known status")
    weight = 1
    if message.HasField("load_balancing_weight"):
        weight = shared.weights(message.load_balancing_weight.value)
        if not weight:
            raise FieldError("load_balancing_weight", "must be 1 or more")
    if not message.HasField("metadata"):
        return Endpoint(address, weight, health)
    started_at, hash_key = _metadata(message.metadata, noted)
    return Endpoint(address, weight, health, shared.times(started_at), shared.texts(hash_key))


def port(address: Any, path: str) -> int:
    """Returns the port of an envoy.config.core.v3.SocketAddress."""
    number = int(address.port_value)
    if not 0 < number <= _PORT_MAX:
        named = address.WhichOneof("port_specifier") == "named_port"
        raise FieldError(f"{path}.port_value", "is not set" if named else f"{number} is not in 1 to {_PORT_MAX}")
    return number


def _address(message: Any, noted: dict[str, int]) -> str:
    """Returns what gRPC dials for an envoy.config.endpoint.v3.Endpoint."""
    kind = message.address.WhichOneof("address")
    at = message.address.socket_address
    if len(message.ListFields()) != 1 or len(at.ListFields()) != _SOCKET_FIELDS:  # the plain case has no more to it
        for path in set(unhonoured(message, _HONOURED, "endpoint")):
            noted[path] = noted.get(path, 0) + 1
    if kind != "socket_address":
        return _pipe(message.address, kind)
    if at.protocol != address_pb2.SocketAddress.TCP:
        raise FieldError(f"{_SOCKET}.protocol", "must be TCP")
    number = port(at, _SOCKET)
    host = at.address
    try:
        if ":" in host:
            socket.inet_pton(socket.AF_INET6, host)
            return f"[{host}]:{number}"
        socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        raise FieldError(f"{_SOCKET}.address", f"{shown(host)} is not an IP address") from error
    return f"{host}:{number}"


def _pipe(address: Any, kind: str | None) -> str:
    """Returns a Unix socket as gRPC dials it; a leading @ means the abstract namespace, as in Envoy."""
    if kind != "pipe":
        what = f"{shown(kind)} is not supported" if kind else "is not set"
        raise FieldError("endpoint.address", what)
    path = address.pipe.path
    if not path or "\0" in path:
        raise FieldError("endpoint.address.pipe.path", f"{shown(path)} is not a path")
    return f"unix-abstract:{path[1:]}" if path[0] == "@" else f"unix:{path}"


def _metadata(metadata: Any, noted: dict[str, int]) -> tuple[float, str]:
    """Returns (started_at, hash_key)."""
    started_at, hash_key = 0.0, ""
    by_filter = metadata.filter_metadata
    for name in by_filter:
        values = by_filter[name].fields
        for key in values:
            if name == _OURS and key == "started_at":
                started_at = _started_at(values[key])
            elif name == _OURS and key == "labels":
                pass  # for those who look at the resource; subsets were chosen by the control plane
            elif name == _ENVOY and key == "hash_key" and values[key].WhichOneof("kind") == "string_value":
                hash_key = values[key].string_value
            else:
                path = f"metadata.filter_metadata.{name}.{key}"
                noted[path] = noted.get(path, 0) + 1
    for name in metadata.typed_filter_metadata:
        path = f"metadata.typed_filter_metadata.{name}"
        noted[path] = noted.get(path, 0) + 1
    return started_at, hash_key


def _started_at(value: Any) -> float:
    number = float(value.number_value)
    if value.WhichOneof("kind") != "number_value" or not 0 <= number < float("inf"):
        raise FieldError(f"metadata.filter_metadata.{_OURS}.started_at", "must be a number of zero or more")
    return number
