"""How a cluster's calls are spread -> `LbConfig`. Called by `cluster`; picks nothing itself.

Specs: gRFC A27, A42, A48, A62 by the `lb_policy` enum with its `*_lb_config`; A52 by `load_balancing_policy`, which
wins (`lb_policies`). On top of both: `common_lb_config`, and our filter metadata `meshsdk`
{"subset_size": N, "zone_preference": bool}.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import health_check_pb2

from meshsdk.model.policy import EndpointPolicy, LbConfig, RandomChoice, RoundRobin, SlowStart
from meshsdk.xds_client.codec.ignored import Honoured
from meshsdk.xds_client.codec.lb_policies import SLOW_START, choose, least_request, maglev, ring_hash, slow_start
from meshsdk.xds_client.codec.refusal import FieldError, shown
from meshsdk.xds_client.codec.values import UINT32_MAX, share

_Cluster = cluster_pb2.Cluster
# What of a Cluster this module honours.
HONOURED: Honoured = {
    "lb_policy": None,
    "load_balancing_policy": None,  # lists for itself
    "least_request_lb_config": {"choice_count": None, "slow_start_config": SLOW_START},
    "round_robin_lb_config": {"slow_start_config": SLOW_START},
    "ring_hash_lb_config": {"minimum_ring_size": None, "maximum_ring_size": None, "hash_function": None},
    "maglev_lb_config": {"table_size": None},
    "common_lb_config": {
        "healthy_panic_threshold": None,
        "zone_aware_lb_config": {},
        "locality_weighted_lb_config": None,
        "override_host_status": None,
    },
    "metadata": None,  # `unhonoured_metadata`
}
_OURS = "meshsdk"
_OUR_KEYS = ("subset_size", "zone_preference")


def lb_config(cluster: Any, noted: set[str]) -> LbConfig:
    """Returns how an envoy.config.cluster.v3.Cluster balances; A52 policies add what has no effect to `noted`."""
    if cluster.HasField("load_balancing_policy"):
        config = choose(cluster.load_balancing_policy, "load_balancing_policy", noted)
    else:
        config = _by_enum(cluster)
    return _from_metadata(cluster, _with_shared_settings(cluster.common_lb_config, config))


def unhonoured_metadata(cluster: Any) -> Iterator[str]:
    """Yields the metadata of a cluster that has no effect here."""
    for name, struct in cluster.metadata.filter_metadata.items():
        if name != _OURS:
            yield f"metadata.filter_metadata.{name}"
        else:
            yield from (f"metadata.filter_metadata.{name}.{key}" for key in struct.fields if key not in _OUR_KEYS)
    for name in cluster.metadata.typed_filter_metadata:
        yield f"metadata.typed_filter_metadata.{name}"


def _by_enum(cluster: Any) -> LbConfig:
    """A27: localities by weight, then the policy in each; hashing policies (A42) look over all localities at once."""
    warm_up: SlowStart | None = None
    weighted = True
    policy: EndpointPolicy
    if cluster.lb_policy == _Cluster.ROUND_ROBIN:
        policy = RoundRobin()
        warm_up = slow_start(cluster.round_robin_lb_config, "round_robin_lb_config")
    elif cluster.lb_policy == _Cluster.LEAST_REQUEST:
        policy = least_request(cluster.least_request_lb_config, "least_request_lb_config")
        warm_up = slow_start(cluster.least_request_lb_config, "least_request_lb_config")
    elif cluster.lb_policy == _Cluster.RANDOM:
        policy = RandomChoice()
    elif cluster.lb_policy == _Cluster.RING_HASH:
        config = cluster.ring_hash_lb_config
        xx_hash = config.hash_function == _Cluster.RingHashLbConfig.XX_HASH
        policy, weighted = ring_hash(config, "ring_hash_lb_config", xx_hash=xx_hash), False
    elif cluster.lb_policy == _Cluster.MAGLEV:
        policy, weighted = maglev(cluster.maglev_lb_config, "maglev_lb_config"), False
    else:
        raise FieldError("lb_policy", f"{_name(cluster.lb_policy)} is not supported without load_balancing_policy")
    return LbConfig(policy=policy, locality_weighted=weighted, slow_start=warm_up)


def _name(number: int) -> str:
    known = _Cluster.LbPolicy.DESCRIPTOR.values_by_number.get(number)
    return known.name if known else str(number)


def _with_shared_settings(shared: Any, config: LbConfig) -> LbConfig:
    if shared.HasField("healthy_panic_threshold"):
        threshold = share(shared.healthy_panic_threshold, "common_lb_config.healthy_panic_threshold")
        config = replace(config, panic_threshold=threshold)
    if health_check_pb2.DRAINING in shared.override_host_status.statuses:  # A55: healthy ones always, others never
        config = replace(config, draining_sessions=True)
    if shared.HasField("locality_weighted_lb_config"):
        return replace(config, locality_weighted=True)
    if shared.HasField("zone_aware_lb_config"):
        return replace(config, zone_preference=True)
    return config


def _from_metadata(cluster: Any, config: LbConfig) -> LbConfig:
    if _OURS not in cluster.metadata.filter_metadata:
        return config
    path = f"metadata.filter_metadata.{_OURS}"
    fields = cluster.metadata.filter_metadata[_OURS].fields
    if "subset_size" in fields:
        size = fields["subset_size"].number_value  # 0.0 for every other kind
        if size != size // 1 or not 1 <= size <= UINT32_MAX:
            raise FieldError(f"{path}.subset_size", f"must be a whole number of 1 or more, is {shown(size)}")
        config = replace(config, subset_size=int(size))
    if "zone_preference" in fields:
        if fields["zone_preference"].WhichOneof("kind") != "bool_value":
            raise FieldError(f"{path}.zone_preference", "must be true or false")
        config = replace(config, zone_preference=fields["zone_preference"].bool_value)
    return config
