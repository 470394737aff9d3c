"""HTTP filters as calls meet them: fault injection, rate limits, adaptive concurrency, admission control, sessions.

One frozen value per filter configuration. Made by `meshsdk.xds_client.codec.http_filters` (and, for servers, by options
of code), turned into gates by `meshsdk.interceptors.policies`. Durations are seconds, shares are 0-1.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshsdk.model.matching import HeaderMatch


@dataclass(frozen=True, slots=True)
class Fault:
    """`envoy.extensions.filters.http.fault.v3.HTTPFault` (gRFC A33).

    `abort_code`: gRPC status name, "" for no abort. `*_from_header`: the caller's metadata says what and how much, the
    shares here cap it. `max_active`: faults at one time in this process, None for no limit. `cluster`: only calls to
    that one, "" for all (`routing` sees to it).
    """

    delay: float = 0.0
    delay_share: float = 0.0
    delay_from_header: bool = False
    abort_code: str = ""
    abort_share: float = 0.0
    abort_from_header: bool = False
    max_active: int | None = None
    headers: tuple[HeaderMatch, ...] = ()
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """`envoy.type.v3.TokenBucket`: holds at most `max_tokens`; `tokens_per_fill` come every `fill_interval` seconds."""

    max_tokens: int
    tokens_per_fill: int
    fill_interval: float


@dataclass(frozen=True, slots=True)
class DescriptorLimit:
    """A bucket for calls of which a descriptor has exactly these entries (key, value), in order.

    An empty value stands for any value: each has a bucket of its own.
    """

    entries: tuple[tuple[str, str], ...]
    bucket: TokenBucket


@dataclass(frozen=True, slots=True)
class LocalRateLimit:
    """`envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`.

    `bucket` None: only `descriptors` limit. `enabled`, `enforced`: shares of the calls that are asked, and refused.
    `rate_limits`: actions of the filter itself, in place of the route's; of either, those of `stage` count.
    """

    bucket: TokenBucket | None
    descriptors: tuple[DescriptorLimit, ...] = ()
    enabled: float = 1.0
    enforced: float = 1.0
    status: str = "UNAVAILABLE"
    always_consume_default: bool = True
    rate_limits: tuple[RateLimitActions, ...] = ()
    stage: int = 0


@dataclass(frozen=True, slots=True)
class RateLimitService:
    """`envoy.extensions.filters.http.ratelimit.v3.RateLimit`: asks `envoy.service.ratelimit.v3` before a call goes out.

    `cluster` is the xDS cluster of the service (`envoy_grpc`), `target` its address (`google_grpc`): one is set.
    `deny_on_failure`: without an answer within `timeout` the call is refused, else it goes on. `rate_limits`: what is
    asked about in place of the route's; of either, the actions of `stage` count.
    """

    domain: str
    cluster: str = ""
    target: str = ""
    timeout: float = 0.02
    deny_on_failure: bool = False
    status: str = "UNAVAILABLE"
    stage: int = 0
    disabled_by_route: bool = False
    rate_limits: tuple[RateLimitActions, ...] = ()


@dataclass(frozen=True, slots=True)
class RateLimitRoute:
    """`envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute`: what it sets, it sets of a `RateLimitService`."""

    domain: str = ""
    rate_limits: tuple[RateLimitActions, ...] = ()


@dataclass(frozen=True, slots=True)
class GenericKey:
    """Entry (`key`, `value`), the same for each call."""

    value: str
    key: str = "generic_key"


@dataclass(frozen=True, slots=True)
class RequestHeader:
    """Entry (`key`, value of the metadata `name`); without the metadata the whole descriptor is left out.

    `skip_if_absent`: only this entry is.
    """

    name: str
    key: str
    skip_if_absent: bool = False


@dataclass(frozen=True, slots=True)
class HeaderValueMatch:
    """Entry (`key`, `value`) if the metadata matches all `headers` (or, with `expect` False, does not)."""

    value: str
    headers: tuple[HeaderMatch, ...]
    expect: bool = True
    key: str = "header_match"


@dataclass(frozen=True, slots=True)
class CallerCluster:
    """Entry ("source_cluster", the caller's application)."""


@dataclass(frozen=True, slots=True)
class CalledCluster:
    """Entry ("destination_cluster", the cluster that the route chose)."""


DescriptorAction = GenericKey | RequestHeader | HeaderValueMatch | CallerCluster | CalledCluster


@dataclass(frozen=True, slots=True)
class RateLimitActions:
    """`envoy.config.route.v3.RateLimit`: the entries of one descriptor. `stage`: of the service that is asked."""

    actions: tuple[DescriptorAction, ...]
    stage: int = 0
    disable_key: str = ""


@dataclass(frozen=True, slots=True)
class AdaptiveConcurrency:
    """`envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency` with its gradient controller.

    Envoy's defaults. `sample_percentile` 0-100. `interval`: of updates; `min_rtt_*`: how the latency at rest is probed.
    """

    enabled: bool = True
    sample_percentile: float = 50.0
    max_limit: int = 1000
    interval: float = 0.1
    min_rtt_interval: float = 60.0
    min_rtt_requests: int = 50
    min_rtt_jitter: float = 0.15
    min_concurrency: int = 3
    min_rtt_buffer: float = 0.25
    fixed_min_rtt: float | None = None
    status: str = "UNAVAILABLE"


_GOOD = frozenset(
    (
        *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "UNAUTHENTICATED"),
        *("FAILED_PRECONDITION", "OUT_OF_RANGE", "PERMISSION_DENIED", "UNIMPLEMENTED"),
    )
)


