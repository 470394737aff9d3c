"""xDS resources for foreign peers, written with `xds-protos` alone: one service's chain from LDS to EDS.

Shares no code with `meshsdk` or `controlplane.translate`, so that neither can agree with itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import config_source_pb2, protocol_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message


def packed(message: Message) -> any_pb2.Any:
    """Wraps a message as extension configuration."""
    box = any_pb2.Any()
    box.Pack(message)
    return box


def from_ads() -> config_source_pb2.ConfigSource:
    """Names the ADS stream as the source of another resource."""
    source = config_source_pb2.ConfigSource(resource_api_version=config_source_pb2.ApiVersion.V3)
    source.ads.SetInParent()
    return source


def manager(route_name: str) -> hcm_pb2.HttpConnectionManager:
    """Builds the connection manager that takes its routes from RDS."""
    return hcm_pb2.HttpConnectionManager(
        stat_prefix=route_name,
        codec_type=hcm_pb2.HttpConnectionManager.HTTP2,
        rds=hcm_pb2.Rds(route_config_name=route_name, config_source=from_ads()),
        http_filters=[hcm_pb2.HttpFilter(name="router", typed_config=packed(router_pb2.Router()))],
    )


def client_listener(name: str, route_name: str) -> listener_pb2.Listener:
    """Builds the LDS resource of a gRPC client: `xds:///name` (gRFC A27)."""
    listener = listener_pb2.Listener(name=name)
    listener.api_listener.api_listener.Pack(manager(route_name))
    return listener


def socket_listener(name: str, route_name: str) -> listener_pb2.Listener:
    """Builds the LDS resource of a proxy: a listener on a free loopback port."""
    listener = listener_pb2.Listener(name=name)
    listener.address.socket_address.address = "127.0.0.1"
    listener.address.socket_address.port_value = 0
    chain = listener.filter_chains.add()
    chain.filters.add(name="http", typed_config=packed(manager(route_name)))
    return listener


def routes(name: str, weights: Mapping[str, int]) -> route_pb2.RouteConfiguration:
    """Builds the RDS resource: every call goes to the clusters by weight."""
    action = route_components_pb2.RouteAction()
    for cluster_name, weight in weights.items():
        action.weighted_clusters.clusters.add(name=cluster_name).weight.value = weight
    route = route_components_pb2.Route(match=route_components_pb2.RouteMatch(prefix="/"), route=action)
    host = route_components_pb2.VirtualHost(name=name, domains=["*"], routes=[route])
    return route_pb2.RouteConfiguration(name=name, virtual_hosts=[host])


def cluster(name: str) -> cluster_pb2.Cluster:
    """Builds the CDS resource of an EDS cluster that speaks HTTP/2."""
    made = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS, lb_policy=cluster_pb2.Cluster.ROUND_ROBIN)
    made.eds_cluster_config.eds_config.CopyFrom(from_ads())
    http2 = http_protocol_options_pb2.HttpProtocolOptions()
    http2.explicit_http_config.http2_protocol_options.CopyFrom(protocol_pb2.Http2ProtocolOptions())
    made.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].Pack(http2)
    return made


def endpoints(name: str, ports: Iterable[int]) -> endpoint_pb2.ClusterLoadAssignment:
    """Builds the EDS resource: loopback endpoints in one locality."""
    assignment = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    locality = assignment.endpoints.add()
    locality.locality.region = "here"
    locality.load_balancing_weight.value = 1
    for port in ports:
        address = locality.lb_endpoints.add().endpoint.address.socket_address
        address.address, address.port_value = "127.0.0.1", port
    return assignment
