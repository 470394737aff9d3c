"""Limits of a cluster: circuit breakers of both priorities, the retry budget, connections. Pure; used by `clusters`.

What a CallPolicy says stands over a DestinationRule.
"""

from __future__ import annotations

from collections.abc import Mapping

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from controlplane.model.call_policy import ServiceParts
from controlplane.model.policy import ConnectionPool, TrafficPolicy
from controlplane.translate.durations import duration
from meshsdk.model.policy import CircuitBreakers, RetryBudget


def apply_limits(
    message: cluster_pb2.Cluster,
    options: http_protocol_options_pb2.HttpProtocolOptions,
    policy: TrafficPolicy,
    calls: ServiceParts,
) -> None:
    """Writes limits into a cluster and its protocol `options`; nothing where none are given."""
    if policy.pool:
        _connect(message, policy.pool)
        _limit_http(options, policy.pool)
    limits = _given(_of_pool(policy.pool)) if policy.pool else {}
    budget = calls.retry_budget or policy.retry_budget
    if limits or budget:
        message.circuit_breakers.thresholds.append(_default(limits, budget))
    if calls.high:
        high = _given(_of_breakers(calls.high))
        message.circuit_breakers.thresholds.add(priority=base_pb2.RoutingPriority.HIGH, **high)


def _default(
    limits: Mapping[str, UInt32Value], budget: RetryBudget | None
) -> circuit_breaker_pb2.CircuitBreakers.Thresholds:
    found = circuit_breaker_pb2.CircuitBreakers.Thresholds(**limits)
    if budget:
        found.retry_budget.budget_percent.value = round(budget.share * 100, 9)  # 0.29 * 100 is not 29
        found.retry_budget.min_retry_concurrency.value = budget.min_concurrency
    return found


def _of_pool(pool: ConnectionPool) -> dict[str, int | None]:
    return {
        "max_connections": pool.max_connections,
        "max_pending_requests": pool.max_pending_requests,
        "max_requests": pool.max_requests,
        "max_retries": pool.max_retries,
    }


def _of_breakers(limits: CircuitBreakers) -> dict[str, int | None]:
    return {
        "max_connections": limits.max_connections,
        "max_pending_requests": limits.max_pending_requests,
        "max_requests": limits.max_requests,
        "max_retries": limits.max_retries,
    }


def _given(limits: Mapping[str, int | None]) -> dict[str, UInt32Value]:
    return {name: UInt32Value(value=value) for name, value in limits.items() if value is not None}


def _connect(message: cluster_pb2.Cluster, pool: ConnectionPool) -> None:
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
