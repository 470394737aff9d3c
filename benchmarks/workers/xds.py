"""The xDS resources of the benchmarks, written with `xds-protos` alone: the same messages for every client.

Clients differ where xDS makes them: gRPC takes an `api_listener`, Envoy a listener on a port; and in the load balancing
policy that the benchmark says.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from envoy.config.cluster.v3 import cluster_pb2, outlier_detection_pb2
from envoy.config.core.v3 import config_source_pb2, protocol_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.load_balancing_policies.pick_first.v3 import pick_first_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from xds.type.v3 import typed_struct_pb2

_COLLECTION = "xdstp:///envoy.config.endpoint.v3.LbEndpoint/{}/here:a:/"
_REGISTRY_CLUSTER = "meshsdk.clusters.registry"
_NETWORK = 0x7F01_0000  # 127.1.0.0: every address of 127.0.0.0/8 is this machine
_HTTP2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

Address = tuple[str, int]


def address(number: int, port: int) -> Address:
    """Returns the `number`th address of a large set."""
    value = _NETWORK + number
    return ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0)), port


def _ads() -> config_source_pb2.ConfigSource:
    source = config_source_pb2.ConfigSource(resource_api_version=config_source_pb2.ApiVersion.V3)
    source.ads.SetInParent()
    return source


def listener(name: str, *, proxy: bool) -> listener_pb2.Listener:
    """Returns LDS: routes come from RDS under the same name. `proxy`: on a free port of loopback, for Envoy."""
    manager = hcm_pb2.HttpConnectionManager(
        stat_prefix=name,
        codec_type=hcm_pb2.HttpConnectionManager.HTTP2,
        rds=hcm_pb2.Rds(route_config_name=name, config_source=_ads()),
        http_filters=[hcm_pb2.HttpFilter(name="router")],
    )
    manager.http_filters[0].typed_config.Pack(router_pb2.Router())
    made = listener_pb2.Listener(name=name)
    if not proxy:
        made.api_listener.api_listener.Pack(manager)
        return made
    made.address.socket_address.address = "127.0.0.1"
    made.address.socket_address.port_value = 0
    made.filter_chains.add().filters.add(name="http").typed_config.Pack(manager)
    return made


def routes(name: str, clusters: Iterable[str], conditional: int, *, retry: bool) -> route_pb2.RouteConfiguration:
    """Returns RDS: `conditional` routes on a header that calls do not match, then one route for each cluster.

    One cluster: a catch-all. Several: by the prefix `/CLUSTER/`.
    """
    named = list(clusters)
    host = route_components_pb2.VirtualHost(name=name, domains=["*"])
    for number in range(conditional):
        route = host.routes.add(match=route_components_pb2.RouteMatch(prefix="/"))
        header = route.match.headers.add(name="x-variant")
        header.string_match.exact = f"variant-{number}"
        _forward(route, named[0], retry=retry)
    for cluster in named:
        prefix = "/" if len(named) == 1 else f"/{cluster}/"
        _forward(host.routes.add(match=route_components_pb2.RouteMatch(prefix=prefix)), cluster, retry=retry)
    return route_pb2.RouteConfiguration(name=name, virtual_hosts=[host])


def _forward(route: route_components_pb2.Route, cluster: str, *, retry: bool) -> None:
    route.route.cluster = cluster
    route.route.max_stream_duration.max_stream_duration.SetInParent()  # no limit but the caller's
    route.route.timeout.SetInParent()  # the same for Envoy
    if retry:
        route.route.retry_policy.retry_on = "unavailable"
        route.route.retry_policy.num_retries.value = 2


def cluster(name: str, policy: str, *, outlier_detection: bool = False) -> cluster_pb2.Cluster:
    """Returns CDS: EDS endpoints that speak HTTP/2. `policy`: round_robin, least_request, ring_hash or pick_first."""
    made = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS)
    made.eds_cluster_config.eds_config.CopyFrom(_ads())
    made.connect_timeout.seconds = 5
    http2 = http_protocol_options_pb2.HttpProtocolOptions()
    http2.explicit_http_config.http2_protocol_options.CopyFrom(protocol_pb2.Http2ProtocolOptions())
    made.typed_extension_protocol_options[_HTTP2].Pack(http2)
    if policy == "pick_first":
        chosen = made.load_balancing_policy.policies.add()
        chosen.typed_extension_config.name = "pick_first"
        chosen.typed_extension_config.typed_config.Pack(pick_first_pb2.PickFirst())
    else:
        made.lb_policy = cluster_pb2.Cluster.LbPolicy.Value(policy.upper())
    if outlier_detection:
        made.outlier_detection.CopyFrom(outlier_detection_pb2.OutlierDetection())
        made.outlier_detection.consecutive_5xx.value = 5
        made.outlier_detection.max_ejection_percent.value = 50
    # gRPC allows 1,024 requests at once to a cluster by default, as Envoy does; no benchmark comes near it.
    return made


def assignment(name: str, addresses: Iterable[Address]) -> endpoint_pb2.ClusterLoadAssignment:
    """Returns EDS: all endpoints in one locality."""
    made = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    locality = made.endpoints.add()
    locality.locality.region, locality.locality.zone = "here", "a"
    locality.load_balancing_weight.value = 1
    locality.lb_endpoints.extend(endpoint(one) for one in addresses)
    return made


def endpoint(where: Address) -> endpoint_components_pb2.LbEndpoint:
    """Returns one endpoint: a part of an assignment, or with LEDS a resource of its own."""
    made = endpoint_components_pb2.LbEndpoint()
    made.endpoint.address.socket_address.address, made.endpoint.address.socket_address.port_value = where
    return made


def endpoint_name(cluster_name: str, where: Address) -> str:
    """Returns the name of an endpoint in the LEDS collection of its cluster."""
    return _COLLECTION.format(cluster_name) + quote(f"{where[0]}:{where[1]}", safe="")


def collected(name: str) -> endpoint_pb2.ClusterLoadAssignment:
    """Returns EDS whose endpoints are a LEDS collection."""
    made = assignment(name, ())
    leds = made.endpoints[0].leds_cluster_locality_config
    leds.leds_config.CopyFrom(_ads())
    leds.leds_collection_name = _COLLECTION.format(name) + "*"
    return made


def registry_cluster(name: str, policy: str, registry: str, app: str) -> cluster_pb2.Cluster:
    """Returns CDS whose endpoints the client gets from a registry (design.md section 3)."""
    made = cluster(name, policy)
    made.ClearField("type")
    made.ClearField("eds_cluster_config")
    made.cluster_type.name = _REGISTRY_CLUSTER
    typed = typed_struct_pb2.TypedStruct(type_url="type.googleapis.com/meshsdk.clusters.registry.v1.RegistryCluster")
    typed.value.update({"registry": registry, "app": app, "unit": ""})
    made.cluster_type.typed_config.Pack(typed)
    return made
