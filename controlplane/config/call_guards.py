"""The parts of a CallPolicy that guard a whole service, from YAML: filters of its listener, settings of its clusters.

Called by `call_policy`. Defaults are Envoy's.
"""

from __future__ import annotations

from controlplane.config.fields import Field, Record
from controlplane.model.call_policy import Ejection, ServiceParts, StatisticalOutliers
from controlplane.model.statuses import STATUSES
from meshsdk.model.filters import AdaptiveConcurrency, AdmissionControl
from meshsdk.model.policy import CircuitBreakers, RetryBudget, WeightedRoundRobin

SERVICE_FIELDS = ("adaptiveConcurrency", "admissionControl", "retryBudget", "outlierDetection", "loadBalancer",
                  "circuitBreakers")  # fmt: skip
_U32 = 2**32 - 1
_CODES = {name: name for name in STATUSES}


def _percent(field: Field) -> float:
    return field.number(0, 100)


def _moment(field: Field) -> float:
    return field.duration(0.001)


def _or(found: float | None, default: float) -> float:
    return default if found is None else found


def _adaptive(field: Field) -> AdaptiveConcurrency:
    record = field.record(("samplePercentile", "maxConcurrency", "updateInterval", "minRtt"))
    given = record.get("minRtt")
    rtt = given.record(("fixed", "interval", "requestCount", "jitter", "minConcurrency", "buffer")) if given else None
    plain = AdaptiveConcurrency()
    found = AdaptiveConcurrency(
        sample_percentile=_or(record.read("samplePercentile", _percent), plain.sample_percentile),
        max_limit=record.read("maxConcurrency", lambda item: item.integer(1, _U32)) or plain.max_limit,
        interval=record.read("updateInterval", _moment) or plain.interval,
    )
    if rtt is None:
        return found
    fixed = rtt.get("fixed")
    probing = next(filter(None, map(rtt.get, ("interval", "requestCount", "jitter"))), None)
    if fixed and probing:
        probing.refuse("has no meaning beside fixed: the latency at rest is not probed then")
    return AdaptiveConcurrency(
        sample_percentile=found.sample_percentile,
        max_limit=found.max_limit,
        interval=found.interval,
        min_rtt_interval=rtt.read("interval", lambda item: item.duration(1)) or plain.min_rtt_interval,
        min_rtt_requests=rtt.read("requestCount", lambda item: item.integer(1, 1_000_000)) or plain.min_rtt_requests,
        min_rtt_jitter=_or(rtt.read("jitter", _percent), plain.min_rtt_jitter * 100) / 100,
        min_concurrency=rtt.read("minConcurrency", lambda item: item.integer(1, 1_000_000)) or plain.min_concurrency,
        min_rtt_buffer=_or(rtt.read("buffer", _percent), plain.min_rtt_buffer * 100) / 100,
        fixed_min_rtt=_moment(fixed) if fixed else None,
    )


def _admission(field: Field) -> AdmissionControl:
    record = field.record(("window", "threshold", "aggression", "rpsThreshold", "maxRejection", "successCodes"))
    plain = AdmissionControl()
    codes = record.get("successCodes")
    return AdmissionControl(
        window=record.read("window", lambda item: item.duration(1)) or plain.window,
        threshold=_or(record.read("threshold", lambda item: item.number(1, 100)), plain.threshold * 100) / 100,
        aggression=record.read("aggression", lambda item: item.number(1, 1_000)) or plain.aggression,
        rps_threshold=_or(record.read("rpsThreshold", lambda item: float(item.integer(0, _U32))), plain.rps_threshold),
        max_refused=_or(record.read("maxRejection", _percent), plain.max_refused * 100) / 100,
        good=frozenset(item.choice(_CODES) for item in codes.items(1, 17)) if codes else plain.good,
    )


