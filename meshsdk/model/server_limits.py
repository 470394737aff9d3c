"""What a server takes on: limits said in code. Values only.

Made by applications for `meshsdk.server_interceptors(limits=...)`, turned into gates by
`meshsdk.interceptors.server_admission`, which also refuses what cannot be meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshsdk.model.filters import AdaptiveConcurrency, AdmissionControl, LocalRateLimit


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodLimits:
    """Limits of one method, or of all methods together.

    `limit`: as of `@meshsdk.rpc`: calls in flight (64), a rate ("100/s"), both ({"concurrent": 64, "rate": "100/s"}).
    `adaptive`: learn how many calls can run without waiting for one another; True: with Envoy's defaults.
    `admission`: refuse a share of the calls when many fail. `local_rate_limit`: token buckets for descriptors of calls.
    """

    limit: object = None
    adaptive: bool | AdaptiveConcurrency = False
    admission: bool | AdmissionControl = False
    local_rate_limit: LocalRateLimit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits(MethodLimits):
    """Limits of a server: its own, of all calls together, and `methods`: of `/pkg.Service/Method` or `/pkg.Service/*`.

    A method's entry here stands above its `@meshsdk.rpc(limit=...)`; the server's own limits hold beside both.
    Adaptive limits are cut further while the event loop runs late by more than `loop_lag` seconds, or calls wait longer
    than `queue_wait` seconds for a thread of the server's pool.
    """

    methods: Mapping[str, object] = field(default_factory=dict)
    loop_lag: float = 0.1
    queue_wait: float = 0.1
