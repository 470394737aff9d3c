"""CDS: how a cluster's calls are spread, by enum and by extension (gRFC A42, A48, A52, A62)."""

from __future__ import annotations

from typing import Any

import pytest

from meshsdk.errors import InvalidResource
from meshsdk.model.policy import (
    EndpointPolicy,
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
from meshsdk.model.resources import Cluster, Kind
from meshsdk.xds_client.codec import decode
from tests.unit.xds_client.codec.messages import Json, cluster, lb_policy

ROUND_ROBIN = lb_policy("round_robin.v3.RoundRobin")
INNER = "load_balancing_policy.policies[1].endpoint_picking_policy"
STRUCT = "type.googleapis.com/xds.type.v3.TypedStruct"
UNKNOWN: Json = {"typed_extension_config": {"name": "mine", "typed_config": {"@type": STRUCT, "type_url": "x/y"}}}


def decoded(raw: bytes) -> Cluster:
    """Returns a resource that must be accepted."""
    _, resource = decode(Kind.CLUSTER, raw)
    assert isinstance(resource, Cluster)
    return resource


def refusal(raw: bytes) -> str:
    """Returns the text of the NACK after the resource's name."""
    with pytest.raises(InvalidResource) as caught:
        decode(Kind.CLUSTER, raw)
    return str(caught.value).removeprefix("Cluster 'orders': ")


def by_policies(*policies: Json, **fields: Any) -> bytes:
    """Returns a cluster with a load_balancing_policy."""
    return cluster(load_balancing_policy={"policies": list(policies)}, **fields)


def in_localities(*policies: Json) -> Json:
    """Returns a wrr_locality policy around others."""
    return lb_policy("wrr_locality.v3.WrrLocality", endpoint_picking_policy={"policies": list(policies)})


@pytest.mark.parametrize(
    ("fields", "policy", "weighted"),
    [
        ({}, RoundRobin(), True),
        ({"lb_policy": "LEAST_REQUEST"}, LeastRequest(2), True),
        ({"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"choice_count": 4}}, LeastRequest(4), True),
        ({"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"choice_count": 40}}, LeastRequest(10), True),
        ({"lb_policy": "RANDOM"}, RandomChoice(), True),
        ({"lb_policy": "RING_HASH"}, RingHash(), False),
        (
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 5, "maximum_ring_size": 9}},
            RingHash(5, 9),
            False,
        ),
        ({"lb_policy": "MAGLEV"}, Maglev(), False),
        ({"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 251}}, Maglev(251), False),
    ],
)
def test_enum(fields: Json, policy: EndpointPolicy, weighted: bool) -> None:
    """`lb_policy` with its configuration; hashing looks over all localities (A42), the others choose one first."""
    found = decoded(cluster(**fields))
    assert found.lb == LbConfig(policy, locality_weighted=weighted)
    assert found.ignored == ()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"choice_count": 1}},
            "least_request_lb_config.choice_count: 1 is less than 2",
        ),
        (
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"hash_function": "MURMUR_HASH_2"}},
            "ring_hash_lb_config.hash_function: is not supported; only XX_HASH is",
        ),
        (
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 2**23 + 1}},
            "ring_hash_lb_config.minimum_ring_size: 8388609 is not in 1 to 8388608",
        ),
        (
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"maximum_ring_size": 2**23 + 1}},
            "ring_hash_lb_config.maximum_ring_size: 8388609 is not in 1024 (the minimum) to 8388608",
        ),
        (
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"maximum_ring_size": 3}},
            "ring_hash_lb_config.maximum_ring_size: 3 is not in 1024 (the minimum) to 8388608",
        ),
        (
            {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 252}},
            "maglev_lb_config.table_size: 252 is not a prime number of at most 5000011",
        ),
        (
            {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 2**61 - 1}},
            "maglev_lb_config.table_size: 2305843009213693951 is not a prime number of at most 5000011",
        ),
        (
            {"lb_policy": "LOAD_BALANCING_POLICY_CONFIG"},
            "lb_policy: LOAD_BALANCING_POLICY_CONFIG is not supported without load_balancing_policy",
        ),
        (
            {"lb_policy": "CLUSTER_PROVIDED"},
            "lb_policy: CLUSTER_PROVIDED is not supported without load_balancing_policy",
        ),
        ({"lb_policy": 99}, "lb_policy: 99 is not supported without load_balancing_policy"),
    ],
)
def test_enum_refused(fields: Json, words: str) -> None:
    """Policies that are not known here, and sizes out of range, are refused (A42, A48)."""
    assert refusal(cluster(**fields)) == words


WARM: Json = {
    "slow_start_window": "30s",
    "aggression": {"default_value": 2, "runtime_key": "k"},
    "min_weight_percent": {"value": 25},
}