def retry_budget(field: Field) -> RetryBudget:
    """Reads `retryBudget`, of a CallPolicy as of a DestinationRule. Raises FieldRefused."""
    record = field.record(("percent", "minRetryConcurrency"))
    least = record.read("minRetryConcurrency", lambda item: item.integer(0, _U32))
    return RetryBudget(_or(record.read("percent", _percent), 20) / 100, 3 if least is None else least)


def _ejection(field: Field, name: str, default: float) -> Ejection:
    record = field.record((name, "minimumHosts", "requestVolume", "enforcing"))
    plain = Ejection(default)
    limit = 100 if name == "threshold" else 1_000
    volume = record.read("requestVolume", lambda item: item.integer(0, _U32))
    enforcing = record.read("enforcing", lambda item: item.integer(0, 100))
    least = record.read("minimumHosts", lambda item: item.integer(0, _U32))
    return Ejection(
        threshold=_or(record.read(name, lambda item: item.number(0, limit)), default),
        min_hosts=plain.min_hosts if least is None else least,
        request_volume=plain.request_volume if volume is None else volume,
        enforcing=plain.enforcing if enforcing is None else enforcing,
    )


def _outliers(field: Field) -> StatisticalOutliers:
    record = field.record(("successRate", "failurePercentage", "maxEjectionTime"))
    found = StatisticalOutliers(
        success_rate=record.read("successRate", lambda item: _ejection(item, "stdevFactor", 1.9)),
        failure_percentage=record.read("failurePercentage", lambda item: _ejection(item, "threshold", 85)),
        max_ejection_time=record.read("maxEjectionTime", _moment),
    )
    if found == StatisticalOutliers():
        field.refuse("expected some of successRate, failurePercentage, maxEjectionTime")
    return found


def _weighted(field: Field) -> WeightedRoundRobin:
    record = field.record(("weightedRoundRobin",)).require("weightedRoundRobin").record(
        ("outOfBand", "reportingPeriod", "blackoutPeriod", "expirationPeriod", "updatePeriod",
         "errorUtilizationPenalty")
    )  # fmt: skip
    plain = WeightedRoundRobin()
    out_of_band = record.read("outOfBand", Field.boolean) or False
    period = record.get("reportingPeriod")
    if period and not out_of_band:
        period.refuse("needs outOfBand: true; otherwise reports come with the answers to calls")
    return WeightedRoundRobin(
        out_of_band=out_of_band,
        oob_period=period.duration(0.1) if period else plain.oob_period,
        blackout=_or(record.read("blackoutPeriod", Field.duration), plain.blackout),
        expiration=_or(record.read("expirationPeriod", Field.duration), plain.expiration),
        update_period=record.read("updatePeriod", lambda item: item.duration(0.1)) or plain.update_period,
        error_penalty=_or(record.read("errorUtilizationPenalty", lambda item: item.number(0, 1_000)), 1.0),
    )


def _high(field: Field) -> CircuitBreakers:
    inner = field.record(("high",)).require("high")
    record = inner.record(("maxConnections", "maxPendingRequests", "maxRequests", "maxRetries"))

    def limit(name: str, least: int) -> int | None:
        return record.read(name, lambda item: item.integer(least, _U32))

    found = CircuitBreakers(
        max_connections=limit("maxConnections", 1),
        max_pending_requests=limit("maxPendingRequests", 1),
        max_requests=limit("maxRequests", 1),
        max_retries=limit("maxRetries", 0),
    )
    if found == CircuitBreakers():
        inner.refuse("expected some of maxConnections, maxPendingRequests, maxRequests, maxRetries")
    return found


def service_parts(record: Record) -> ServiceParts:
    """Reads the fields SERVICE_FIELDS of a CallPolicy's spec. Raises FieldRefused."""
    return ServiceParts(
        adaptive_concurrency=record.read("adaptiveConcurrency", _adaptive),
        admission_control=record.read("admissionControl", _admission),
        retry_budget=record.read("retryBudget", retry_budget),
        outliers=record.read("outlierDetection", _outliers),
        weighted=record.read("loadBalancer", _weighted),
        high=record.read("circuitBreakers", _high),
    )
