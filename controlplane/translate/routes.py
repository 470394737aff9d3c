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
from controlplane.translate.names import cluster_name
from controlplane.translate.view import View, visible
from meshsdk.model.matching import PathKind, PathMatch
from meshsdk.model.policy import HashHeader

_EVERY_CALL = CallMatch("", PathMatch(PathKind.PREFIX, "/"))


def route_configuration(host: str, configuration: Configuration, view: View) -> configuration_pb2.RouteConfiguration:
    """Returns the routes of `host`; without a VirtualService one route to the cluster `host`."""
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
    """Yields one wire route for each of the alternative matches that the view can see."""
    action = _action(route, configuration)
    for match in route.matches or (_EVERY_CALL,):
        if visible(match, view):
            name = ".".join(part for part in (route.name, match.name) if part)
            yield route_pb2.Route(name=name, match=route_match(match), route=action)


def _action(route: HttpRoute, configuration: Configuration) -> route_pb2.RouteAction:
    # Envoy caps a route at 15 s unless told otherwise; gRPC has no cap. 0 s means none to both.
    action = route_pb2.RouteAction(timeout=duration(route.timeout or 0.0))
    if route.timeout:
        action.max_stream_duration.max_stream_duration.CopyFrom(duration(route.timeout))  # gRFC A31
    if len(route.destinations) == 1:
        only = route.destinations[0]
        action.cluster = cluster_name(only.host, only.subset)
    else:
        for destination in route.destinations:
            action.weighted_clusters.clusters.add(
                name=cluster_name(destination.host, destination.subset), weight=UInt32Value(value=destination.weight)
            )
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