@dataclass(frozen=True, slots=True)
class AdmissionControl:
    """`envoy.extensions.filters.http.admission_control.v3.AdmissionControl`: refuses more, the more calls fail.

    Envoy's defaults. `window` seconds of history; `threshold`: success share below which calls are refused;
    `rps_threshold`: none is below this rate; `max_refused`: never more than this share. `good`: gRPC status names that
    count as success.
    """

    enabled: bool = True
    window: float = 30.0
    threshold: float = 0.95
    aggression: float = 1.0
    rps_threshold: float = 0.0
    max_refused: float = 0.8
    good: frozenset[str] = _GOOD


@dataclass(frozen=True, slots=True)
class StatefulSession:
    """`envoy.extensions.filters.http.stateful_session.v3.StatefulSession` with a cookie (gRFC A55).

    `ttl` seconds, 0 for the length of the session. `strict`: without its endpoint the call fails, is not moved.
    `enabled` False: a route turns it off.
    """

    name: str = ""
    path: str = "/"
    ttl: float = 0.0
    strict: bool = False
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class HeaderEdit:
    """One edit of metadata; edits run in order. `value` None removes all that are called `name`.

    `append`: add beside what is there; else replace. `only_if_absent`: no effect if there is one of that name.
    `only_if_present`: no effect if there is none.
    """

    name: str
    value: str | None
    append: bool = True
    only_if_absent: bool = False
    only_if_present: bool = False


@dataclass(frozen=True, slots=True)
class HeaderMutation:
    """`envoy.extensions.filters.http.header_mutation.v3.HeaderMutation`; those of routes come on top of the listener's.

    `specific_last` (of the listener): those of a route run after those of its virtual host, not before.
    """

    request_edits: tuple[HeaderEdit, ...] = ()
    response_edits: tuple[HeaderEdit, ...] = ()
    specific_last: bool = False


GateConfig = Fault | LocalRateLimit | RateLimitService | AdaptiveConcurrency | AdmissionControl | StatefulSession
FilterConfig = GateConfig | RateLimitRoute | HeaderMutation
"""`RateLimitRoute` and `HeaderMutation` are resolved by `routing`: what a `Destination` has is a `GateConfig`."""


@dataclass(frozen=True, slots=True)
class NamedFilter:
    """A filter of a listener, in its place of the order. `off`: it does nothing unless a route says something of it.

    `config` None: it does nothing to calls as it is.
    """

    name: str
    config: FilterConfig | None
    off: bool = False
