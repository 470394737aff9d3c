"""Load balancing of a cluster: the policy its rule names, in a form that every client can use. Pure.

ROUND_ROBIN and ring hash go out as the plain `lb_policy`, which is what all clients know (gRFC A27, A42). The others
are a list of `load_balancing_policy` extensions of which a client takes the first it knows (A52), ending in round
robin: a client that cannot do LEAST_REQUEST then still works, where the enum would make it refuse the cluster.

Learnt from the clients (tests/e2e/test_translated_policies.py): Envoy refuses `load_balancing_policy` together with
locality settings in `common_lb_config`; grpc-js refuses a typed ring hash that gives its sizes.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3 import (
    client_side_weighted_round_robin_pb2 as weighted_pb2,
)
from envoy.extensions.load_balancing_policies.cluster_provided.v3 import cluster_provided_pb2
from envoy.extensions.load_balancing_policies.common.v3 import common_pb2
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2
from envoy.extensions.load_balancing_policies.maglev.v3 import maglev_pb2
from envoy.extensions.load_balancing_policies.random.v3 import random_pb2
from envoy.extensions.load_balancing_policies.ring_hash.v3 import ring_hash_pb2
from envoy.extensions.load_balancing_policies.round_robin.v3 import round_robin_pb2
from envoy.extensions.load_balancing_policies.wrr_locality.v3 import wrr_locality_pb2
from google.protobuf.wrappers_pb2 import BoolValue, FloatValue, UInt32Value, UInt64Value

from controlplane.model.policy import LoadBalancer
from controlplane.translate.durations import duration
from controlplane.translate.packing import packed
from meshsdk.model.policy import (
    LeastRequest,
    Maglev,
    RandomChoice,
    RingHash,
    RoundRobin,
    SlowStart,
    WeightedRoundRobin,
)

_PREFIX = "envoy.load_balancing_policies."


def apply_load_balancer(cluster: cluster_pb2.Cluster, balancer: LoadBalancer) -> None:
    """Sets the policy of `cluster`, and how it spreads over localities (hashing policies look at all at once, A42)."""
    if isinstance(balancer.policy, RoundRobin):
        _by_enum(cluster, balancer)
    elif isinstance(balancer.policy, RingHash):
        cluster.lb_policy = cluster_pb2.Cluster.RING_HASH
        cluster.ring_hash_lb_config.hash_function = cluster_pb2.Cluster.RingHashLbConfig.XX_HASH
        cluster.ring_hash_lb_config.minimum_ring_size.value = balancer.policy.min_size
        cluster.ring_hash_lb_config.maximum_ring_size.value = balancer.policy.max_size
    else:
        _by_extension(cluster, _candidates(balancer))


def apply_to_aggregate(cluster: cluster_pb2.Cluster, balancer: LoadBalancer) -> None:
    """Sets the policy of an aggregate cluster (gRFC A37), which rules the endpoints of its leaves.

    Envoy wants `cluster_provided` and leaves it to the leaves; gRPC refuses that where it stands alone (A52: it takes
    the first it knows).
    """
    found: list[tuple[str, object]] = [("cluster_provided", cluster_provided_pb2.ClusterProvided())]
    if isinstance(balancer.policy, RingHash):
        ring = ring_hash_pb2.RingHash(hash_function=ring_hash_pb2.RingHash.XX_HASH)
        ring.minimum_ring_size.value = balancer.policy.min_size
        ring.maximum_ring_size.value = balancer.policy.max_size
        found.append(("ring_hash", ring))
    _by_extension(cluster, [*found, *_candidates(balancer)])


def _by_extension(cluster: cluster_pb2.Cluster, candidates: Iterable[tuple[str, object]]) -> None:
    _list(cluster.load_balancing_policy, candidates)


def _list(listed: cluster_pb2.LoadBalancingPolicy, candidates: Iterable[tuple[str, object]]) -> None:
    for name, message in candidates:
        policy = listed.policies.add()
        policy.typed_extension_config.name = _PREFIX + name
        policy.typed_extension_config.typed_config.CopyFrom(packed(message))


def _by_enum(cluster: cluster_pb2.Cluster, balancer: LoadBalancer) -> None:
    cluster.lb_policy = cluster_pb2.Cluster.ROUND_ROBIN
    if balancer.prefer_zone:
        cluster.common_lb_config.zone_aware_lb_config.SetInParent()
    else:
        cluster.common_lb_config.locality_weighted_lb_config.SetInParent()
    if balancer.slow_start:
        cluster.round_robin_lb_config.slow_start_config.CopyFrom(_slow_start(balancer.slow_start))


def _slow_start(value: SlowStart) -> cluster_pb2.Cluster.SlowStartConfig:
    config = cluster_pb2.Cluster.SlowStartConfig(slow_start_window=duration(value.window))
    config.aggression.default_value = value.aggression
    config.aggression.runtime_key = "meshsdk.slow_start.aggression"  # required by Envoy; no runtime layer sets it
    config.min_weight_percent.value = value.min_weight * 100
    return config


def _localities(balancer: LoadBalancer) -> common_pb2.LocalityLbConfig:
    config = common_pb2.LocalityLbConfig()
    if balancer.prefer_zone:
        config.zone_aware_lb_config.SetInParent()
    else:
        config.locality_weighted_lb_config.SetInParent()
    return config


def _candidates(balancer: LoadBalancer) -> list[tuple[str, object]]:
    """Returns (name, configuration) of the policies to try, best first."""
    policy = balancer.policy
    found: list[tuple[str, object]] = []
    plain = ("round_robin", round_robin_pb2.RoundRobin())
    if isinstance(policy, LeastRequest):
        config = least_request_pb2.LeastRequest(
            choice_count=UInt32Value(value=policy.choices), locality_lb_config=_localities(balancer)
        )
        if balancer.slow_start:
            _warm_up(config.slow_start_config, balancer.slow_start)
        found.append(("least_request", config))
    elif isinstance(policy, RandomChoice):
        found.append(("random", random_pb2.Random(locality_lb_config=_localities(balancer))))
    elif isinstance(policy, WeightedRoundRobin):
        own = _weighted(policy, balancer.slow_start)
        name = "client_side_weighted_round_robin"
        # grpc-js (1.14) has none, and refuses a list of localities' policies in which it knows no policy.
        found.append(("wrr_locality", _in_localities((name, own), plain)))
        found.append((name, own))
    elif isinstance(policy, Maglev):
        found.append(("maglev", maglev_pb2.Maglev(table_size=UInt64Value(value=policy.table_size))))
        ring = ring_hash_pb2.RingHash(hash_function=ring_hash_pb2.RingHash.XX_HASH)
        found.append(("ring_hash", ring))  # gRPC has no maglev; it can keep the affinity
    # Weighted localities for gRPC, where round_robin alone knows nothing of them; Envoy takes the plain one.
    return [*found, ("wrr_locality", _in_localities(plain))]


def _in_localities(*candidates: tuple[str, object]) -> wrr_locality_pb2.WrrLocality:
    """Returns the policy that chooses a locality by its weight, and an endpoint in it by the first policy known."""
    children = cluster_pb2.LoadBalancingPolicy()
    _list(children, candidates)
    return wrr_locality_pb2.WrrLocality(endpoint_picking_policy=children)


def _weighted(policy: WeightedRoundRobin, slow_start: SlowStart | None) -> weighted_pb2.ClientSideWeightedRoundRobin:
    """Returns weights by reported load (gRFC A58)."""
    message = weighted_pb2.ClientSideWeightedRoundRobin(
        enable_oob_load_report=BoolValue(value=policy.out_of_band),
        blackout_period=duration(policy.blackout),
        weight_expiration_period=duration(policy.expiration),
        weight_update_period=duration(policy.update_period),
        error_utilization_penalty=FloatValue(value=policy.error_penalty),
    )
    if policy.out_of_band:
        message.oob_reporting_period.CopyFrom(duration(policy.oob_period))
    if slow_start:
        _warm_up(message.slow_start_config, slow_start)
    return message


def _warm_up(config: common_pb2.SlowStartConfig, value: SlowStart) -> None:
    config.slow_start_window.CopyFrom(duration(value.window))
    config.aggression.default_value = value.aggression
    config.aggression.runtime_key = "meshsdk.slow_start.aggression"  # as in _slow_start
    config.min_weight_percent.value = value.min_weight * 100
