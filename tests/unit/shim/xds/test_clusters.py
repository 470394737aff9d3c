"""The clusters that the shim's Envoy gets: the control plane's own, with endpoints from the shim."""

from __future__ import annotations

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from meshsdk.model.resources import AggregateSource, Cluster, DnsSource, EdsSource, RegistrySource
from meshsdk.shim.settings import Protocol
from meshsdk.shim.xds.clusters import inbound_cluster, outbound_cluster
from tests.unit.xds_client.codec import messages

_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def made(cluster: Cluster, raw: bytes) -> cluster_pb2.Cluster:
    """Returns the cluster for Envoy."""
    return cluster_pb2.Cluster.FromString(outbound_cluster(cluster, raw))


def options(message: cluster_pb2.Cluster) -> http_protocol_options_pb2.HttpProtocolOptions:
    """Returns its protocol options."""
    packed = message.typed_extension_protocol_options[_OPTIONS]
    return http_protocol_options_pb2.HttpProtocolOptions.FromString(packed.value)


def test_what_the_control_plane_says_reaches_envoy() -> None:
    """Outlier detection, limits and timeouts stay; endpoints come from the shim, and nobody waits for load reports."""
    raw = messages.cluster(
        outlier_detection={"consecutive_5xx": 3}, connect_timeout="0.5s", lrs_server={"self": {}},
        eds_cluster_config={"eds_config": messages.ADS, "service_name": "elsewhere"},
    )  # fmt: skip
    message = made(Cluster("orders", EdsSource("elsewhere")), raw)
    assert message.outlier_detection.consecutive_5xx.value == 3
    assert message.connect_timeout.nanos == 500_000_000
    assert message.eds_cluster_config.service_name == "orders"
    assert message.eds_cluster_config.eds_config.HasField("ads")
    assert not message.HasField("lrs_server")


def test_registry_clusters_become_eds() -> None:
    """A cluster straight from a registry is, to Envoy, one whose endpoints come by EDS."""
    raw = messages.cluster(type=None, eds_cluster_config=None, cluster_type={"name": "meshsdk.clusters.registry"})
    message = made(Cluster("orders", RegistrySource("default", "orders")), raw)
    assert message.type == cluster_pb2.Cluster.EDS
    assert message.WhichOneof("cluster_discovery_type") == "type"


def test_the_callers_protocol_is_spoken() -> None:
    """HTTP/1.1 requests go out as such, gRPC as HTTP/2 with the settings that the control plane gives."""
    http2 = {"explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 9}}}
    config = {"@type": f"type.googleapis.com/{_OPTIONS}", **http2}
    found = options(
        made(
            Cluster("orders", EdsSource("orders")),
            messages.cluster(typed_extension_protocol_options={_OPTIONS: config}),
        )
    )
    assert found.use_downstream_protocol_config.HasField("http_protocol_options")
    assert found.use_downstream_protocol_config.http2_protocol_options.max_concurrent_streams.value == 9


def test_direct_targets_are_balanced_as_the_sdk_does() -> None:
    """A `mesh:` target has no CDS resource: LEAST_REQUEST over its EDS, without Envoy's default limits."""
    message = made(Cluster("mesh://default/stock", RegistrySource("default", interface="stock")), b"")
    assert message.lb_policy == cluster_pb2.Cluster.LEAST_REQUEST
    assert message.circuit_breakers.thresholds[0].max_requests.value > 1_000_000
    assert message.eds_cluster_config.service_name == "mesh://default/stock"


def test_names_and_aggregates_stay() -> None:
    """Envoy resolves names itself, and knows aggregates; those connect to nothing and have no protocol."""
    dns = made(Cluster("orders", DnsSource("h", 80)), messages.cluster(type="LOGICAL_DNS", eds_cluster_config=None))
    assert dns.type == cluster_pb2.Cluster.LOGICAL_DNS
    raw = messages.cluster(type=None, eds_cluster_config=None, cluster_type={"name": "envoy.clusters.aggregate"})
    aggregate = made(Cluster("orders", AggregateSource(("a",))), raw)
    assert aggregate.cluster_type.name == "envoy.clusters.aggregate"
    assert not aggregate.typed_extension_protocol_options


def test_the_application_is_spoken_to_as_it_wants() -> None:
    """HTTP/2 or HTTP/1.1 where the application has one only, on a port or a Unix socket."""
    message = cluster_pb2.Cluster.FromString(inbound_cluster("inbound-0", "127.0.0.1:80", Protocol.H2C))
    assert options(message).explicit_http_config.HasField("http2_protocol_options")
    message = cluster_pb2.Cluster.FromString(inbound_cluster("inbound-0", "unix:/run/app", Protocol.HTTP1))
    assert options(message).explicit_http_config.HasField("http_protocol_options")
    address = message.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address
    assert address.pipe.path == "/run/app"
