"""VirtualService from YAML. Called by `documents`.

Conditions of a match are read by `matches`; faults, copies and header edits by `route_policies`.
"""

from __future__ import annotations

import re
from dataclasses import replace

from controlplane.config.fields import Field, Record
from controlplane.config.matches import call_match
from controlplane.config.route_policies import fault, header_edits, mirrors
from controlplane.config.service import host
from controlplane.model.identity import ResourceId
from controlplane.model.names import SUBSET
from controlplane.model.traffic import Destination, HeaderEdits, HttpRoute, Retries, VirtualService

_MAX_WEIGHT = 1_000_000  # 1,000 destinations of it still sum up to less than 2**32 (gRFC A28)
_KNOWN = ("name", "match", "route", "timeout", "retries", "fault", "mirror", "mirrors", "mirrorPercentage",
          "mirrorPercent", "mirror_percent", "headers")  # fmt: skip
_REFUSED = dict.fromkeys(
    ("redirect", "directResponse", "delegate"), "is not supported: a route sends calls to the destinations in `route`"
)
# gRFC A44 retries on the first five; the others are Envoy's, for clients that are Envoys.
_SHORTEST_TIMEOUT = 0.001  # seconds
_GRPC_CONDITIONS = frozenset(("cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"))
_ENVOY_CONDITIONS = frozenset(
    ("5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited", "retriable-4xx",
     "refused-stream", "retriable-status-codes", "retriable-headers", "http3-post-connect-failure")
)  # fmt: skip
DEFAULT_RETRY_ON = ("connect-failure", "refused-stream", "unavailable", "cancelled")  # Istio's


def _retry_on(field: Field) -> tuple[str, ...]:
    conditions = tuple(part.strip() for part in field.text().split(","))
    for condition in conditions:
        if condition in _GRPC_CONDITIONS or condition in _ENVOY_CONDITIONS or re.fullmatch(r"[1-5]\d\d", condition):
            continue
        known = ", ".join(sorted(_GRPC_CONDITIONS | _ENVOY_CONDITIONS))
        field.refuse(f"unknown condition {condition!r}; expected a status code or some of {known}")
    if not _GRPC_CONDITIONS.intersection(conditions):
        field.warn(f"has no effect on gRPC clients, which retry on {', '.join(sorted(_GRPC_CONDITIONS))} only")
    return conditions


def _retries(field: Field) -> Retries:
    record = field.record(
        ("attempts", "perTryTimeout", "retryOn", "backoff", "retryRemoteLocalities", "retryIgnorePreviousHosts")
    )
    remote = record.get("retryRemoteLocalities")
    if remote and remote.boolean():
        remote.warn("has no effect: no locality stands behind another here, a retry goes to any as a call does")
    return Retries(
        attempts=record.require("attempts").integer(0, 100),
        per_try_timeout=record.read("perTryTimeout", lambda item: item.duration(0.001)),
        retry_on=record.read("retryOn", _retry_on) or DEFAULT_RETRY_ON,
        backoff=record.read("backoff", lambda item: item.duration(0.001)),
        avoid_previous=record.read("retryIgnorePreviousHosts", Field.boolean) or False,
    )


def _timeout(field: Field) -> float:
    """Reads a route's timeout; 0s turns it off. Milliseconds are the finest that every client keeps."""
    seconds = field.duration()
    if 0 < seconds < _SHORTEST_TIMEOUT:
        field.refuse(f"expected 0s (no timeout) or at least 1ms, got {field.node.text}")
    return seconds


def _destination(target: Field) -> Destination:
    inner = target.record(("host", "subset", "port"))
    port = inner.get("port")
    return Destination(
        host=host(inner.require("host")),
        subset=inner.read("subset", lambda item: item.matching(SUBSET, "the name of a subset")) or "",
        weight=100,
        port=port.record(("number",)).require("number").integer(1, 65_535) if port else None,
        origin=target.origin,
    )


def _weighted(field: Field, *, alone: bool) -> Destination:
    record = field.record(("destination", "weight", "headers"))
    weight = record.read("weight", lambda item: item.integer(0, _MAX_WEIGHT))
    if weight is None:
        weight = 100 if alone else 0
    headers = record.read("headers", header_edits) or HeaderEdits()
    return replace(_destination(record.require("destination")), weight=weight, headers=headers)


def _route(field: Field) -> HttpRoute:
    record = field.record(_KNOWN, ignored=("corsPolicy", "rewrite"), refused=_REFUSED)
    routes = record.require("route")
    items = routes.items(1, 1_000)
    destinations = tuple(_weighted(item, alone=len(items) == 1) for item in items)
    if not sum(destination.weight for destination in destinations):
        routes.refuse("the weights sum up to 0: no destination would ever be chosen")
    matches = record.get("match")
    return HttpRoute(
        name=record.read("name", Field.text) or "",
        matches=tuple(call_match(item) for item in matches.items(0, 1_000)) if matches else (),
        destinations=destinations,
        timeout=record.read("timeout", _timeout),
        retries=record.read("retries", _retries),
        fault=record.read("fault", fault),
        mirrors=mirrors(record, _destination),
        headers=record.read("headers", header_edits) or HeaderEdits(),
        origin=field.origin,
    )


def _applies(record: Record) -> bool:
    gateways = record.get("gateways")
    if gateways is None:
        return True
    names = [item.text() for item in gateways.items()]
    if "mesh" in names or not names:
        return True
    gateways.warn("has no effect in this version: there are no gateways, and `mesh` is not listed")
    return False


def virtual_service(spec: Field, identity: ResourceId) -> VirtualService:
    """Reads a VirtualService's spec. Raises FieldRefused."""
    record = spec.record(("hosts", "http", "gateways"), ignored=("exportTo", "tls", "tcp"))
    hosts = record.require("hosts")
    names = tuple(host(item) for item in hosts.items(1, 1_000))
    for index, item in enumerate(hosts.items()):
        if names[index] in names[:index]:
            item.refuse(f"{names[index]} is listed twice")
    return VirtualService(
        id=identity,
        hosts=names,
        routes=tuple(_route(item) for item in record.require("http").items(1, 10_000)),
        applies=_applies(record),
        origin=spec.origin,
    )