@pytest.mark.parametrize(
    "raw",
    [
        cluster(round_robin_lb_config={"slow_start_config": WARM}),
        cluster(lb_policy="LEAST_REQUEST", least_request_lb_config={"slow_start_config": WARM}),
        by_policies(lb_policy("round_robin.v3.RoundRobin", slow_start_config=WARM)),
        by_policies(lb_policy("least_request.v3.LeastRequest", slow_start_config=WARM)),
    ],
)
def test_slow_start(raw: bytes) -> None:
    """Slow start is read from each of the places that Envoy has for it."""
    found = decoded(raw)
    assert found.lb.slow_start == SlowStart(30.0, 2.0, 0.25)
    assert found.ignored == ()


def test_slow_start_defaults() -> None:
    """A window alone means aggression 1 and a floor of 10 percent."""
    raw = cluster(round_robin_lb_config={"slow_start_config": {"slow_start_window": "1s"}})
    assert decoded(raw).lb.slow_start == SlowStart(1.0, 1.0, 0.1)


@pytest.mark.parametrize(
    ("warm", "words"),
    [
        ({}, "slow_start_window: is not set"),
        ({"slow_start_window": "0s"}, "slow_start_window: must be more than zero"),
        ({**WARM, "aggression": {"default_value": 0}}, "aggression.default_value: 0.0 is not more than zero"),
        ({**WARM, "aggression": {"default_value": "NaN"}}, "aggression.default_value: nan is not more than zero"),
        ({**WARM, "min_weight_percent": {"value": 101}}, "min_weight_percent: 101.0 is not a percentage of 0 to 100"),
    ],
)
def test_slow_start_refused(warm: Json, words: str) -> None:
    """A warm-up that cannot be computed is refused."""
    text = refusal(cluster(round_robin_lb_config={"slow_start_config": warm}))
    assert text == f"round_robin_lb_config.slow_start_config.{words}"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (ROUND_ROBIN, LbConfig(locality_weighted=False)),
        (in_localities(ROUND_ROBIN), LbConfig()),
        (
            lb_policy("round_robin.v3.RoundRobin", locality_lb_config={"locality_weighted_lb_config": {}}),
            LbConfig(),
        ),
        (
            lb_policy("round_robin.v3.RoundRobin", locality_lb_config={"zone_aware_lb_config": {}}),
            LbConfig(locality_weighted=False, zone_preference=True),
        ),
        (in_localities(lb_policy("random.v3.Random")), LbConfig(RandomChoice())),
        (
            lb_policy("least_request.v3.LeastRequest", choice_count=3),
            LbConfig(LeastRequest(3), locality_weighted=False),
        ),
        (
            lb_policy("pick_first.v3.PickFirst", shuffle_address_list=True),
            LbConfig(PickFirst(shuffle=True), locality_weighted=False),
        ),
        (
            lb_policy("ring_hash.v3.RingHash", minimum_ring_size=7, hash_function="XX_HASH"),
            LbConfig(RingHash(7), locality_weighted=False),
        ),
        (
            lb_policy("ring_hash.v3.RingHash", locality_weighted_lb_config={}),
            LbConfig(RingHash(), locality_weighted=True),
        ),
        (lb_policy("maglev.v3.Maglev"), LbConfig(Maglev(), locality_weighted=False)),
    ],
)
def test_extension(policy: Json, expected: LbConfig) -> None:
    """A52: each known policy; localities count where wrr_locality or the policy's own setting says so."""
    found = decoded(by_policies(policy))
    assert found.lb == expected
    assert found.ignored == ()


def test_extension_wins_over_enum() -> None:
    """A52: with load_balancing_policy set, lb_policy does not count, not even one that is unknown."""
    assert decoded(by_policies(ROUND_ROBIN, lb_policy="CLUSTER_PROVIDED")).lb.policy == RoundRobin()


def test_first_known_extension_wins() -> None:
    """A52: unknown policies are passed over and listed; what comes after the first known one does not count."""
    subset = lb_policy("subset.v3.Subset")
    found = decoded(by_policies(UNKNOWN, subset, lb_policy("random.v3.Random"), ROUND_ROBIN))
    assert found.lb.policy == RandomChoice()
    assert found.ignored == (
        "load_balancing_policy.policies.mine",
        "load_balancing_policy.policies.subset.v3.Subset",
    )


BY_LOAD = "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin"


def test_weighted_round_robin_by_load_reports() -> None:
    """A58: the weights of endpoints come from their reports; every setting is taken, the metrics' names are listed."""
    assert decoded(by_policies(in_localities(lb_policy(BY_LOAD)))).lb == LbConfig(WeightedRoundRobin())
    fields = {
        "enable_oob_load_report": True,
        "oob_reporting_period": "4s",
        "blackout_period": "0s",
        "weight_expiration_period": "9s",
        "weight_update_period": "0.01s",
        "error_utilization_penalty": 0.5,
        "metric_names_for_computing_utilization": ["named_metrics.x"],
    }
    found = decoded(by_policies(in_localities(lb_policy(BY_LOAD, **fields))))
    assert found.lb == LbConfig(WeightedRoundRobin(True, 4.0, 0.0, 9.0, 0.1, 0.5))
    assert found.ignored == (
        "load_balancing_policy.ClientSideWeightedRoundRobin.metric_names_for_computing_utilization",
    )


