"""Faults, copies, header edits and CallPolicies in words, a line each, for `meshctl routes`. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.model.call_policy import CallParts, Ejection, ServiceParts, StatisticalOutliers
from controlplane.model.configuration import Configuration
from controlplane.model.identity import Origin
from controlplane.model.traffic import HeaderEdits, HttpRoute
from controlplane.translate.names import cluster_name
from meshsdk.model.filters import Fault, HeaderEdit, LocalRateLimit, RateLimitService, TokenBucket
from meshsdk.model.matching import PathKind, PathMatch
from meshsdk.model.policy import CircuitBreakers

_Line = tuple[str, str, Origin]  # which calls, what happens to them, and which line says so


def _percent(share: float) -> str:
    return f"{share * 100:g}%"


# -- routes -----------------------------------------------------------------------------------------------------------


def route_lines(route: HttpRoute) -> Iterator[tuple[str, str]]:
    """Yields (what, words) for each part of a route beside its destinations."""
    if route.fault:
        yield "fault", _fault(route.fault)
    for mirror in route.mirrors:
        yield (
            "mirror",
            f"{_percent(mirror.share)} to {cluster_name(mirror.destination.host, mirror.destination.subset)}",
        )
    if route.headers != HeaderEdits():
        yield "headers", _edits(route.headers)
    for each in route.destinations:
        if each.headers != HeaderEdits():
            yield f"headers to {cluster_name(each.host, each.subset)}", _edits(each.headers)


def _fault(fault: Fault) -> str:
    parts = [f"delay {fault.delay:g}s for {_percent(fault.delay_share)}"] if fault.delay_share else []
    if fault.abort_share:
        parts.append(f"abort {fault.abort_code} for {_percent(fault.abort_share)}")
    return ", ".join(parts)


def _edits(edits: HeaderEdits) -> str:
    sides = (("request", edits.request), ("response", edits.response))
    return "; ".join(f"{side}: {', '.join(map(_edit, each))}" for side, each in sides if each)


def _edit(edit: HeaderEdit) -> str:
    if edit.value is None:
        return f"remove {edit.name}"
    return f"{'add' if edit.append else 'set'} {edit.name}={edit.value}"


# -- CallPolicies -----------------------------------------------------------------------------------------------------


def policy_lines(host: str, configuration: Configuration) -> Iterator[_Line]:
    """Yields what each CallPolicy of a service says, part by part."""
    for policy in configuration.calls.get(host, ()):
        for words in (*_parts(policy.parts), *_guards(policy.service)):
            yield "every call", words, policy.origin
        for rule in policy.rules:
            calls = " or ".join(map(_path, rule.paths))
            for words in _parts(rule.parts):
                yield calls, words, rule.origin


def _path(path: PathMatch) -> str:
    return f"path = {path.value}" if path.kind is PathKind.EXACT else f"path starts with {path.value}"


def _parts(parts: CallParts) -> Iterator[str]:
    if parts.hedging:
        hedging = parts.hedging
        codes = ", ".join(sorted(hedging.non_fatal))
        yield f"hedging: {hedging.max_attempts} attempts, one every {hedging.delay:g}s; goes on after {codes}"
    if parts.local_rate_limit:
        yield f"local rate limit: {_local(parts.local_rate_limit)}"
    if parts.descriptors is not None:
        yield f"rate limit descriptors: {len(parts.descriptors)}"
    if parts.session:
        strict = ", strict" if parts.session.strict else ""
        lasts = f"{parts.session.ttl:g}s" if parts.session.ttl else "the session"
        yield f"session affinity: cookie {parts.session.name} on {parts.session.path} for {lasts}{strict}"
    if parts.high_priority is not None:
        yield f"priority: {'HIGH' if parts.high_priority else 'DEFAULT'}"


def _local(limit: LocalRateLimit) -> str:
    buckets = [_bucket(limit.bucket)] if limit.bucket else []
    for each in limit.descriptors:
        entries = " and ".join(f"{key} = {value or '(each)'}" for key, value in each.entries)
        buckets.append(f"{_bucket(each.bucket)} for {entries}")
    some = f", for {_percent(limit.enabled)} of the calls" if limit.enabled < 1 else ""
    some += f", enforced for {_percent(limit.enforced)}" if limit.enforced < 1 else ""
    return f"{', '.join(buckets)}{some}, else {limit.status}"


def _bucket(bucket: TokenBucket) -> str:
    return f"{bucket.tokens_per_fill} per {bucket.fill_interval:g}s (at most {bucket.max_tokens})"


def _guards(parts: ServiceParts) -> Iterator[str]:
    if parts.rate_limit:
        yield f"rate limit: {_asked(parts.rate_limit)}"
    if parts.adaptive_concurrency:
        yield f"adaptive concurrency: at most {parts.adaptive_concurrency.max_limit} calls at a time"
    if parts.admission_control:
        control = parts.admission_control
        yield (
            f"admission control: refuses up to {_percent(control.max_refused)} "
            f"below {_percent(control.threshold)} of success in {control.window:g}s"
        )
    if parts.retry_budget:
        budget = parts.retry_budget
        yield f"retry budget: {_percent(budget.share)} of the calls, {budget.min_concurrency} in any case"
    if parts.outliers:
        yield f"outlier detection: {_outliers(parts.outliers)}"
    if parts.weighted:
        reports = "out of band" if parts.weighted.out_of_band else "with answers"
        yield f"load balancer: weighted round robin by load, reported {reports}"
    if parts.high:
        yield f"limits of HIGH calls: {_limits(parts.high)}"


def _asked(service: RateLimitService) -> str:
    otherwise = "refuse" if service.deny_on_failure else "let through"
    whom = service.cluster or service.target
    return f"domain {service.domain} at {whom}; without an answer in {service.timeout:g}s {otherwise}"


def _outliers(value: StatisticalOutliers) -> str:
    parts = []
    if value.success_rate:
        parts.append(f"success rate {value.success_rate.threshold:g} deviations below{_volume(value.success_rate)}")
    if value.failure_percentage:
        rate = value.failure_percentage
        parts.append(f"{rate.threshold:g}% of failures{_volume(rate)}")
    if value.max_ejection_time is not None:
        parts.append(f"for {value.max_ejection_time:g}s at most")
    return ", ".join(parts)


def _volume(value: Ejection) -> str:
    return f" (from {value.min_hosts} endpoints of {value.request_volume} calls, {value.enforcing}% ejected)"


def _limits(limits: CircuitBreakers) -> str:
    named = (
        ("connections", limits.max_connections),
        ("pending", limits.max_pending_requests),
        ("requests", limits.max_requests),
        ("retries", limits.max_retries),
    )
    return ", ".join(f"{value} {name}" for name, value in named if value is not None)
