"""The CDS resources of a service: one cluster for all of it and one for each subset, in each unit. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from controlplane.model.configuration import Configuration
from controlplane.model.policy import ConnectionPool, LoadBalancer, OutlierPolicy, Subset, TrafficPolicy
from controlplane.translate.balancing import apply_load_balancer, apply_to_aggregate
from controlplane.translate.cluster_sources import Aggregate, Source, apply_source, called, sources
from controlplane.translate.durations import duration
from controlplane.translate.listener import packed
from controlplane.translate.names import cluster_name
from controlplane.translate.units import unit_parts
from controlplane.translate.view import View
from meshsdk.model.policy import RoundRobin

_PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def clusters(host: str, configuration: Configuration, view: View) -> Iterator[cluster_pb2.Cluster]:
    """Yields the clusters of a host that the view may use.

    `host` and, where a DestinationRule has subsets, `host|subset` for each; for a host under a UnitPolicy those of the
    caller's unit and its exits, `host||unit`. What others are made of comes before them.
    """
    rule = configuration.rules.get(host)
    policy = rule.policy if rule else TrafficPolicy()
    parts = unit_parts(host, configuration, view)
    for subset in (Subset("", {}), *(rule.subsets if rule else ())):
        effective = subset.policy.over(policy)
        for part in parts:
            name = cluster_name(host, subset.name, part.name)
            if part.leaves:
                leaves = ((leaf, cluster_name(host, subset.name, leaf)) for leaf in part.leaves)
                found = tuple(called(whole, host, leaf, configuration, view) for leaf, whole in leaves)
                yield _cluster(name, Aggregate(found), effective, view)
                continue
            for each, source in sources(name, host, subset.labels, part.name, configuration, view).items():
                yield _cluster(each, source, effective, view)


def _cluster(name: str, source: Source, policy: TrafficPolicy, view: View) -> cluster_pb2.Cluster:
    message = cluster_pb2.Cluster(name=name)
    apply_source(message, source)
    balancer = policy.load_balancer or LoadBalancer(RoundRobin())
    if isinstance(source, Aggregate):
        apply_to_aggregate(message, balancer)  # limits and outlier detection are its leaves' matter
        return message
    apply_load_balancer(message, balancer)
    if view.load_reports:
        message.lrs_server.self.SetInParent()  # gRFC A27: the counts of its calls go where the cluster came from
    options = http_protocol_options_pb2.HttpProtocolOptions()
    options.explicit_http_config.http2_protocol_options.SetInParent()  # Envoy would speak HTTP/1.1
    if policy.pool:
        _limit(message, options, policy.pool)
    if policy.outlier:
        _watch_outliers(message, policy.outlier)
    message.typed_extension_protocol_options[_PROTOCOL_OPTIONS].CopyFrom(packed(options))
    return message


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
