"""The RDS resource of a service, as one view sees it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from envoy.config.route.v3 import route_components_pb2 as route_pb2
from envoy.config.route.v3 import route_pb2 as configuration_pb2
from google.protobuf.wrappers_pb2 import UInt32Value

from controlplane.model.configuration import Configuration
from controlplane.model.policy import TrafficPolicy
from controlplane.model.traffic import CallMatch, Destination, HttpRoute, Retries
from controlplane.translate.durations import duration
from controlplane.translate.matches import route_match
from controlplane.translate.units import Branch, branches
from controlplane.translate.view import View, visible
from meshsdk.model.matching import PathKind, PathMatch
from meshsdk.model.policy import HashHeader

_UNAVAILABLE = 503  # HTTP status, which Envoy answers as the gRPC status UNAVAILABLE
_EVERY_CALL = CallMatch("", PathMatch(PathKind.PREFIX, "/"))


def route_configuration(host: str, configuration: Configuration, view: View) -> configuration_pb2.RouteConfiguration:
    """Returns the routes of `host`; without a VirtualService one rule, to `host`."""
    service = configuration.virtual_services.get(host)
    entry = configuration.services.get(host)
    default = (HttpRoute("", (), (Destination(host, "", 100),)),)
    routes = service.routes if service else default
    # "*": this resource is asked for by the name of its service, whatever the authority of the call.
    ports = [f"{host}:{port.number}" for port in entry.ports] if entry else []
    virtual_host = route_pb2.VirtualHost(
        name=host,
        domains=[host, *ports, "*"],
        routes=[message for route in routes for message in _alternatives(route, configuration, view)],
    )
    return configuration_pb2.RouteConfiguration(name=host, virtual_hosts=[virtual_host])


def _alternatives(route: HttpRoute, configuration: Configuration, view: View) -> Iterator[route_pb2.Route]:
    """Yields the wire routes of those alternative matches that the view can see: for each, one a way that calls go."""
    ways = branches(route.destinations, configuration, view)
    actions = [None if way.refusal else _action(route, way, configuration) for way in ways]
    for match in route.matches or (_EVERY_CALL,):
        if not visible(match, view):
            continue
        name = ".".join(part for part in (route.name, match.name) if part)
        for way, action in zip(ways, actions, strict=True):
            message = route_pb2.Route(name=name, match=route_match(match, way.test))
            if action is None:
                _refuse(message, way.refusal, view)
            else:
                message.route.CopyFrom(action)
            yield message


def _refuse(message: route_pb2.Route, words: str, view: View) -> None:
    """Has calls fail UNAVAILABLE, with the words where the client can say them: meshsdk and Envoy.

    Stock gRPC fails calls of a `non_forwarding_action` (gRFC A36); some of its languages refuse a `direct_response`.
    """
    if view.request_fields:
        message.direct_response.status = _UNAVAILABLE
        message.direct_response.body.inline_string = words
    else:
        message.non_forwarding_action.SetInParent()


def _action(route: HttpRoute, way: Branch, configuration: Configuration) -> route_pb2.RouteAction:
    # Envoy caps a route at 15 s unless told otherwise; gRPC has no cap. 0 s means none to both.
    action = route_pb2.RouteAction(timeout=duration(route.timeout or 0.0))
    if route.timeout:
        action.max_stream_duration.max_stream_duration.CopyFrom(duration(route.timeout))  # gRFC A31
    if len(way.shares) == 1:
        action.cluster = way.shares[0][0]
    else:
        for name, weight in way.shares:
            action.weighted_clusters.clusters.add(name=name, weight=UInt32Value(value=weight))
    if route.retries and route.retries.attempts:  # gRFC A44: num_retries 0 is not valid
        action.retry_policy.CopyFrom(_retry_policy(route.retries))
    for header in _hash_headers(route, configuration):
        action.hash_policy.add(header=route_pb2.RouteAction.HashPolicy.Header(header_name=header.name))
    return action


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
    return policy


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
