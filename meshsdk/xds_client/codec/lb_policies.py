"""Load balancing policies by extension (gRFC A52), and the settings both ways of naming a policy share.

`choose` takes the first policy of the list that is known here; `balancing` calls it. The messages of extensions are
loaded when a cluster first names one, most meshes name none or one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from meshsdk.model.policy import (
    LbConfig,
    LeastRequest,
    Maglev,
    PickFirst,
    RandomChoice,
    RingHash,
    RoundRobin,
    SlowStart,
    WeightedRoundRobin,
)
from meshsdk.xds_client.codec.ignored import Honoured, unhonoured
from meshsdk.xds_client.codec.refusal import FieldError, joined
from meshsdk.xds_client.codec.values import parsed, positive_seconds, seconds, share, type_name

_DEPTH = 16  # A52: policies nested deeper are refused
_RING_MAX = 8 * 1024 * 1024  # entries, A42
_MAGLEV_MAX = 5_000_011  # entries, envoy.config.cluster.v3.Cluster.MaglevLbConfig
_CHOICES_MIN, _CHOICES_MAX = 2, 10  # A48: fewer is refused, more counts as ten
_SHORTEST_UPDATE = 0.1  # seconds, A58
_PACKAGE = "envoy.extensions.load_balancing_policies."

# Of the aggression, Envoy demands a runtime key; there is no runtime here, so the default value counts (A28).
SLOW_START: Honoured = {"slow_start_window": None, "aggression": None, "min_weight_percent": None}
_LOCALITY: Honoured = {"zone_aware_lb_config": {}, "locality_weighted_lb_config": None}


def least_request(config: Any, path: str) -> LeastRequest:
    """Returns either form of a least-request configuration (A48)."""
    choices = config.choice_count.value if config.HasField("choice_count") else _CHOICES_MIN
    if choices < _CHOICES_MIN:
        raise FieldError(f"{path}.choice_count", f"{choices} is less than {_CHOICES_MIN}")
    return LeastRequest(min(choices, _CHOICES_MAX))


def ring_hash(config: Any, path: str, *, xx_hash: bool) -> RingHash:
    """Returns either form of a ring-hash configuration (A42)."""
    if not xx_hash:
        raise FieldError(f"{path}.hash_function", "is not supported; only XX_HASH is")
    default = RingHash()
    smallest = config.minimum_ring_size.value if config.HasField("minimum_ring_size") else default.min_size
    largest = config.maximum_ring_size.value if config.HasField("maximum_ring_size") else default.max_size
    if not 1 <= smallest <= _RING_MAX:
        raise FieldError(f"{path}.minimum_ring_size", f"{smallest} is not in 1 to {_RING_MAX}")
    if not smallest <= largest <= _RING_MAX:
        raise FieldError(f"{path}.maximum_ring_size", f"{largest} is not in {smallest} (the minimum) to {_RING_MAX}")
    return RingHash(smallest, largest)


def maglev(config: Any, path: str) -> Maglev:
    """Returns either form of a maglev configuration; the table size must be a prime number."""
    if not config.HasField("table_size"):
        return Maglev()
    size = config.table_size.value
    if size > _MAGLEV_MAX or not _is_prime(size):
        raise FieldError(f"{path}.table_size", f"{size} is not a prime number of at most {_MAGLEV_MAX}")
    return Maglev(size)


def slow_start(config: Any, path: str) -> SlowStart | None:
    """Returns the `slow_start_config` of a policy's configuration, None if it has none or an empty window."""
    if not config.HasField("slow_start_config"):
        return None
    warm_up, where = config.slow_start_config, f"{path}.slow_start_config"
    if not warm_up.HasField("slow_start_window"):
        raise FieldError(f"{where}.slow_start_window", "is not set")
    default = SlowStart(positive_seconds(warm_up.slow_start_window, f"{where}.slow_start_window"))
    aggression = warm_up.aggression.default_value if warm_up.HasField("aggression") else default.aggression
    if not 0 < aggression < float("inf"):
        raise FieldError(f"{where}.aggression.default_value", f"{aggression} is not more than zero")
    floor = default.min_weight
    if warm_up.HasField("min_weight_percent"):
        floor = share(warm_up.min_weight_percent, f"{where}.min_weight_percent")
    return SlowStart(default.window, aggression, floor)


def choose(policies: Any, path: str, noted: set[str], depth: int = 1) -> LbConfig:
    """Returns the first policy of an envoy.config.cluster.v3.LoadBalancingPolicy that is known here.

    Those before it are added to `noted`; raises `FieldError` if none is known or one is not valid.
    """
    if depth > _DEPTH:
        raise FieldError(path, f"is nested more than {_DEPTH} deep")
    unknown = []
    for i, policy in enumerate(policies.policies):
        config = policy.typed_extension_config.typed_config
        name = type_name(config)
        where = f"{path}.policies[{i}]"
        if name == _WRR_LOCALITY:
            return _wrr_locality(config.value, where, noted, depth)
        if name in _POLICIES:
            return _known(name, config.value, where, noted)
        unknown.append(policy.typed_extension_config.name or name or "unnamed")
        noted.add(f"load_balancing_policy.policies.{unknown[-1]}")
    raise FieldError(path, f"names no policy that is known here (named: {', '.join(unknown) or 'none'})")


