"""DestinationRule from YAML. Called by `documents`."""

from __future__ import annotations

from controlplane.config.balancing import load_balancer
from controlplane.config.call_guards import retry_budget
from controlplane.config.fields import Field
from controlplane.config.service import host
from controlplane.model.identity import ResourceId
from controlplane.model.names import SUBSET
from controlplane.model.policy import (
    ConnectionPool,
    DestinationRule,
    Keepalive,
    OutlierPolicy,
    Subset,
    TrafficPolicy,
)

_U32 = 2**32 - 1
_NO_TLS = "only mode: DISABLE is supported in this version: calls would go out in plain text"


def _percent(field: Field) -> int:
    return field.integer(0, 100)


def _count(field: Field) -> int:
    return field.integer(0, _U32)


def _positive(field: Field) -> int:
    return field.integer(1, _U32)


def _moment(field: Field) -> float:
    return field.duration(0.001)


def _outlier(field: Field) -> OutlierPolicy:
    record = field.record(
        ("consecutiveErrors", "consecutive5xxErrors", "consecutiveGatewayErrors", "splitExternalLocalOriginErrors",
         "consecutiveLocalOriginFailures", "interval", "baseEjectionTime", "maxEjectionPercent", "minHealthPercent")
    )  # fmt: skip
    record.one_of(("consecutiveErrors", "consecutiveGatewayErrors"))
    gateway = record.read("consecutiveGatewayErrors", _count)
    return OutlierPolicy(
        consecutive_5xx=record.read("consecutive5xxErrors", _count),
        consecutive_gateway=gateway if gateway is not None else record.read("consecutiveErrors", _count),
        split_local_origin=record.read("splitExternalLocalOriginErrors", Field.boolean),
        consecutive_local_origin=record.read("consecutiveLocalOriginFailures", _count),
        interval=record.read("interval", _moment),
        base_ejection_time=record.read("baseEjectionTime", _moment),
        max_ejection_percent=record.read("maxEjectionPercent", _percent),
        min_health_percent=record.read("minHealthPercent", _percent),
    )


def _keepalive(field: Field) -> Keepalive:
    record = field.record(("probes", "time", "interval"))
    return Keepalive(
        probes=record.read("probes", _positive),
        time=record.read("time", lambda item: item.duration(1)),
        interval=record.read("interval", lambda item: item.duration(1)),
    )


def _pool(field: Field) -> ConnectionPool:
    record = field.record(("tcp", "http"))
    tcp_field, http_field = record.get("tcp"), record.get("http")
    tcp = tcp_field.record(
        ("maxConnections", "connectTimeout", "tcpKeepalive", "maxConnectionDuration"), ignored=("idleTimeout",)
    ) if tcp_field else None  # fmt: skip
    http = http_field.record(
        ("http1MaxPendingRequests", "http2MaxRequests", "maxRequestsPerConnection", "maxRetries", "idleTimeout",
         "maxConcurrentStreams"),
        ignored=("h2UpgradePolicy", "useClientProtocol"),
    ) if http_field else None  # fmt: skip
    return ConnectionPool(
        max_connections=tcp.read("maxConnections", _positive) if tcp else None,
        connect_timeout=tcp.read("connectTimeout", _moment) if tcp else None,
        keepalive=tcp.read("tcpKeepalive", _keepalive) if tcp else None,
        max_connection_duration=tcp.read("maxConnectionDuration", _moment) if tcp else None,
        max_pending_requests=http.read("http1MaxPendingRequests", _positive) if http else None,
        max_requests=http.read("http2MaxRequests", _positive) if http else None,
        max_requests_per_connection=http.read("maxRequestsPerConnection", _count) if http else None,
        max_retries=http.read("maxRetries", _count) if http else None,
        idle_timeout=http.read("idleTimeout", _moment) if http else None,
        max_concurrent_streams=http.read("maxConcurrentStreams", _positive) if http else None,
    )


def _tls(field: Field) -> None:
    mode = field.record(
        ("mode",),
        refused=dict.fromkeys(
            ("clientCertificate", "privateKey", "caCertificates", "credentialName", "subjectAltNames", "sni",
             "insecureSkipVerify", "caCrl"), _NO_TLS,
        ),
    ).require("mode")  # fmt: skip
    if mode.text() != "DISABLE":
        mode.refuse(_NO_TLS)


def _policy(field: Field) -> TrafficPolicy:
    record = field.record(
        ("loadBalancer", "outlierDetection", "connectionPool", "tls", "retryBudget"),
        ignored=("portLevelSettings", "tunnel", "proxyProtocol"),
    )
    tls = record.get("tls")
    if tls:
        _tls(tls)
    return TrafficPolicy(
        load_balancer=record.read("loadBalancer", load_balancer),
        outlier=record.read("outlierDetection", _outlier),
        pool=record.read("connectionPool", _pool),
        retry_budget=record.read("retryBudget", retry_budget),
    )


def _subset(field: Field) -> Subset:
    record = field.record(("name", "labels", "trafficPolicy"))
    return Subset(
        name=record.require("name").matching(SUBSET, "the name of a subset"),
        labels=record.read("labels", Field.labels) or {},
        policy=record.read("trafficPolicy", _policy) or TrafficPolicy(),
    )


def destination_rule(spec: Field, identity: ResourceId) -> DestinationRule:
    """Reads a DestinationRule's spec. Raises FieldRefused."""
    record = spec.record(
        ("host", "trafficPolicy", "subsets"),
        ignored=("exportTo",),
        refused={"workloadSelector": "is not supported: the rule would apply to callers that it does not name"},
    )
    listed = record.get("subsets")
    items = listed.items(0, 1_000) if listed else []
    subsets = tuple(_subset(item) for item in items)
    for index, item in enumerate(items):
        if any(subsets[index].name == other.name for other in subsets[:index]):
            item.refuse(f"subset {subsets[index].name} was given before")
    return DestinationRule(
        id=identity,
        host=host(record.require("host")),
        policy=record.read("trafficPolicy", _policy) or TrafficPolicy(),
        subsets=subsets,
        origin=spec.origin,
    )
