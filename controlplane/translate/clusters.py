"""The CDS resources of a service: one cluster for all of it and one for each subset. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from controlplane.model.configuration import Configuration
from controlplane.model.policy import ConnectionPool, LoadBalancer, OutlierPolicy, TrafficPolicy
from controlplane.model.service import Resolution, ServiceEntry
from controlplane.translate.balancing import apply_load_balancer
from controlplane.translate.durations import duration
from controlplane.translate.listener import ads, packed
from controlplane.translate.names import cluster_name
from meshsdk.model.policy import RoundRobin

_PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def clusters(host: str, configuration: Configuration) -> Iterator[cluster_pb2.Cluster]:
    """Yields `host` and, where a DestinationRule has subsets, `host|subset` for each."""
    rule = configuration.rules.get(host)
    entry = configuration.services.get(host)
    policy = rule.policy if rule else TrafficPolicy()
    yield _cluster(cluster_name(host, ""), host, entry, policy)
    for subset in rule.subsets if rule else ():
        yield _cluster(cluster_name(host, subset.name), host, entry, subset.policy.over(policy))


def _cluster(name: str, host: str, entry: ServiceEntry | None, policy: TrafficPolicy) -> cluster_pb2.Cluster:
    message = cluster_pb2.Cluster(name=name)
    if entry and entry.resolution is Resolution.DNS:
        _by_dns(message, host, entry)
    else:
        message.type = cluster_pb2.Cluster.EDS
        message.eds_cluster_config.eds_config.CopyFrom(ads())
        message.eds_cluster_config.service_name = name
    apply_load_balancer(message, policy.load_balancer or LoadBalancer(RoundRobin()))
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.explicit_http_config.http2_protocol_options.SetInParent()  # Envoy would speak HTTP/1.1
    if policy.pool:
        _limit(message, options, policy.pool)
    if policy.outlier:
        _watch_outliers(message, policy.outlier)
    message.typed_extension_protocol_options[_PROTOCOL_OPTIONS].CopyFrom(packed(options))
    return message


def _by_dns(message: cluster_pb2.Cluster, host: str, entry: ServiceEntry) -> None:
    port = entry.ports[0]
    number = port.target_port or port.number
    name = host
    if entry.workloads:
        workload = entry.workloads[0]
        name, number = workload.address, workload.ports.get(port.name, number)
    message.type = cluster_pb2.Cluster.LOGICAL_DNS
    message.load_assignment.cluster_name = message.name
    endpoint = message.load_assignment.endpoints.add().lb_endpoints.add().endpoint
    endpoint.address.socket_address.address = name
    endpoint.address.socket_address.port_value = number


def _limit(
    message: cluster_pb2.Cluster, options: http_protocol_options_pb2.HttpProtocolOptions, pool: ConnectionPool
) -> None:
    limits = {
        "max_connections": pool.max_connections,
        "max_pending_requests": pool.max_pending_requests,
        "max_requests": pool.max_requests,
        "max_retries": pool.max_retries,
    }
    given = {name: UInt32Value(value=value) for name, value in limits.items() if value is not None}
    if given:
        message.circuit_breakers.thresholds.append(circuit_breaker_pb2.CircuitBreakers.Thresholds(**given))
    if pool.connect_timeout is not None:
        message.connect_timeout.CopyFrom(duration(pool.connect_timeout))
    if pool.keepalive:
        keepalive = message.upstream_connection_options.tcp_keepalive
        keepalive.SetInParent()
        if pool.keepalive.probes is not None:
            keepalive.keepalive_probes.value = pool.keepalive.probes
        if pool.keepalive.time is not None:
            keepalive.keepalive_time.value = round(pool.keepalive.time)
        if pool.keepalive.interval is not None:
            keepalive.keepalive_interval.value = round(pool.keepalive.interval)
    _limit_http(options, pool)


def _limit_http(options: http_protocol_options_pb2.HttpProtocolOptions, pool: ConnectionPool) -> None:
    http = options.common_http_protocol_options
    if pool.idle_timeout is not None:
        http.idle_timeout.CopyFrom(duration(pool.idle_timeout))
    if pool.max_connection_duration is not None:
        http.max_connection_duration.CopyFrom(duration(pool.max_connection_duration))
    if pool.max_requests_per_connection:  # 0 is Istio's "no limit", which is the default here
        http.max_requests_per_connection.value = pool.max_requests_per_connection
    if pool.max_concurrent_streams is not None:
        options.explicit_http_config.http2_protocol_options.max_concurrent_streams.value = pool.max_concurrent_streams


def _watch_outliers(message: cluster_pb2.Cluster, policy: OutlierPolicy) -> None:
    """Carries outlier detection. As in Istio, the ways of ejection that the resource does not speak of are off."""
    outlier = outlier_detection_pb2.OutlierDetection(enforcing_success_rate=UInt32Value(value=0))
    for name, value in (
        ("consecutive_5xx", policy.consecutive_5xx),
        ("consecutive_gateway_failure", policy.consecutive_gateway),
        ("consecutive_local_origin_failure", policy.consecutive_local_origin),
    ):
        if value is not None:  # 0 turns this way of ejection off
            getattr(outlier, f"enforcing_{name}").value = 100 if value else 0
            if value:
                getattr(outlier, name).value = value
    if policy.split_local_origin is not None:
        outlier.split_external_local_origin_errors = policy.split_local_origin
    if policy.interval is not None:
        outlier.interval.CopyFrom(duration(policy.interval))
    if policy.base_ejection_time is not None:
        outlier.base_ejection_time.CopyFrom(duration(policy.base_ejection_time))
    if policy.max_ejection_percent is not None:
        outlier.max_ejection_percent.value = policy.max_ejection_percent
    if policy.min_health_percent is not None:
        message.common_lb_config.healthy_panic_threshold.value = policy.min_health_percent
    message.outlier_detection.CopyFrom(outlier)
