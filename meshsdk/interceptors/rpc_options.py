"""What `@meshsdk.rpc` says about a method: read from the words of the decorator, written as JSON for callers. Pure.

Called by the decorator (`rpc`), by the registration (`meshsdk.lifecycle.revision`) and by the server's limits. It
decides nothing about calls: callers read these options from the revision that an instance published, and honour them
below what routes say; the server itself enforces `limit` (`server_admission`).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from meshsdk.errors import ConfigurationError
from meshsdk.model.policy import RetryPolicy

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(us|ms|s|m|h)")
_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)/(s|m|h)")
_LONGEST = 24 * 3600.0  # seconds; a longer timeout is a slip of the unit
_MOST_RETRIES = 10
_DEEPEST = 32  # wrappers looked through in search of options
_STATUS_NAMES = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
)  # what gRFC A44 lets a client retry on


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `concurrent` calls in flight, and at most `rate` calls a second, per instance; None: not limited."""

    concurrent: int | None = None
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class RpcOptions:
    """The options of one method. `timeout` in seconds."""

    idempotent: bool = False
    timeout: float | None = None
    retry: RetryPolicy | None = None
    limit: Limit | None = None

    def published(self) -> dict[str, object]:
        """Returns the options as JSON values; what was not said is left out."""
        said: dict[str, object] = {}
        if self.idempotent:
            said["idempotent"] = True
        if self.timeout is not None:
            said["timeout"] = self.timeout
        if self.retry is not None:
            said["retry"] = {
                "retryOn": sorted(self.retry.retry_on),
                "numRetries": self.retry.num_retries,
                "baseInterval": self.retry.base_interval,
                "maxInterval": self.retry.max_interval,
                "perTryTimeout": self.retry.per_try_timeout,
            }
        if self.limit is not None:
            said["limit"] = {"concurrent": self.limit.concurrent, "rate": self.limit.rate}
        return said


def read_options(
    *,
    idempotent: object,
    timeout: object,
    retry: object,
    limit: object,
) -> RpcOptions:
    """Reads the decorator's arguments; ConfigurationError names the argument, what is wrong and what to write."""
    if not isinstance(idempotent, bool):
        raise ConfigurationError(f"@meshsdk.rpc: idempotent={idempotent!r} must be True or False")
    policy = _retry(retry)
    if policy is not None and not idempotent:
        raise ConfigurationError(
            "@meshsdk.rpc: retry= repeats calls that may have run, so it needs idempotent=True; "
            "calls that never reached a server move to another one without it"
        )
    return RpcOptions(idempotent, _duration(timeout), policy, read_limit(limit))


def options_of(handler: object) -> RpcOptions | None:
    """Returns what `@meshsdk.rpc` said about a handler (bound or not, decorated further or not), else None."""
    for _ in range(_DEEPEST):
        if handler is None:
            return None
        options = getattr(handler, "__meshsdk_rpc__", None)
        if isinstance(options, RpcOptions):
            return options
        handler = handler.func if isinstance(handler, functools.partial) else getattr(handler, "__wrapped__", None)
    return None


def _duration(value: object) -> float | None:
    seconds: float
    if value is None:
        return None
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        seconds = float(match[1]) * _UNITS[match[2]]
    else:
        raise ConfigurationError(
            f"@meshsdk.rpc: timeout={value!r} is no duration; write seconds (2.5), a timedelta, or text "
            'with a unit ("250ms", "2s", "1m")'
        )
    if not (math.isfinite(seconds) and 0 < seconds <= _LONGEST):
        raise ConfigurationError(f"@meshsdk.rpc: timeout={value!r} must be more than 0 and at most 24 hours")
    return seconds


def _retry(value: object) -> RetryPolicy | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, RetryPolicy)):
        raise ConfigurationError(
            f"@meshsdk.rpc: retry={value!r} must be a number of retries (retry=2, on UNAVAILABLE) or a RetryPolicy"
        )
    policy = value if isinstance(value, RetryPolicy) else RetryPolicy(frozenset({"UNAVAILABLE"}), value)
    if not 1 <= policy.num_retries <= _MOST_RETRIES:
        raise ConfigurationError(f"@meshsdk.rpc: retry: {policy.num_retries} retries are not 1 to {_MOST_RETRIES}")
    if unknown := policy.retry_on - _STATUS_NAMES:
        raise ConfigurationError(
            f"@meshsdk.rpc: retry_on has {', '.join(sorted(unknown))}; only {', '.join(sorted(_STATUS_NAMES))} "
            "can be retried (gRFC A44)"
        )
    return policy


def read_limit(value: object, where: str = "@meshsdk.rpc: limit") -> Limit | None:
    """Reads a limit as users write it; ConfigurationError names `where` it was said."""
    if value is None:
        return None
    if isinstance(value, Limit):
        limit = value
    elif isinstance(value, int) and not isinstance(value, bool):
        limit = Limit(concurrent=value)
    elif isinstance(value, str) and (rate := _rate(value)) is not None:
        limit = Limit(rate=rate)
    elif isinstance(value, Mapping) and value and value.keys() <= {"concurrent", "rate"}:
        limit = Limit(_calls(value.get("concurrent"), where), _per_second(value.get("rate"), where))
    else:
        raise ConfigurationError(
            f'{where}={value!r} must be a number of calls in flight (limit=64), a rate ("100/s", "6000/m"), both '
            '({"concurrent": 64, "rate": "100/s"}) or a Limit'
        )
    if limit.concurrent is None and limit.rate is None:
        raise ConfigurationError(f"{where}= says neither concurrent nor rate")
    if not all(bound is None or (math.isfinite(bound) and bound > 0) for bound in (limit.concurrent, limit.rate)):
        raise ConfigurationError(f"{where}={value!r} must be more than 0")
    return limit


def _rate(text: str) -> float | None:
    match = _RATE.fullmatch(text)
    return None if match is None else float(match[1]) / _UNITS[match[2]]


def _calls(value: object, where: str) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ConfigurationError(f"{where}: concurrent={value!r} must be a number of calls in flight")


def _per_second(value: object, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, str) and (rate := _rate(value)) is not None:
        return rate
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise ConfigurationError(f'{where}: rate={value!r} must be a rate ("100/s") or a number of calls a second')
