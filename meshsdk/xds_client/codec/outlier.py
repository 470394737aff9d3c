"""OutlierDetection (gRFC A50, and the rest of Envoy's) and CircuitBreakers (A32) -> their values.

Called by `cluster`; ejects and limits nothing.
"""

from __future__ import annotations

from typing import Any

from envoy.config.cluster.v3 import outlier_detection_pb2
from envoy.config.core.v3 import base_pb2

from meshsdk.model.policy import CircuitBreakers, OutlierDetection, RetryBudget
from meshsdk.xds_client.codec.ignored import Honoured
from meshsdk.xds_client.codec.refusal import FieldError
from meshsdk.xds_client.codec.values import positive_seconds, seconds, share

OUTLIER: Honoured = {
    field.name: None
    for field in outlier_detection_pb2.OutlierDetection.DESCRIPTOR.fields
    # There are no active health checks here to bring an endpoint back, and monitors are extensions.
    if field.name not in {"successful_active_health_check_uneject_host", "monitors"}
}
BREAKERS: Honoured = {
    "thresholds": {
        "priority": None,
        "max_connections": None,
        "max_pending_requests": None,
        "max_requests": None,
        "max_retries": None,
        "retry_budget": {"budget_percent": None, "min_retry_concurrency": None},
        "track_remaining": None,  # of statistics
    }
}
_PERCENT = 100
_PERCENTAGES = (
    "max_ejection_percent",
    "enforcing_consecutive_5xx",
    "enforcing_consecutive_gateway_failure",
    "enforcing_success_rate",
    "failure_percentage_threshold",
    "enforcing_failure_percentage",
    "enforcing_consecutive_local_origin_failure",
    "enforcing_local_origin_success_rate",
    "enforcing_failure_percentage_local_origin",
)
_DEFAULT_STDEV = 1900  # thousandths, A50
_DEFAULT_THRESHOLD = 85  # percent, A50
_DEFAULT_CONSECUTIVE = 5


def outlier_detection(message: Any) -> OutlierDetection:
    """Returns an envoy.config.cluster.v3.OutlierDetection with the defaults of the spec; validated as A50 says."""
    path = "outlier_detection"
    for name in _PERCENTAGES:
        if message.HasField(name) and getattr(message, name).value > _PERCENT:
            raise FieldError(f"{path}.{name}", f"{getattr(message, name).value} is not a percentage of 0 to 100")
    default = OutlierDetection()
    base = _duration(message, "base_ejection_time", default.base_ejection_time)
    return OutlierDetection(
        interval=_positive(message, "interval", default.interval),
        base_ejection_time=base,
        max_ejection_time=_duration(message, "max_ejection_time", max(base, default.max_ejection_time)),
        max_ejection_percent=_number(message, "max_ejection_percent", default.max_ejection_percent),
        max_ejection_jitter=_duration(message, "max_ejection_time_jitter", default.max_ejection_jitter),
        always_eject_one=message.always_eject_one_host.value,
        **_consecutive(message),
        **_success_rate(message),
        **_failure_percentage(message),
    )


def _consecutive(message: Any) -> dict[str, Any]:
    """A50: an algorithm whose enforcing percentage is 0 is off; of gateway errors that is the default."""
    enforced = {
        "enforcing_consecutive_5xx": _number(message, "enforcing_consecutive_5xx", _PERCENT),
        "enforcing_consecutive_gateway_failure": _number(message, "enforcing_consecutive_gateway_failure", 0),
        "enforcing_consecutive_local_origin": _number(message, "enforcing_consecutive_local_origin_failure", _PERCENT),
    }
    split = message.split_external_local_origin_errors
    five = _number(message, "consecutive_5xx", _DEFAULT_CONSECUTIVE)
    gateway = _number(message, "consecutive_gateway_failure", _DEFAULT_CONSECUTIVE)
    local = _number(message, "consecutive_local_origin_failure", _DEFAULT_CONSECUTIVE)
    return {
        **enforced,
        "split_local_origin": split,
        "consecutive_5xx": five if five and enforced["enforcing_consecutive_5xx"] else None,
        "consecutive_gateway_failure": (
            gateway if gateway and enforced["enforcing_consecutive_gateway_failure"] else None
        ),
        "consecutive_local_origin": (
            local if split and local and enforced["enforcing_consecutive_local_origin"] else None
        ),
    }


