"""RetryPolicy -> `model.policy.RetryPolicy` (gRFC A44). Called by `route` and `action`; retries nothing itself."""

from __future__ import annotations

from typing import Any

from meshsdk.model.policy import RetryPolicy
from meshsdk.xds_client.codec.ignored import Honoured
from meshsdk.xds_client.codec.refusal import FieldError
from meshsdk.xds_client.codec.values import positive_seconds, seconds

HONOURED: Honoured = {"retry_on": None, "num_retries": None, "per_try_timeout": None, "retry_back_off": None}

# The conditions of x-envoy-retry-grpc-on, the only ones A44 converts.
_STATUSES = {
    "cancelled": "CANCELLED",
    "deadline-exceeded": "DEADLINE_EXCEEDED",
    "internal": "INTERNAL",
    "resource-exhausted": "RESOURCE_EXHAUSTED",
    "unavailable": "UNAVAILABLE",
}
_SHOWN = 40  # characters of a foreign condition that are listed
_DEFAULT_BASE = 0.025  # seconds, A44
_MAX_OVER_BASE = 10  # the default of max_interval is ten times base_interval


def retry_policy(policy: Any, path: str) -> RetryPolicy | None:
    """Returns the policy, or None if none of its conditions is one of gRPC's (A44: then nothing is retried)."""
    conditions = _conditions(policy)
    retries = policy.num_retries.value if policy.HasField("num_retries") else 1
    if retries < 1:
        raise FieldError(f"{path}.num_retries", "must be 1 or more")
    base, longest = _back_off(policy, f"{path}.retry_back_off")
    # Zero is Envoy's "no limit of its own", like an unset field.
    timeout = seconds(policy.per_try_timeout, f"{path}.per_try_timeout") or None
    retry_on = frozenset(_STATUSES[name] for name in conditions & _STATUSES.keys())
    return RetryPolicy(retry_on, retries, base, longest, timeout) if retry_on else None


def unhonoured_conditions(policy: Any) -> set[str]:
    """Returns the retry_on conditions that have no effect here, each as `retry_on.<condition>`."""
    return {f"retry_on.{name[:_SHOWN]}" for name in _conditions(policy) - _STATUSES.keys()}


def _conditions(policy: Any) -> set[str]:
    return {name.strip().lower() for name in policy.retry_on.split(",")} - {""}


def _back_off(policy: Any, path: str) -> tuple[float, float]:
    """Returns (base_interval, max_interval) in seconds."""
    if not policy.HasField("retry_back_off"):
        return _DEFAULT_BASE, _DEFAULT_BASE * _MAX_OVER_BASE
    back_off = policy.retry_back_off
    base = positive_seconds(back_off.base_interval, f"{path}.base_interval")
    if not back_off.HasField("max_interval"):
        return base, base * _MAX_OVER_BASE
    longest = positive_seconds(back_off.max_interval, f"{path}.max_interval")
    if longest < base:
        raise FieldError(f"{path}.max_interval", f"{longest} s is less than base_interval, {base} s")
    return base, longest
