"""The global rate limit: asks a rate limit service about a call before it goes out.

Made by `gates`. Follows Envoy's `ratelimit` filter: a call without a descriptor is not asked about. The question itself
is the driver's: it gets a `Consult` and sends the `Verdict`.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshsdk.interceptors.policies.descriptors import Descriptors
from meshsdk.interceptors.policies.gate import Consult, Descriptor, GateCall, Passing, Verdict
from meshsdk.interceptors.policies.steps import Reject, RejectionInfo
from meshsdk.model.filters import RateLimitActions, RateLimitService


class RateLimitGate:
    """One rate limit filter on one route. Read-only after init."""

    __slots__ = ("_config", "_descriptors")

    def __init__(self, config: RateLimitService, actions: Sequence[RateLimitActions]) -> None:
        """`actions`: of the route; the filter's own go before. Raises ValueError for a header match amiss."""
        self._config = config
        self._descriptors = Descriptors(config.rate_limits or actions, config.stage)

    def enter(self, call: GateCall) -> Passing:
        """Refuses the call if the service says so, or gives no answer and the filter says to deny then."""
        descriptors = self._descriptors.of(call)
        if not descriptors:
            return None
        config = self._config
        timeout = config.timeout if call.left is None else min(config.timeout, max(0.0, call.left))
        verdict = yield Consult(config.domain, descriptors, timeout, config.cluster, config.target)
        if verdict is None or verdict.allowed is None:
            return self._unanswered("" if verdict is None else verdict.problem)
        return None if verdict.allowed else self._refusal(verdict, descriptors)

    def _unanswered(self, problem: str) -> Reject | None:
        config = self._config
        if not config.deny_on_failure:
            return None
        where = config.cluster or config.target
        details = f"rate limit service {where} gave no answer: {problem or 'unknown'}"
        info = RejectionInfo("RATE_LIMIT_SERVICE_UNAVAILABLE", metadata=(("domain", config.domain),))
        return Reject("UNAVAILABLE", details, "rate_limit_service", (), info)

    def _refusal(self, verdict: Verdict, descriptors: tuple[Descriptor, ...]) -> Reject:
        config = self._config
        subject = "; ".join(", ".join(f"{key}={value}" for key, value in one) for one in descriptors)
        details = f"rate limit of {config.domain}: {verdict.limit or subject}"
        metadata = (("domain", config.domain),)
        info = RejectionInfo("RATE_LIMITED", verdict.retry_after, subject, verdict.limit or details, metadata)
        return Reject(config.status, details, "rate_limit", (), info)
