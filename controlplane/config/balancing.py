"""`loadBalancer` of a traffic policy from YAML. Called by `rules`."""

from __future__ import annotations

from controlplane.config.fields import Field, Record
from controlplane.model.names import HEADER
from controlplane.model.policy import LoadBalancer
from meshsdk.model.policy import (
    EndpointPolicy,
    HashHeader,
    LeastRequest,
    Maglev,
    RandomChoice,
    RingHash,
    RoundRobin,
    SlowStart,
)

_SIMPLE: dict[str, EndpointPolicy | None] = {
    "LEAST_REQUEST": LeastRequest(),
    "LEAST_CONN": LeastRequest(),  # Istio's older name for it
    "ROUND_ROBIN": RoundRobin(),
    "RANDOM": RandomChoice(),
    "UNSPECIFIED": RoundRobin(),
    "PASSTHROUGH": None,
}
_NO_KEY = "is not supported: gRPC has no queries and no source address to hash; use httpHeaderName"
_NO_COOKIE = (
    "is not supported: gRPC's clients cannot hash a cookie and would spread calls at random; use httpHeaderName, or "
    "sessionAffinity of a CallPolicy"
)
_RELATIVE = "is not supported in this version; `enabled: true` prefers the caller's zone"
_MAX_RING = 8 * 1024 * 1024  # gRFC A42
_MAX_TABLE = 5_000_011  # Envoy's limit for maglev


def _warmup(field: Field) -> SlowStart:
    record = field.record(("duration", "minimumPercent", "aggression"))
    return SlowStart(
        window=record.require("duration").duration(0.001),
        aggression=record.read("aggression", lambda item: item.number(0.01, 100)) or 1.0,
        min_weight=(record.read("minimumPercent", lambda item: item.number(0, 100)) or 10.0) / 100,
    )


def _prime(value: int) -> bool:
    return value > 1 and all(value % divisor for divisor in range(2, int(value**0.5) + 1))


def _table(field: Field) -> Maglev:
    size = field.record(("tableSize",)).get("tableSize")
    if size is None:
        return Maglev()
    value = size.integer(2, _MAX_TABLE)
    if not _prime(value):
        size.refuse(f"expected a prime number, got {value}")
    return Maglev(value)


def _ring(field: Field) -> RingHash:
    size = field.record(("minimumRingSize",)).read("minimumRingSize", lambda item: item.integer(1, _MAX_RING))
    return RingHash(min_size=size or 1024)


def _consistent(field: Field) -> tuple[EndpointPolicy, HashHeader]:
    record = field.record(
        ("httpHeaderName", "ringHash", "maglev", "minimumRingSize"),
        refused={"httpCookie": _NO_COOKIE, "useSourceIp": _NO_KEY, "httpQueryParameterName": _NO_KEY},
    )
    header = record.require("httpHeaderName").matching(HEADER, "the name of a metadata key")
    chosen = record.one_of(("ringHash", "maglev", "minimumRingSize"))
    policy: EndpointPolicy = RingHash()
    if chosen and chosen.path.endswith(".maglev"):
        policy = _table(chosen)
    elif chosen and chosen.path.endswith(".ringHash"):
        policy = _ring(chosen)
    elif chosen:
        policy = RingHash(min_size=chosen.integer(1, _MAX_RING))
    return policy, HashHeader(header.lower())


def _prefer_zone(field: Field) -> bool:
    record = field.record(
        ("enabled",), refused=dict.fromkeys(("distribute", "failover", "failoverPriority"), _RELATIVE)
    )
    enabled = record.read("enabled", Field.boolean)
    return True if enabled is None else enabled


def _slow_start(record: Record) -> SlowStart | None:
    older = record.get("warmupDurationSecs")
    if older is None:
        return record.read("warmup", _warmup)
    record.one_of(("warmup", "warmupDurationSecs"))
    return SlowStart(window=older.duration(0.001))


def load_balancer(field: Field) -> LoadBalancer:
    """Reads a `loadBalancer`. Raises FieldRefused."""
    record = field.record(("simple", "consistentHash", "localityLbSetting", "warmup", "warmupDurationSecs"))
    chosen = record.one_of(("simple", "consistentHash"))
    policy: EndpointPolicy = RoundRobin()
    header: HashHeader | None = None
    slow_start = _slow_start(record)
    if chosen is not None and chosen.path.endswith(".simple"):
        simple = chosen.choice(_SIMPLE)
        if simple is None:
            chosen.refuse("PASSTHROUGH is not supported: it forwards to the address dialled, which is a name here")
        policy = simple
    elif chosen is not None:
        policy, header = _consistent(chosen)
    if slow_start and not isinstance(policy, LeastRequest | RoundRobin):
        (record.get("warmup") or record.require("warmupDurationSecs")).warn(
            "has no effect: only ROUND_ROBIN and LEAST_REQUEST warm up"
        )
        slow_start = None
    return LoadBalancer(policy, header, slow_start, record.read("localityLbSetting", _prefer_zone) or False)
