"""What a route does with a call: cluster, time, retries, hedging, copies, hashing. Pure; used by `routes`.

Stock gRPC reads cluster, `max_stream_duration`, retries and header hashing (gRFC A28, A31, A42, A44) and goes past the
rest; Envoy reads all of it.
"""

from __future__ import annotations

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2 as route_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from controlplane.model.call_policy import CallParts
from controlplane.model.configuration import Configuration
from controlplane.model.policy import TrafficPolicy
from controlplane.model.traffic import HeaderEdits, HttpRoute, Retries
from controlplane.translate.durations import duration
from controlplane.translate.header_edits import apply_edits
from controlplane.translate.packing import fixed_fraction, packed
from controlplane.translate.units import Branch, own_cluster
from controlplane.translate.view import View
from meshsdk.model.policy import HashHeader, Hedging

# What Envoy itself makes of a server that cannot be reached or is lost, where gRPC says UNAVAILABLE.
_LOST = ("connect-failure", "refused-stream", "reset")
_DRAWS = 5  # of an endpoint that the call has not tried, before any is taken; as Istio has it


def route_action(
    route: HttpRoute, way: Branch, parts: CallParts, configuration: Configuration, view: View
) -> route_pb2.RouteAction:
    """Returns the action of a route for the calls of one `way`.

    Args:
        route: the rule.
        way: the clusters with their weights, one for each destination of the rule.
        parts: what CallPolicies say of these calls. `retries` of the rule stand over their hedging.
        configuration: all of it.
        view: the caller.
    """
    # Envoy caps a route at 15 s unless told otherwise; gRPC has no cap. 0 s means none to both.
    action = route_pb2.RouteAction(timeout=duration(route.timeout or 0.0))
    if route.timeout:
        action.max_stream_duration.max_stream_duration.CopyFrom(duration(route.timeout))  # gRFC A31
    _send(action, route, way)
    if route.retries and route.retries.attempts:  # gRFC A44: num_retries 0 is not valid
        action.retry_policy.CopyFrom(_retry_policy(route.retries))
    elif parts.hedging and not route.retries:
        _hedge(action, parts.hedging)
    for mirror in route.mirrors:
        copies = action.request_mirror_policies.add(cluster=own_cluster(mirror.destination, configuration, view))
        copies.runtime_fraction.CopyFrom(fixed_fraction(mirror.share))
    if parts.high_priority:
        action.priority = base_pb2.RoutingPriority.HIGH
    for header in _hash_headers(route, configuration):
        action.hash_policy.add(header=route_pb2.RouteAction.HashPolicy.Header(header_name=header.name))
    return action


def _send(action: route_pb2.RouteAction, route: HttpRoute, way: Branch) -> None:
    if len(way.shares) == 1 and route.destinations[0].headers == HeaderEdits():
        action.cluster = way.shares[0][0]
        return
    for (name, weight), destination in zip(way.shares, route.destinations, strict=True):
        cluster = action.weighted_clusters.clusters.add(name=name, weight=UInt32Value(value=weight))
        apply_edits(cluster, destination.headers)


def _retry_policy(retries: Retries) -> route_pb2.RetryPolicy:
    codes = [int(condition) for condition in retries.retry_on if condition.isdigit()]
    names = [condition for condition in retries.retry_on if not condition.isdigit()]
    if codes and "retriable-status-codes" not in names:
        names.append("retriable-status-codes")
    policy = route_pb2.RetryPolicy(
        retry_on=",".join(names), num_retries=UInt32Value(value=retries.attempts), retriable_status_codes=codes
    )
    if retries.per_try_timeout is not None:
        policy.per_try_timeout.CopyFrom(duration(retries.per_try_timeout))
    if retries.backoff is not None:
        policy.retry_back_off.base_interval.CopyFrom(duration(retries.backoff))
    if retries.avoid_previous:
        predicate = policy.retry_host_predicate.add(name="envoy.retry_host_predicates.previous_hosts")
        predicate.typed_config.CopyFrom(packed(previous_hosts_pb2.PreviousHostsPredicate()))
        policy.host_selection_retry_max_attempts = _DRAWS
    return policy


def _hedge(action: route_pb2.RouteAction, hedging: Hedging) -> None:
    """Writes gRFC A6 hedging as Envoy has it: each `per_try_timeout` one more attempt, and none is given up.

    Stock gRPC reads plain retries on the same statuses.
    """
    action.hedge_policy.hedge_on_per_try_timeout = True
    policy = action.retry_policy
    names = {name.lower().replace("_", "-") for name in hedging.non_fatal}
    policy.retry_on = ",".join(sorted(names | set(_LOST if "unavailable" in names else ())))
    policy.num_retries.value = hedging.max_attempts - 1
    policy.per_try_timeout.CopyFrom(duration(hedging.delay))


def _hash_headers(route: HttpRoute, configuration: Configuration) -> list[HashHeader]:
    """Returns what the destinations' policies hash, each once, in the order of the destinations."""
    found: dict[HashHeader, None] = {}
    for destination in route.destinations:
        rule = configuration.rules.get(destination.host)
        if rule is None:
            continue
        subset = rule.subset(destination.subset)
        policy: TrafficPolicy = subset.policy.over(rule.policy) if subset else rule.policy
        if policy.load_balancer and policy.load_balancer.hash_header:
            found[policy.load_balancer.hash_header] = None
    return list(found)
