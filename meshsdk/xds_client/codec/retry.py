"""RetryPolicy and HedgePolicy -> their values (gRFC A44, A6). Called by `inheritance` and `action`; retries nothing.

Beyond A44: `retriable-headers` with their matchers, and `previous_hosts` among the host predicates. Conditions about
what never reached a server (`connect-failure`, `refused-stream`, `reset-before-request`) always hold here: such a call
goes to another endpoint whatever the policy says. `reset` is part of `unavailable`: a call whose connection is lost
ends UNAVAILABLE here. Every other condition is listed.
"""

from __future__ import annotations

from typing import Any

from meshsdk.model.policy import Hedging, RetryPolicy
from meshsdk.xds_client.codec.ignored import Honoured
from meshsdk.xds_client.codec.matching import header_matches
from meshsdk.xds_client.codec.refusal import FieldError
from meshsdk.xds_client.codec.values import positive_seconds, seconds, type_name

HONOURED: Honoured = {
    "retry_on": None,
    "num_retries": None,
    "per_try_timeout": None,
    "retry_back_off": None,
    "retriable_headers": None,  # `without_effect`
    "retry_host_predicate": None,  # `without_effect`
    "host_selection_retry_max_attempts": None,
}
HEDGING: Honoured = {"hedge_on_per_try_timeout": None, "initial_requests": None}  # `hedging_without_effect`

# The conditions of x-envoy-retry-grpc-on, the only ones A44 converts.
_STATUSES = {
    "cancelled": "CANCELLED",
    "deadline-exceeded": "DEADLINE_EXCEEDED",
    "internal": "INTERNAL",
    "resource-exhausted": "RESOURCE_EXHAUSTED",
    "unavailable": "UNAVAILABLE",
}
_BY_HEADERS = "retriable-headers"
_UNSENT = frozenset({"connect-failure", "refused-stream", "reset-before-request"})
_RESET = "reset"
_PREVIOUS_HOSTS = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
_PREVIOUS_HOSTS_NAME = "envoy.retry_host_predicates.previous_hosts"
_SHOWN = 40  # characters of a foreign condition that are listed
_DEFAULT_BASE = 0.025  # seconds, A44
_MAX_OVER_BASE = 10  # the default of max_interval is ten times base_interval


def retry_policy(policy: Any, path: str) -> RetryPolicy | None:
    """Returns the policy, or None if none of its conditions is one of these here (A44: then nothing is retried)."""
    retries = policy.num_retries.value if policy.HasField("num_retries") else 1
    if retries < 1:
        raise FieldError(f"{path}.num_retries", "must be 1 or more")
    base, longest = _back_off(policy, f"{path}.retry_back_off")
    # Zero is Envoy's "no limit of its own", like an unset field.
    timeout = seconds(policy.per_try_timeout, f"{path}.per_try_timeout") or None
    conditions = _conditions(policy)
    headers = header_matches(policy.retriable_headers, f"{path}.retriable_headers")
    retry_on = frozenset(_STATUSES[name] for name in conditions & _STATUSES.keys())
    headers = headers if _BY_HEADERS in conditions else ()
    if not retry_on and not headers:
        return None
    return RetryPolicy(
        retry_on,
        retries,
        base,
        longest,
        timeout,
        retriable_headers=headers,
        avoid_previous=any(_is_previous_hosts(one) for one in policy.retry_host_predicate),
        avoid_attempts=max(policy.host_selection_retry_max_attempts, 1),
    )


def without_effect(policy: Any) -> set[str]:
    """Returns what of a policy has no effect here: conditions as `retry_on.<condition>`, host predicates likewise."""
    conditions = _conditions(policy)
    known = _STATUSES.keys() | _UNSENT | {_BY_HEADERS} | ({_RESET} if "unavailable" in conditions else set())
    found = {f"retry_on.{name[:_SHOWN]}" for name in conditions - known}
    if policy.retriable_headers and _BY_HEADERS not in conditions:
        found.add("retriable_headers")
    if _BY_HEADERS in conditions and not policy.retriable_headers:
        found.add(f"retry_on.{_BY_HEADERS}")
    others = (one for one in policy.retry_host_predicate if not _is_previous_hosts(one))
    found.update(f"retry_host_predicate.{one.name[:_SHOWN]}" for one in others)
    return found


def hedging(policy: Any, retry: RetryPolicy | None) -> Hedging | None:
    """Returns a HedgePolicy beside its retry policy, in the terms of A6: the delay is the per-try timeout.

    The attempt that took so long goes on, beside the next one; the statuses that are retried are the non-fatal ones.
    """
    if not policy.hedge_on_per_try_timeout or retry is None or retry.per_try_timeout is None:
        return None
    return Hedging(1 + retry.num_retries, retry.per_try_timeout, retry.retry_on)


def hedging_without_effect(policy: Any, retry: RetryPolicy | None) -> set[str]:
    """Returns what of a HedgePolicy has no effect here."""
    found = set()
    if policy.hedge_on_per_try_timeout and hedging(policy, retry) is None:
        found.add("hedge_on_per_try_timeout")
    if policy.initial_requests.value > 1:
        found.add("initial_requests")
    return found


def _is_previous_hosts(predicate: Any) -> bool:
    kind = type_name(predicate.typed_config)
    return kind == _PREVIOUS_HOSTS or (not kind and predicate.name == _PREVIOUS_HOSTS_NAME)


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
