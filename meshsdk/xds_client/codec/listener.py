"""Listener -> `model.resources.Listener`. Called by `decoding` (LDS).

Specs: gRFC A27 (api_listener), A28 (inlined routes), A31 (max_stream_duration), A39 (HTTP filters), A41 (what must be
unset). Listeners for servers (gRFC A36) are refused.
"""

from __future__ import annotations

from typing import Any

from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from meshsdk.model.resources import Listener, RouteConfiguration
from meshsdk.xds_client.codec import route
from meshsdk.xds_client.codec.http_filters import http_filters
from meshsdk.xds_client.codec.ignored import Honoured, unhonoured
from meshsdk.xds_client.codec.refusal import FieldError, shown
from meshsdk.xds_client.codec.values import from_ads, parsed, required, seconds, type_name

_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_INSIDE = "api_listener.api_listener"
_LISTENER: Honoured = {"name": None, "api_listener": None, "stat_prefix": None}
_HONOURED: Honoured = {
    "codec_type": None,  # gRPC speaks HTTP/2, whatever it says
    "stat_prefix": None,  # names a statistic
    "rds": None,
    "route_config": None,  # lists for itself
    "http_filters": None,
    "common_http_protocol_options": {"max_stream_duration": None},
}


def decode(raw: bytes) -> Listener:
    """Returns a serialised Listener; raises `FieldError`."""
    message = parsed(listener_pb2.Listener, raw)
    if not message.HasField("api_listener"):
        raise FieldError("api_listener", "is not set; a client needs a listener with an api_listener")
    noted = set(unhonoured(message, _LISTENER))
    packed = message.api_listener.api_listener
    if type_name(packed) != _MANAGER:
        raise FieldError(_INSIDE, f"{shown(packed.type_url)} is not supported; it must hold an HttpConnectionManager")
    manager = parsed(http_connection_manager_pb2.HttpConnectionManager, packed.value, _INSIDE)
    noted.update(unhonoured(manager, _HONOURED, _INSIDE))
    try:
        return _from_manager(message.name, manager, noted)
    except FieldError as error:
        raise error.under(_INSIDE) from error


def _from_manager(name: str, manager: Any, noted: set[str]) -> Listener:
    if manager.xff_num_trusted_hops:
        raise FieldError("xff_num_trusted_hops", "must be zero (gRFC A41)")
    if manager.original_ip_detection_extensions:
        raise FieldError("original_ip_detection_extensions", "must be empty (gRFC A41)")
    route_name, route_config = _routes(manager)
    if route_config is not None:
        noted.update(f"{_INSIDE}.route_config.{one}" for one in route_config.ignored)
    options = manager.common_http_protocol_options
    longest = None
    if options.HasField("max_stream_duration"):
        longest = seconds(options.max_stream_duration, "common_http_protocol_options.max_stream_duration")
    filters = http_filters(manager.http_filters, "http_filters", noted, f"{_INSIDE}.http_filters")
    return Listener(name, route_name, route_config, longest or None, filters, tuple(sorted(noted)))


def _routes(manager: Any) -> tuple[str | None, RouteConfiguration | None]:
    """Returns the name of the RDS resource or the inlined routes."""
    kind = manager.WhichOneof("route_specifier")
    if kind == "rds":
        from_ads(manager.rds.config_source, "rds.config_source")
        return required(manager.rds.route_config_name, "rds.route_config_name"), None
    if kind == "route_config":
        try:
            return None, route.from_message(manager.route_config)
        except FieldError as error:
            raise error.under("route_config") from error
    raise FieldError("route_specifier", f"{shown(kind)} is not supported" if kind else "is not set")
