"""What CallPolicy says: what Istio's resources have no word for. Values and look-ups only.

The parts are the SDK's own values (`meshsdk.model.filters`, `meshsdk.model.policy`), so both ends mean the same by
them. A part that is None was not written: the next outer word decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

from controlplane.model.identity import Origin, ResourceId
from meshsdk.model.filters import (
    AdaptiveConcurrency,
    AdmissionControl,
    LocalRateLimit,
    RateLimitActions,
    RateLimitService,
    StatefulSession,
)
from meshsdk.model.matching import PathKind, PathMatch
from meshsdk.model.policy import CircuitBreakers, Hedging, RetryBudget, WeightedRoundRobin


@dataclass(frozen=True, slots=True)
class CallParts:
    """What may differ from method to method. `descriptors`: asked of the service of `ServiceParts.rate_limit`."""

    hedging: Hedging | None = None
    local_rate_limit: LocalRateLimit | None = None
    descriptors: tuple[RateLimitActions, ...] | None = None
    session: StatefulSession | None = None
    high_priority: bool | None = None


@dataclass(frozen=True, slots=True)
class Ejection:
    """`successRate` or `failurePercentage` of `outlierDetection`.

    `threshold`: standard deviations below the mean, or percent (0-100) of failures. `enforcing`: percent of the
    findings that eject.
    """

    threshold: float
    min_hosts: int = 5
    request_volume: int = 100
    enforcing: int = 100


@dataclass(frozen=True, slots=True)
class StatisticalOutliers:
    """`outlierDetection`: ejection by comparison with the other endpoints, beside what a DestinationRule says."""

    success_rate: Ejection | None = None
    failure_percentage: Ejection | None = None
    max_ejection_time: float | None = None


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """What holds for a service as a whole: its listener's filters, and its clusters. `high`: limits of HIGH calls."""

    rate_limit: RateLimitService | None = None
    adaptive_concurrency: AdaptiveConcurrency | None = None
    admission_control: AdmissionControl | None = None
    retry_budget: RetryBudget | None = None
    outliers: StatisticalOutliers | None = None
    weighted: WeightedRoundRobin | None = None
    high: CircuitBreakers | None = None


# The field of the YAML that each part is written in.
PART_NAMES = {
    "hedging": "hedging",
    "local_rate_limit": "localRateLimit",
    "descriptors": "rateLimit.descriptors",
    "session": "sessionAffinity",
    "high_priority": "priority",
    "rate_limit": "rateLimit",
    "adaptive_concurrency": "adaptiveConcurrency",
    "admission_control": "admissionControl",
    "retry_budget": "retryBudget",
    "outliers": "outlierDetection",
    "weighted": "loadBalancer",
    "high": "circuitBreakers",
}
_Parts = TypeVar("_Parts", CallParts, ServiceParts)


def given(parts: CallParts | ServiceParts) -> dict[str, object]:
    """Returns the parts that were written, by the names of their fields."""
    found = ((each.name, getattr(parts, each.name)) for each in fields(parts))
    return {name: value for name, value in found if value is not None}


def over(inner: _Parts, outer: _Parts) -> _Parts:
    """Returns `inner` with the parts it lacks taken from `outer`."""
    return type(inner)(**{**given(outer), **given(inner)})  # type: ignore[arg-type]  # each to the field it came from


def _within(origin: Origin, part: str) -> Origin:
    return replace(origin, path=f"{origin.path}.{PART_NAMES[part]}")


@dataclass(frozen=True, slots=True)
class CallRule:
    """One entry of `rules`: what is different for calls of `paths`, methods and whole gRPC services."""

    paths: tuple[PathMatch, ...]
    parts: CallParts
    origin: Origin = field(default=Origin("", 0), compare=False)


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """`meshsdk.io/v1alpha1` CallPolicy for the service `host`. `parts`: of calls that no rule is for."""

    id: ResourceId
    host: str
    parts: CallParts = CallParts()
    service: ServiceParts = ServiceParts()
    rules: tuple[CallRule, ...] = ()
    origin: Origin = field(default=Origin("", 0), compare=False)

    def claims(self) -> Iterator[tuple[str, str, Origin]]:
        """Yields (path, "" for every call; name of the part; place) of all it decides."""
        for name in (*given(self.parts), *given(self.service)):
            yield "", name, _within(self.origin, name)
        for rule in self.rules:
            for path in rule.paths:
                yield from ((path.value, name, _within(rule.origin, name)) for name in given(rule.parts))


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """All CallPolicies of one service together. `paths`: what rules say, by path, methods before gRPC services."""

    parts: CallParts = CallParts()
    service: ServiceParts = ServiceParts()
    paths: tuple[tuple[PathMatch, CallParts], ...] = ()

    @classmethod
    def of(cls, policies: Iterable[CallPolicy]) -> EffectivePolicy:
        """Joins them; of two that decide one thing the first counts (`config` refuses such)."""
        parts, service = CallParts(), ServiceParts()
        paths: dict[PathMatch, CallParts] = {}
        for policy in policies:
            parts, service = over(parts, policy.parts), over(service, policy.service)
            for rule in policy.rules:
                paths |= {path: over(paths.get(path, CallParts()), rule.parts) for path in rule.paths}
        ordered = sorted(paths.items(), key=lambda item: (item[0].kind is not PathKind.EXACT, item[0].value))
        return cls(parts, service, tuple(ordered))

    def every(self) -> Iterator[CallParts]:
        """Yields the parts of all calls, then those of each path."""
        yield self.parts
        yield from (parts for _, parts in self.paths)
