"""What the control plane writes, the SDK's own codec takes and means the same by: YAML to `meshsdk.model`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.config.documents import parse
from controlplane.config.merge import merge
from controlplane.model.configuration import Configuration
from controlplane.translate.clusters import clusters
from controlplane.translate.listener import listener
from controlplane.translate.roster import load_assignment
from controlplane.translate.routes import route_configuration
from controlplane.translate.targets import targets
from controlplane.translate.view import view_of
from meshsdk.model.endpoints import Health
from meshsdk.model.instance import Instance, InstanceState
from meshsdk.model.matching import Fraction
from meshsdk.model.policy import (
    EndpointPolicy,
    LeastRequest,
    Maglev,
    RandomChoice,
    RingHash,
    RoundRobin,
    SlowStart,
)
from meshsdk.model.resources import Cluster, EdsSource, Forward, Kind, WeightedCluster
from meshsdk.xds_client.codec import decode

HEAD = "apiVersion: networking.istio.io/v1\nkind: {}\nmetadata: {{name: orders}}\nspec:\n"
MATCH = """\
  hosts: [orders]
  http:
  - match:
    - uri: {prefix: /a.B/}
      ignoreUriCase: true
      headers: {x-a: {regex: "a+"}, x-b: {}}
      withoutHeaders: {x-c: {exact: c}, x-d: {}}
      params: {user.tier: {prefix: go}, id: {}}
    timeout: 2s
    retries: {attempts: 2, perTryTimeout: 1s, retryOn: "unavailable,internal", backoff: 50ms}
    route:
    - {destination: {host: orders}, weight: 3}
    - {destination: {host: users}, weight: 1}
"""
SDK = view_of({}, "", "meshsdk")


def configuration(kind: str, spec: str) -> Configuration:
    """Returns the configuration of one resource."""
    return merge(parse(HEAD.format(kind) + spec, "f.yaml")).configuration


def test_match_and_action() -> None:
    """Every condition arrives as the value it was read as; the action keeps weights, cap and retries."""
    found = configuration("VirtualService", MATCH)
    written = found.virtual_services["orders"].routes[0]
    _, decoded = decode(Kind.ROUTE, route_configuration("orders", found, SDK).SerializeToString())
    (route,) = decoded.virtual_hosts[0].routes
    match = written.matches[0]
    assert (route.match.path, set(route.match.headers)) == (match.path, set(match.headers))
    assert (set(route.match.fields), route.match.fraction) == (set(match.params), None)
    action = route.action
    assert isinstance(action, Forward)
    assert action.clusters == (WeightedCluster("orders", 3), WeightedCluster("users", 1))
    assert action.max_duration == 2.0
    assert (action.retry.retry_on, action.retry.num_retries) == (frozenset({"UNAVAILABLE", "INTERNAL"}), 2)
    assert (action.retry.per_try_timeout, action.retry.base_interval) == (1.0, 0.05)
    assert decoded.virtual_hosts[0].domains == ("orders", "*")
    assert not isinstance(route.match.fraction, Fraction)


def cluster(policy: str) -> Cluster:
    """Returns the cluster of a traffic policy as the SDK reads it."""
    found = configuration("DestinationRule", f"  host: orders\n  trafficPolicy: {policy}\n")
    return decode(Kind.CLUSTER, next(iter(clusters("orders", found, SDK))).SerializeToString())[1]


@pytest.mark.parametrize(
    ("text", "policy", "slow_start", "localities"),
    [
        ("{}", RoundRobin(), None, True),
        ("{simple: LEAST_REQUEST}", LeastRequest(), None, True),
        ("{simple: RANDOM}", RandomChoice(), None, True),
        ("{simple: ROUND_ROBIN, warmup: {duration: 9s, aggression: 2}}", RoundRobin(), SlowStart(9.0, 2.0, 0.1), True),
        ("{warmup: {duration: 9s}, simple: LEAST_REQUEST}", LeastRequest(), SlowStart(9.0), True),
        ("{consistentHash: {httpHeaderName: x, ringHash: {minimumRingSize: 64}}}", RingHash(64), None, False),
        ("{consistentHash: {httpHeaderName: x, maglev: {tableSize: 251}}}", Maglev(251), None, False),
    ],
)
def test_load_balancers(text: str, policy: EndpointPolicy, slow_start: SlowStart | None, localities: bool) -> None:
    """Each load balancer is the SDK's, with its warm-up, and hashing policies look at all localities at once."""
    found = cluster(f"{{loadBalancer: {text}}}")
    assert (found.source, found.lb.policy) == (EdsSource("orders"), policy)
    assert (found.lb.slow_start, found.lb.locality_weighted) == (slow_start, localities)


@pytest.mark.parametrize("simple", ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"])
def test_zone_preference(simple: str) -> None:
    """`localityLbSetting: {enabled: true}` makes the SDK prefer its zone."""
    assert cluster(f"{{loadBalancer: {{simple: {simple}, localityLbSetting: {{enabled: true}}}}}}").lb.zone_preference


def test_limits_and_outliers() -> None:
    """What connectionPool and outlierDetection say reaches the SDK's values."""
    found = cluster(
        "{outlierDetection: {consecutive5xxErrors: 7, interval: 3s, minHealthPercent: 20}, "
        "connectionPool: {http: {http2MaxRequests: 9, maxRetries: 2}}}"
    )
    assert (found.outlier.consecutive_5xx, found.outlier.interval, found.lb.panic_threshold) == (7, 3.0, 0.2)
    assert (found.breakers.max_requests, found.breakers.max_retries) == (9, 2)


def test_endpoints() -> None:
    """Weight, health, locality and start of an instance arrive."""
    one = Instance("orders", "1", "10.0.0.1:80", region="eu", zone="a", weight=3, started_at=7.5)
    two = replace(one, id="2", address="[::1]:81", state=InstanceState.DRAINING)
    (target,) = targets("orders", Configuration())
    message = load_assignment(target, [], {"orders": {"1": one, "2": two}})
    _, decoded = decode(Kind.ENDPOINTS, message.value)
    (group,) = decoded.localities
    assert (group.locality.region, group.locality.zone, group.priority, group.weight) == ("eu", "a", 0, 3)
    first, second = group.endpoints.get("10.0.0.1:80"), group.endpoints.get("[::1]:81")
    assert (first.weight, first.health, first.started_at) == (3, Health.HEALTHY, 7.5)
    assert second.health is Health.DRAINING


def test_listener() -> None:
    """The listener points at the routes of its own name."""
    name, decoded = decode(Kind.LISTENER, listener("orders", Configuration()).SerializeToString())
    assert (name, decoded.route_config_name) == ("orders", "orders")