def _success_rate(message: Any) -> dict[str, Any]:
    external = _number(message, "enforcing_success_rate", _PERCENT)
    local = _number(message, "enforcing_local_origin_success_rate", _PERCENT)
    on = external > 0 or (message.split_external_local_origin_errors and local > 0)
    default = OutlierDetection()
    return {
        "success_rate_stdev_factor": _number(message, "success_rate_stdev_factor", _DEFAULT_STDEV) if on else None,
        "enforcing_success_rate": external,
        "enforcing_local_origin_success_rate": local,
        "success_rate_minimum_hosts": _number(
            message, "success_rate_minimum_hosts", default.success_rate_minimum_hosts
        ),
        "success_rate_request_volume": _number(
            message, "success_rate_request_volume", default.success_rate_request_volume
        ),
    }


def _failure_percentage(message: Any) -> dict[str, Any]:
    external = _number(message, "enforcing_failure_percentage", 0)
    local = _number(message, "enforcing_failure_percentage_local_origin", 0)
    on = external > 0 or (message.split_external_local_origin_errors and local > 0)
    default = OutlierDetection()
    return {
        "failure_percentage_threshold": (
            _number(message, "failure_percentage_threshold", _DEFAULT_THRESHOLD) if on else None
        ),
        "enforcing_failure_percentage": external,
        "enforcing_failure_percentage_local_origin": local,
        "failure_percentage_minimum_hosts": _number(
            message, "failure_percentage_minimum_hosts", default.failure_percentage_minimum_hosts
        ),
        "failure_percentage_request_volume": _number(
            message, "failure_percentage_request_volume", default.failure_percentage_request_volume
        ),
    }


def circuit_breakers(message: Any) -> tuple[CircuitBreakers | None, CircuitBreakers | None]:
    """Returns the thresholds of an envoy.config.cluster.v3.CircuitBreakers for DEFAULT and for HIGH priority.

    None where there are none. The first entry of a priority counts (A32).
    """
    found: dict[int, CircuitBreakers] = {}
    for i, one in enumerate(message.thresholds):
        found.setdefault(one.priority, _thresholds(one, f"circuit_breakers.thresholds[{i}]"))
    return found.get(base_pb2.RoutingPriority.DEFAULT), found.get(base_pb2.RoutingPriority.HIGH)


def _thresholds(one: Any, path: str) -> CircuitBreakers:
    return CircuitBreakers(
        max_connections=_optional(one, "max_connections"),
        max_pending_requests=_optional(one, "max_pending_requests"),
        max_requests=_optional(one, "max_requests"),
        max_retries=_optional(one, "max_retries"),
        retry_budget=_budget(one.retry_budget, f"{path}.retry_budget") if one.HasField("retry_budget") else None,
    )


def _budget(message: Any, path: str) -> RetryBudget:
    default = RetryBudget()
    part = default.share
    if message.HasField("budget_percent"):
        part = share(message.budget_percent, f"{path}.budget_percent")
    return RetryBudget(part, _number(message, "min_retry_concurrency", default.min_concurrency))


def _number(message: Any, name: str, default: int) -> int:
    return getattr(message, name).value if message.HasField(name) else default


def _optional(message: Any, name: str) -> int | None:
    return getattr(message, name).value if message.HasField(name) else None


def _duration(message: Any, name: str, default: float) -> float:
    return seconds(getattr(message, name), f"outlier_detection.{name}") if message.HasField(name) else default


def _positive(message: Any, name: str, default: float) -> float:
    return positive_seconds(getattr(message, name), f"outlier_detection.{name}") if message.HasField(name) else default
