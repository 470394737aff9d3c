"""OutlierDetection (gRFC A50) and CircuitBreakers (A32) -> their values.

Called by `cluster`; ejects and limits nothing.
"""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import base_pb2

from meshsdk.model.policy import CircuitBreakers, OutlierDetection
from meshsdk.xds_client.codec.refusal import FieldError
from meshsdk.xds_client.codec.values import seconds

_PERCENT = 100
_PERCENTAGES = (
    "max_ejection_percent",
    "enforcing_consecutive_5xx",
    "enforcing_consecutive_gateway_failure",
    "enforcing_success_rate",
    "failure_percentage_threshold",
    "enforcing_failure_percentage",
)
_DEFAULT_STDEV = 1900  # thousandths, A50
_DEFAULT_THRESHOLD = 85  # percent, A50


def outlier_detection(message: Any) -> OutlierDetection:
    """Returns an envoy.config.cluster.v3.OutlierDetection with the defaults of the spec; validated as A50 says."""
    path = "outlier_detection"
    for name in _PERCENTAGES:
        if message.HasField(name) and getattr(message, name).value > _PERCENT:
            raise FieldError(f"{path}.{name}", f"{getattr(message, name).value} is not a percentage of 0 to 100")
    default = OutlierDetection()
    base = _duration(message, "base_ejection_time", default.base_ejection_time)
    enforcing_5xx = _number(message, "enforcing_consecutive_5xx", default.enforcing_consecutive_5xx)
    five = _number(message, "consecutive_5xx", 5)
    # A50: an algorithm whose enforcing percentage is 0 is off; these are off unless enforced.
    by_rate = _number(message, "enforcing_success_rate", _PERCENT) > 0
    by_percentage = _number(message, "enforcing_failure_percentage", 0) > 0
    by_gateway = _number(message, "enforcing_consecutive_gateway_failure", 0) > 0
    return OutlierDetection(
        consecutive_5xx=five if five and enforcing_5xx else None,
        consecutive_gateway_failure=_number(message, "consecutive_gateway_failure", 5) if by_gateway else None,
        interval=_duration(message, "interval", default.interval),
        base_ejection_time=base,
        max_ejection_time=_duration(message, "max_ejection_time", max(base, default.max_ejection_time)),
        max_ejection_percent=_number(message, "max_ejection_percent", default.max_ejection_percent),
        enforcing_consecutive_5xx=enforcing_5xx,
        success_rate_stdev_factor=_number(message, "success_rate_stdev_factor", _DEFAULT_STDEV) if by_rate else None,
        failure_percentage_threshold=(
            _number(message, "failure_percentage_threshold", _DEFAULT_THRESHOLD) if by_percentage else None
        ),
    )


def circuit_breakers(message: Any) -> CircuitBreakers | None:
    """Returns the thresholds for DEFAULT priority of an envoy.config.cluster.v3.CircuitBreakers, None if none are set.

    The first entry of that priority counts (A32).
    """
    for one in message.thresholds:
        if one.priority == base_pb2.RoutingPriority.DEFAULT:
            return CircuitBreakers(
                max_connections=_optional(one, "max_connections"),
                max_pending_requests=_optional(one, "max_pending_requests"),
                max_requests=_optional(one, "max_requests"),
                max_retries=_optional(one, "max_retries"),
            )
    return None


def _number(message: Any, name: str, default: int) -> int:
    return getattr(message, name).value if message.HasField(name) else default


def _optional(message: Any, name: str) -> int | None:
    return getattr(message, name).value if message.HasField(name) else None


def _duration(message: Any, name: str, default: float) -> float:
    return seconds(getattr(message, name), f"outlier_detection.{name}") if message.HasField(name) else default