def test_a_negative_penalty_is_refused() -> None:
    """A58: an error must not make an endpoint look idle."""
    text = refusal(by_policies(lb_policy(BY_LOAD, error_utilization_penalty=-1)))
    assert text == "load_balancing_policy.policies[0].error_utilization_penalty: -1.0 is not zero or more"


@pytest.mark.parametrize(
    ("statuses", "stays"), [([], False), (["UNKNOWN", "HEALTHY"], False), (["HEALTHY", "DRAINING", "TIMEOUT"], True)]
)
def test_sessions_of_draining_endpoints(statuses: list[str], stays: bool) -> None:
    """A55: they stay where `override_host_status` has DRAINING; of its other values none makes a difference."""
    found = decoded(cluster(common_lb_config={"override_host_status": {"statuses": statuses}}))
    assert found.lb.draining_sessions is stays
    assert found.ignored == ()


def nested(depth: int) -> Json:
    """Returns round robin inside `depth` - 1 wrr_locality policies."""
    policy = ROUND_ROBIN
    for _ in range(depth - 1):
        policy = in_localities(policy)
    return policy


def test_nesting() -> None:
    """A52: sixteen levels are enough for anyone, seventeen are refused."""
    assert decoded(by_policies(nested(16))).lb == LbConfig()
    assert refusal(by_policies(nested(17))).endswith(".endpoint_picking_policy: is nested more than 16 deep")


@pytest.mark.parametrize(
    ("policies", "words"),
    [
        ([], "load_balancing_policy: names no policy that is known here (named: none)"),
        ([UNKNOWN], "load_balancing_policy: names no policy that is known here (named: mine)"),
        (
            [lb_policy("wrr_locality.v3.WrrLocality")],
            "load_balancing_policy.policies[0].endpoint_picking_policy: is not set",
        ),
        (
            [UNKNOWN, in_localities(UNKNOWN)],
            f"{INNER}: names no policy that is known here (named: mine)",
        ),
        (
            [lb_policy("least_request.v3.LeastRequest", choice_count=1), ROUND_ROBIN],
            "load_balancing_policy.policies[0].choice_count: 1 is less than 2",
        ),
        (
            [lb_policy("ring_hash.v3.RingHash", hash_function="MURMUR_HASH_2")],
            "load_balancing_policy.policies[0].hash_function: is not supported; only XX_HASH is",
        ),
    ],
)
def test_extension_refused(policies: list[Json], words: str) -> None:
    """A52: no known policy, or a known one that is not valid, refuses the cluster; the next one is not tried."""
    assert refusal(by_policies(*policies)) == words


@pytest.mark.parametrize("base", [{}, {"load_balancing_policy": {"policies": [in_localities(ROUND_ROBIN)]}}])
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"common_lb_config": {"healthy_panic_threshold": {"value": 0}}}, LbConfig(panic_threshold=0.0)),
        ({"common_lb_config": {"healthy_panic_threshold": {"value": 25}}}, LbConfig(panic_threshold=0.25)),
        ({"common_lb_config": {"zone_aware_lb_config": {}}}, LbConfig(zone_preference=True)),
        ({"common_lb_config": {"locality_weighted_lb_config": {}}}, LbConfig()),
        ({"metadata": {"filter_metadata": {"meshsdk": {"subset_size": 7}}}}, LbConfig(subset_size=7)),
        ({"metadata": {"filter_metadata": {"meshsdk": {"zone_preference": True}}}}, LbConfig(zone_preference=True)),
    ],
)
def test_shared_settings(base: Json, fields: Json, expected: LbConfig) -> None:
    """Panic threshold, localities and our own metadata count however the policy is named."""
    found = decoded(cluster(**base, **fields))
    assert found.lb == expected
    assert found.ignored == ()


def test_hashing_with_locality_weights() -> None:
    """locality_weighted_lb_config switches the weights on for a hashing policy."""
    raw = cluster(lb_policy="MAGLEV", common_lb_config={"locality_weighted_lb_config": {}})
    assert decoded(raw).lb == LbConfig(Maglev(), locality_weighted=True)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"common_lb_config": {"healthy_panic_threshold": {"value": 101}}},
            "common_lb_config.healthy_panic_threshold: 101.0 is not a percentage of 0 to 100",
        ),
        (
            {"common_lb_config": {"healthy_panic_threshold": {"value": "NaN"}}},
            "common_lb_config.healthy_panic_threshold: nan is not a percentage of 0 to 100",
        ),
        *(
            (
                {"metadata": {"filter_metadata": {"meshsdk": {"subset_size": size}}}},
                f"metadata.filter_metadata.meshsdk.subset_size: must be a whole number of 1 or more, is {given}",
            )
            for size, given in ((0, "0.0"), (1.5, "1.5"), ("many", "0.0"), (1e10, "10000000000.0"))
        ),
        (
            {"metadata": {"filter_metadata": {"meshsdk": {"zone_preference": 1}}}},
            "metadata.filter_metadata.meshsdk.zone_preference: must be true or false",
        ),
    ],
)
def test_shared_settings_refused(fields: Json, words: str) -> None:
    """Settings that mean nothing are refused rather than guessed at."""
    assert refusal(cluster(**fields)) == words