def _known(name: str, raw: bytes, path: str, noted: set[str]) -> LbConfig:
    honoured, build = _POLICIES[name]
    message = parsed(_message(name), raw, path)
    listed = f"load_balancing_policy.{name.rpartition('.')[2]}"
    noted.update(unhonoured(message, honoured, listed))
    return build(message, path)


def _wrr_locality(raw: bytes, path: str, noted: set[str], depth: int) -> LbConfig:
    """A52: a locality by its weight, then the policy inside."""
    message = parsed(_message(_WRR_LOCALITY), raw, path)
    where = joined(path, "endpoint_picking_policy")
    if not message.HasField("endpoint_picking_policy"):
        raise FieldError(where, "is not set")
    return replace(choose(message.endpoint_picking_policy, where, noted, depth + 1), locality_weighted=True)


def _message(name: str) -> Any:
    """Returns the class of an extension's message, by the layout that all packages of Envoy's policies share."""
    package, _, message = name.rpartition(".")
    return getattr(import_module(f"{package}.{package.split('.')[-2]}_pb2"), message)


def _located(config: LbConfig, settings: Any) -> LbConfig:
    """Applies an envoy...load_balancing_policies.common.v3.LocalityLbConfig; unset, localities do not count."""
    return replace(
        config,
        locality_weighted=settings.HasField("locality_weighted_lb_config"),
        zone_preference=settings.HasField("zone_aware_lb_config"),
    )


def _round_robin(message: Any, path: str) -> LbConfig:
    return _located(LbConfig(RoundRobin(), slow_start=slow_start(message, path)), message.locality_lb_config)


def _least_request(message: Any, path: str) -> LbConfig:
    config = LbConfig(least_request(message, path), slow_start=slow_start(message, path))
    return _located(config, message.locality_lb_config)


def _random(message: Any, path: str) -> LbConfig:
    del path
    return _located(LbConfig(RandomChoice()), message.locality_lb_config)


def _pick_first(message: Any, path: str) -> LbConfig:
    del path
    return LbConfig(PickFirst(message.shuffle_address_list), locality_weighted=False)


def _ring_hash(message: Any, path: str) -> LbConfig:
    policy = ring_hash(message, path, xx_hash=message.hash_function in {message.DEFAULT_HASH, message.XX_HASH})
    return LbConfig(policy, locality_weighted=message.HasField("locality_weighted_lb_config"))


def _maglev(message: Any, path: str) -> LbConfig:
    return LbConfig(maglev(message, path), locality_weighted=message.HasField("locality_weighted_lb_config"))


def _by_load(message: Any, path: str) -> LbConfig:
    """A58. Weights are computed at most every tenth of a second, whatever is asked for."""
    default = WeightedRoundRobin()
    penalty = default.error_penalty
    if message.HasField("error_utilization_penalty"):
        penalty = message.error_utilization_penalty.value
        if not 0 <= penalty < float("inf"):
            raise FieldError(f"{path}.error_utilization_penalty", f"{penalty} is not zero or more")

    def period(name: str, unset: float) -> float:
        return seconds(getattr(message, name), f"{path}.{name}") if message.HasField(name) else unset

    policy = WeightedRoundRobin(
        out_of_band=message.enable_oob_load_report.value,
        oob_period=period("oob_reporting_period", default.oob_period),
        blackout=period("blackout_period", default.blackout),
        expiration=period("weight_expiration_period", default.expiration),
        update_period=max(period("weight_update_period", default.update_period), _SHORTEST_UPDATE),
        error_penalty=penalty,
    )
    return LbConfig(policy, locality_weighted=False, slow_start=slow_start(message, path))


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


_WRR_LOCALITY = f"{_PACKAGE}wrr_locality.v3.WrrLocality"
_RING: Honoured = {
    "hash_function": None,
    "minimum_ring_size": None,
    "maximum_ring_size": None,
    "locality_weighted_lb_config": None,
}
_BY_LOAD: Honoured = {
    "enable_oob_load_report": None,
    "oob_reporting_period": None,
    "blackout_period": None,
    "weight_expiration_period": None,
    "weight_update_period": None,
    "error_utilization_penalty": None,
    "slow_start_config": SLOW_START,
}
_POLICIES: Mapping[str, tuple[Honoured, Callable[[Any, str], LbConfig]]] = {
    f"{_PACKAGE}round_robin.v3.RoundRobin": (
        {"slow_start_config": SLOW_START, "locality_lb_config": _LOCALITY},
        _round_robin,
    ),
    f"{_PACKAGE}least_request.v3.LeastRequest": (
        {"choice_count": None, "slow_start_config": SLOW_START, "locality_lb_config": _LOCALITY},
        _least_request,
    ),
    f"{_PACKAGE}random.v3.Random": ({"locality_lb_config": _LOCALITY}, _random),
    f"{_PACKAGE}pick_first.v3.PickFirst": ({"shuffle_address_list": None}, _pick_first),
    f"{_PACKAGE}ring_hash.v3.RingHash": (_RING, _ring_hash),
    f"{_PACKAGE}maglev.v3.Maglev": ({"table_size": None, "locality_weighted_lb_config": None}, _maglev),
    f"{_PACKAGE}client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin": (_BY_LOAD, _by_load),
}
