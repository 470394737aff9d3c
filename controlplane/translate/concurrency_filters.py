"""Adaptive concurrency and admission control to Envoy's filters. Pure; used by `http_filters`.

Envoy wants a runtime key beside most values; no runtime layer of ours sets one.
"""

from __future__ import annotations

from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.adaptive_concurrency.v3 import adaptive_concurrency_pb2
from envoy.extensions.filters.http.admission_control.v3 import admission_control_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from controlplane.model.statuses import STATUSES
from controlplane.translate.durations import duration
from meshsdk.model.filters import AdaptiveConcurrency, AdmissionControl


def adaptive_concurrency(value: AdaptiveConcurrency) -> adaptive_concurrency_pb2.AdaptiveConcurrency:
    """Returns the filter with its gradient controller. What is over the limit fails UNAVAILABLE (503)."""
    message = adaptive_concurrency_pb2.AdaptiveConcurrency()
    gradient = message.gradient_controller_config
    gradient.sample_aggregate_percentile.value = value.sample_percentile
    gradient.concurrency_limit_params.max_concurrency_limit.value = value.max_limit
    gradient.concurrency_limit_params.concurrency_update_interval.CopyFrom(duration(value.interval))
    rtt = gradient.min_rtt_calc_params
    if value.fixed_min_rtt is not None:
        rtt.fixed_value.CopyFrom(duration(value.fixed_min_rtt))
    else:
        rtt.interval.CopyFrom(duration(value.min_rtt_interval))
        rtt.request_count.CopyFrom(UInt32Value(value=value.min_rtt_requests))
        rtt.jitter.value = _percent(value.min_rtt_jitter)
    rtt.min_concurrency.value = value.min_concurrency
    rtt.buffer.value = _percent(value.min_rtt_buffer)
    return message


def admission_control(value: AdmissionControl) -> admission_control_pb2.AdmissionControl:
    """Returns the filter."""
    key = "meshsdk.admission_control."
    message = admission_control_pb2.AdmissionControl(
        sampling_window=duration(value.window),
        aggression=base_pb2.RuntimeDouble(default_value=value.aggression, runtime_key=f"{key}aggression"),
        sr_threshold=_runtime_percent(value.threshold, f"{key}threshold"),
        rps_threshold=base_pb2.RuntimeUInt32(default_value=round(value.rps_threshold), runtime_key=f"{key}rps"),
        max_rejection_probability=_runtime_percent(value.max_refused, f"{key}max_refused"),
    )
    codes = sorted(STATUSES[name] for name in value.good)
    message.success_criteria.grpc_criteria.grpc_success_status.extend(codes)
    return message


def _percent(share: float) -> float:
    return round(share * 100, 9)  # 0.29 * 100 is not 29


def _runtime_percent(share: float, key: str) -> base_pb2.RuntimePercent:
    return base_pb2.RuntimePercent(default_value=percent_pb2.Percent(value=_percent(share)), runtime_key=key)
