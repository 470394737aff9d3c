"""The LDS resource of a service: an api_listener for proxyless clients (gRFC A27). Pure."""

from __future__ import annotations

from envoy.config.core.v3 import config_source_pb2
from envoy.config.listener.v3 import api_listener_pb2, listener_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2

from controlplane.model.configuration import Configuration
from controlplane.translate.http_filters import http_filters
from controlplane.translate.packing import packed


def ads() -> config_source_pb2.ConfigSource:
    """Returns the source "the same server, on ADS"."""
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(), resource_api_version=config_source_pb2.ApiVersion.V3
    )


def listener(host: str, configuration: Configuration) -> listener_pb2.Listener:
    """Returns the listener `host`, with the filters its policies use; it points at the RDS resource of its name."""
    manager = hcm_pb2.HttpConnectionManager(
        stat_prefix=host,
        rds=hcm_pb2.Rds(config_source=ads(), route_config_name=host),
        http_filters=[
            *http_filters(host, configuration),
            hcm_pb2.HttpFilter(name="envoy.filters.http.router", typed_config=packed(router_pb2.Router())),
        ],
    )
    return listener_pb2.Listener(name=host, api_listener=api_listener_pb2.ApiListener(api_listener=packed(manager)))
