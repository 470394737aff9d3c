"""The listeners of the shim's Envoy: outbound on loopback, inbound in front of the application. HTTP/1.1 and HTTP/2."""

from __future__ import annotations

from envoy.config.core.v3 import base_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as manager_pb2

from meshsdk.shim.settings import Inbound
from meshsdk.shim.xds.clusters import packed
from meshsdk.shim.xds.endpoints import set_address
from meshsdk.shim.xds.routes import OUTBOUND

INBOUND = "inbound"
_DRAINING = "envoy.filters.http.header_mutation"
_ADS = 2  # ApiVersion.V3


def outbound_listener(address: str) -> bytes:
    """Returns the serialised listener that the application calls others through."""
    return _listener(OUTBOUND, address, base_pb2.OUTBOUND, _manager(OUTBOUND))


def inbound_listener(number: int, inbound: Inbound) -> bytes:
    """Returns the serialised listener that others call the application through."""
    manager = _manager(inbound_name(number), stat=INBOUND)
    mutation = manager_pb2.HttpFilter(name=_DRAINING, typed_config=packed(header_mutation_pb2.HeaderMutation()))
    manager.http_filters.insert(0, mutation)
    return _listener(inbound_name(number), inbound.listen, base_pb2.INBOUND, manager)


def inbound_name(number: int) -> str:
    """Returns the name of an inbound listener, of its routes and of the application's cluster behind it."""
    return f"{INBOUND}-{number}"


def inbound_routes(number: int, *, draining: bool) -> bytes:
    """Returns the serialised routes to the application; while `draining`, answers tell SDK peers so in a trailer."""
    message = route_pb2.RouteConfiguration(name=inbound_name(number))
    host = message.virtual_hosts.add(name="application", domains=["*"])
    route = host.routes.add()
    route.match.prefix = "/"
    route.route.cluster = inbound_name(number)
    route.route.timeout.SetInParent()  # none: the caller's and the application's own count
    if draining:
        told = header_mutation_pb2.HeaderMutationPerRoute()
        trailer = told.mutations.response_trailers_mutations.add()
        trailer.append.header.key, trailer.append.header.value = "meshsdk-draining", "1"
        host.typed_per_filter_config[_DRAINING].CopyFrom(packed(told))
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _manager(routes: str, stat: str = "") -> manager_pb2.HttpConnectionManager:
    manager = manager_pb2.HttpConnectionManager(
        stat_prefix=stat or routes,
        codec_type=manager_pb2.HttpConnectionManager.AUTO,
        server_header_transformation=manager_pb2.HttpConnectionManager.PASS_THROUGH,
    )
    manager.rds.route_config_name = routes
    manager.rds.config_source.ads.SetInParent()
    manager.rds.config_source.resource_api_version = _ADS
    manager.generate_request_id.value = False
    manager.stream_idle_timeout.SetInParent()  # none: a stream may be quiet for as long as it likes
    manager.upgrade_configs.add(upgrade_type="websocket")
    router = router_pb2.Router(suppress_envoy_headers=True)
    manager.http_filters.add(name="envoy.filters.http.router", typed_config=packed(router))
    return manager


def _listener(name: str, address: str, direction: int, manager: manager_pb2.HttpConnectionManager) -> bytes:
    message = listener_pb2.Listener(name=name, traffic_direction=direction)
    set_address(message.address, address)
    filters = message.filter_chains.add().filters
    filters.add(name="envoy.filters.network.http_connection_manager", typed_config=packed(manager))
    data: bytes = message.SerializeToString(deterministic=True)
    return data
