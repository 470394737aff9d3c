"""Policies that resources carry: retry, hashing, load balancing, outlier detection, limits. Values only.

Durations are seconds, shares are 0-1 unless the name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshsdk.model.matching import HeaderMatch


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Route or virtual-host retry policy (gRFC A44). `retry_on` holds gRPC status names in upper case ("UNAVAILABLE").

    `num_retries` counts retries, not attempts. Backoff before retry n is drawn from [0, min(base * 2**(n-1), max)).
    `retriable_headers`: an answer whose headers match one of them is retried too, whatever its code.
    `avoid_previous`: a retry goes to an endpoint that the call has not tried, `avoid_attempts` draws long.
    """

    retry_on: frozenset[str]
    num_retries: int = 1
    base_interval: float = 0.025
    max_interval: float = 0.25
    per_try_timeout: float | None = None
    retriable_headers: tuple[HeaderMatch, ...] = ()
    avoid_previous: bool = False
    avoid_attempts: int = 1


@dataclass(frozen=True, slots=True)
class Hedging:
    """Further attempts before the first has failed (gRFC A6): one every `delay` seconds, up to `max_attempts` in all.

    `non_fatal`: statuses after which the other attempts go on, and the next one is made at once.
    """

    max_attempts: int
    delay: float
    non_fatal: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Mirror:
    """A copy of a `share` (0-1) of the calls goes to `cluster`; its answers are thrown away."""

    cluster: str
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class HashHeader:
    """Hash a metadata value (A42); `regex`/`substitution` rewrite it first when set."""

    name: str
    regex: str | None = None
    substitution: str = ""
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class HashChannelId:
    """Hash a value fixed per channel: filter state `io.grpc.channel_id` (A42)."""

    terminal: bool = False


HashPolicy = HashHeader | HashChannelId


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """`envoy.load_balancing_policies.round_robin`: endpoint weights honoured."""


@dataclass(frozen=True, slots=True)
class RandomChoice:
    """`envoy.load_balancing_policies.random`."""


@dataclass(frozen=True, slots=True)
class LeastRequest:
    """Power of `choices` choices over calls in flight (gRFC A48), 2 <= choices."""

    choices: int = 2


@dataclass(frozen=True, slots=True)
class PickFirst:
    """One endpoint until it fails (gRFC A62); `shuffle` the list first."""

    shuffle: bool = False


@dataclass(frozen=True, slots=True)
class RingHash:
    """Ketama ring (gRFC A42): XX_HASH, `min_size` <= entries <= `max_size` <= 8 Mi."""

    min_size: int = 1024
    max_size: int = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Maglev:
    """Maglev table of prime `table_size` (envoy.load_balancing_policies.maglev)."""

    table_size: int = 65537


@dataclass(frozen=True, slots=True)
class WeightedRoundRobin:
    """Weights from the load that endpoints report (gRFC A58): queries per second over utilization. Seconds.

    An endpoint counts with the average weight until it has reported for `blackout` and when its last report is older
    than `expiration`; weights are computed anew each `update_period`. `error_penalty`: times the failed share of calls,
    it adds to the utilization. `out_of_band`: reports are asked for every `oob_period` (ORCA), else answers bring them.
    """

    out_of_band: bool = False
    oob_period: float = 10.0
    blackout: float = 10.0
    expiration: float = 180.0
    update_period: float = 1.0
    error_penalty: float = 1.0


EndpointPolicy = RoundRobin | RandomChoice | LeastRequest | PickFirst | RingHash | Maglev | WeightedRoundRobin


@dataclass(frozen=True, slots=True)
class SlowStart:
    """Warm-up: weight grows over `window` seconds since the endpoint appeared as (t/window) ** (1/aggression).

    `min_weight` (0-1) is the floor. envoy.config.cluster.v3.Cluster.SlowStartConfig.
    """

    window: float
    aggression: float = 1.0
    min_weight: float = 0.1


@dataclass(frozen=True, slots=True)
class LbConfig:
    """How a cluster's calls are spread.

    `panic_threshold` (0-1; 0 turns it off): below this share of usable endpoints in a priority, all are used.
    `zone_preference`: prefer endpoints of the caller's zone while they carry their share.
    `locality_weighted`: choose a locality by its weight first. `subset_size`: connect to at most this many (A68).
    `draining_sessions`: calls of a session (A55) go on to its endpoint while that drains (`override_host_status`).
    """

    policy: EndpointPolicy = RoundRobin()
    locality_weighted: bool = True
    zone_preference: bool = False
    panic_threshold: float = 0.5
    slow_start: SlowStart | None = None
    subset_size: int = 100
    draining_sessions: bool = False


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """envoy.config.cluster.v3.OutlierDetection (gRFC A50): which endpoints are taken out for a while. Seconds.

    An algorithm whose first field is None is off. `enforcing_*`: the percentage (0-100) of detections that eject.
    `success_rate_stdev_factor`: thousandths. The ejection lasts `base_ejection_time` times the ejections so far, at
    most `max_ejection_time`, and up to `max_ejection_jitter` more. `max_ejection_percent` of a cluster's endpoints are
    out at once; `always_eject_one`: one may be, whatever the percentage.

    `split_local_origin`: what failed on this side (not connected, reset, no answer in time) counts by
    `consecutive_local_origin`, `enforcing_local_origin_success_rate` and `enforcing_failure_percentage_local_origin`
    alone, and never as an answer of the server; else it counts as a gateway error.
    """

    consecutive_5xx: int | None = 5
    consecutive_gateway_failure: int | None = None
    interval: float = 10.0
    base_ejection_time: float = 30.0
    max_ejection_time: float = 300.0
    max_ejection_percent: int = 10
    enforcing_consecutive_5xx: int = 100
    success_rate_stdev_factor: int | None = None
    failure_percentage_threshold: int | None = None
    enforcing_consecutive_gateway_failure: int = 0
    enforcing_success_rate: int = 100
    success_rate_minimum_hosts: int = 5
    success_rate_request_volume: int = 100
    enforcing_failure_percentage: int = 0
    failure_percentage_minimum_hosts: int = 5
    failure_percentage_request_volume: int = 50
    split_local_origin: bool = False
    consecutive_local_origin: int | None = None
    enforcing_consecutive_local_origin: int = 100
    enforcing_local_origin_success_rate: int = 100
    enforcing_failure_percentage_local_origin: int = 0
    max_ejection_jitter: float = 0.0
    always_eject_one: bool = False


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """Retries that may run at once: `share` (0-1) of the calls that run, and `min_concurrency` in any case."""

    share: float = 0.2
    min_concurrency: int = 3


@dataclass(frozen=True, slots=True)
class CircuitBreakers:
    """envoy.config.cluster.v3.CircuitBreakers of one priority; None: the default of the spec (1024; retries 3).

    `retry_budget`, where there is one, stands in place of `max_retries`.
    """

    max_connections: int | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_retries: int | None = None
    retry_budget: RetryBudget | None = None


@dataclass(frozen=True, slots=True)
class RpcDefaults:
    """What a server says of one of its methods (`@meshsdk.rpc`): callers go by it where no configuration says more.

    `idempotent`: it may be executed twice. `timeout` seconds for a call without a deadline. `retry`: as a route's.
    """

    idempotent: bool = False
    timeout: float | None = None
    retry: RetryPolicy | None = None
