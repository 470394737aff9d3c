"""Makes the gate of a filter's configuration.

Called by `meshsdk.channel` when a plan is compiled, and by the servers' limits. A gate keeps what it has counted: who
makes it anew begins anew, so one is made per filter of a listener or per override, not per call nor per snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from meshsdk.interceptors.policies.adaptive_concurrency import AdaptiveConcurrencyGate
from meshsdk.interceptors.policies.admission import AdmissionGate
from meshsdk.interceptors.policies.fault import FaultGate
from meshsdk.interceptors.policies.gate import Gate, NewGuard
from meshsdk.interceptors.policies.local_rate_limit import LocalRateLimitGate
from meshsdk.interceptors.policies.rate_limit import RateLimitGate
from meshsdk.model.filters import (
    AdaptiveConcurrency,
    AdmissionControl,
    Fault,
    FilterConfig,
    LocalRateLimit,
    RateLimitActions,
    RateLimitService,
)


def make(
    config: FilterConfig, rate_limits: Sequence[RateLimitActions], draw: Callable[[], float], guard: NewGuard
) -> Gate | None:
    """Returns the gate, None for a filter that keeps no call back (or is no gate: sessions).

    `rate_limits`: the route's actions. `draw`: floats in [0, 1) (`random.random`). `guard`: `threading.Lock`.
    Raises ValueError for a header match or a bucket that cannot be used.
    """
    if isinstance(config, Fault):
        return FaultGate(config, draw)
    if isinstance(config, LocalRateLimit):
        return LocalRateLimitGate(config, rate_limits, draw, guard) if config.bucket or config.descriptors else None
    if isinstance(config, RateLimitService):
        actions = config.rate_limits or rate_limits
        return None if config.disabled_by_route or not actions else RateLimitGate(config, actions)
    if isinstance(config, AdaptiveConcurrency):
        return AdaptiveConcurrencyGate(config, draw, guard) if config.enabled else None
    if isinstance(config, AdmissionControl):
        return AdmissionGate(config, draw, guard) if config.enabled else None
    return None
