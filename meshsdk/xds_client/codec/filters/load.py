"""AdaptiveConcurrency and AdmissionControl -> their values. Called by `http_filters`; measures and refuses nothing.

Specs: envoy.extensions.filters.http.{adaptive_concurrency,admission_control}.v3, with Envoy's defaults and validation.
"""

from __future__ import annotations

from typing import Any

from envoy.extensions.filters.http.adaptive_concurrency.v3 import adaptive_concurrency_pb2
from envoy.extensions.filters.http.admission_control.v3 import admission_control_pb2

from meshsdk.model.filters import AdaptiveConcurrency, AdmissionControl
from meshsdk.xds_client.codec.ignored import Honoured, unhonoured
from meshsdk.xds_client.codec.refusal import FieldError
from meshsdk.xds_client.codec.runtime_values import DEFAULT_ONLY, flag, percent
from meshsdk.xds_client.codec.statuses import grpc_status, known_status, refusing
from meshsdk.xds_client.codec.values import positive_seconds, share

ADAPTIVE = adaptive_concurrency_pb2.AdaptiveConcurrency
ADMISSION = admission_control_pb2.AdmissionControl
_GRADIENT = "gradient_controller_config"
_ADAPTIVE: Honoured = {
    "enabled": DEFAULT_ONLY,
    "concurrency_limit_exceeded_status": None,
    _GRADIENT: {
        "sample_aggregate_percentile": None,
        "concurrency_limit_params": {"max_concurrency_limit": None, "concurrency_update_interval": None},
        "min_rtt_calc_params": {
            "interval": None,
            "fixed_value": None,
            "request_count": None,
            "jitter": None,
            "min_concurrency": None,
            "buffer": None,
        },
    },
}
_ADMISSION: Honoured = {
    "enabled": DEFAULT_ONLY,
    "success_criteria": {"grpc_criteria": None},
    "sampling_window": None,
    "aggression": DEFAULT_ONLY,
    "sr_threshold": DEFAULT_ONLY,
    "rps_threshold": DEFAULT_ONLY,
    "max_rejection_probability": DEFAULT_ONLY,
}
_OVERLOADED = 503  # HTTP status, Envoy's default of adaptive concurrency
_LEAST_WINDOW = 1.0  # seconds
_LEAST_THRESHOLD = 0.01


def adaptive_concurrency(message: Any, path: str, noted: set[str], listed: str) -> AdaptiveConcurrency:
    """Returns an AdaptiveConcurrency."""
    noted.update(unhonoured(message, _ADAPTIVE, listed))
    where = f"{path}.{_GRADIENT}"
    if not message.HasField(_GRADIENT):
        raise FieldError(where, "is not set")
    gradient, default = message.gradient_controller_config, AdaptiveConcurrency()
    limits, rest = gradient.concurrency_limit_params, gradient.min_rtt_calc_params
    where_rest = f"{where}.min_rtt_calc_params"
    fixed = positive_seconds(rest.fixed_value, f"{where_rest}.fixed_value") if rest.HasField("fixed_value") else None
    interval = default.min_rtt_interval
    if fixed is None:
        interval = positive_seconds(rest.interval, f"{where_rest}.interval")
    return AdaptiveConcurrency(
        enabled=flag(message, "enabled", default=True),
        sample_percentile=_percentile(gradient, where, default.sample_percentile),
        max_limit=_count(limits, "max_concurrency_limit", f"{where}.concurrency_limit_params", default.max_limit),
        interval=positive_seconds(
            limits.concurrency_update_interval, f"{where}.concurrency_limit_params.concurrency_update_interval"
        ),
        min_rtt_interval=interval,
        min_rtt_requests=_count(rest, "request_count", where_rest, default.min_rtt_requests),
        min_rtt_jitter=_share(rest, "jitter", where_rest, default.min_rtt_jitter),
        min_concurrency=_count(rest, "min_concurrency", where_rest, default.min_concurrency),
        min_rtt_buffer=_share(rest, "buffer", where_rest, default.min_rtt_buffer),
        fixed_min_rtt=fixed,
        status=refusing(message.concurrency_limit_exceeded_status.code, _OVERLOADED),
    )


def _percentile(gradient: Any, path: str, default: float) -> float:
    name = "sample_aggregate_percentile"
    if not gradient.HasField(name):
        return default
    share(gradient.sample_aggregate_percentile, f"{path}.{name}")  # refuses what is no percentage
    return float(gradient.sample_aggregate_percentile.value)


def _share(message: Any, name: str, path: str, default: float) -> float:
    return share(getattr(message, name), f"{path}.{name}") if message.HasField(name) else default


def _count(message: Any, name: str, path: str, default: int) -> int:
    if not message.HasField(name):
        return default
    value = int(getattr(message, name).value)
    if value < 1:
        raise FieldError(f"{path}.{name}", "must be 1 or more")
    return value


def admission_control(message: Any, path: str, noted: set[str], listed: str) -> AdmissionControl:
    """Returns an AdmissionControl. Every call here is a gRPC call, so only `grpc_criteria` counts."""
    noted.update(unhonoured(message, _ADMISSION, listed))
    default = AdmissionControl()
    window = default.window
    if message.HasField("sampling_window"):
        window = positive_seconds(message.sampling_window, f"{path}.sampling_window")
        if window < _LEAST_WINDOW:
            raise FieldError(f"{path}.sampling_window", f"{window} s is less than a second")
    aggression = message.aggression.default_value if message.HasField("aggression") else default.aggression
    if not 1 <= aggression < float("inf"):
        raise FieldError(f"{path}.aggression.default_value", f"{aggression} is less than 1")
    threshold = percent(message, "sr_threshold", path, default.threshold)
    if threshold < _LEAST_THRESHOLD:
        raise FieldError(f"{path}.sr_threshold.default_value", "is less than 1 %")
    return AdmissionControl(
        enabled=flag(message, "enabled", default=True),
        window=window,
        threshold=threshold,
        aggression=aggression,
        rps_threshold=float(message.rps_threshold.default_value),
        max_refused=percent(message, "max_rejection_probability", path, default.max_refused),
        good=_good(message.success_criteria, f"{path}.success_criteria", default.good),
    )


def _good(criteria: Any, path: str, default: frozenset[str]) -> frozenset[str]:
    numbers = criteria.grpc_criteria.grpc_success_status
    for number in numbers:
        if not known_status(number):
            raise FieldError(f"{path}.grpc_criteria.grpc_success_status", f"{number} is no gRPC status")
    return frozenset(grpc_status(number) for number in numbers) or default
