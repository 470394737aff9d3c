"""The RDS resource of a service, as one view sees it. Pure; what a route does with a call is written by `actions`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from envoy.config.route.v3 import route_components_pb2 as route_pb2
from envoy.config.route.v3 import route_pb2 as configuration_pb2

from controlplane.model.call_policy import CallParts, EffectivePolicy, over
from controlplane.model.configuration import Configuration
from controlplane.model.traffic import CallMatch, Destination, HttpRoute
from controlplane.translate.actions import route_action
from controlplane.translate.call_paths import split
from controlplane.translate.header_edits import apply_edits
from controlplane.translate.http_filters import overrides
from controlplane.translate.matches import route_match
from controlplane.translate.rate_limit_filters import rate_limits
from controlplane.translate.units import Branch, branches
from controlplane.translate.view import View, visible
from meshsdk.model.matching import PathKind, PathMatch

_UNAVAILABLE = 503  # HTTP status, which Envoy answers as the gRPC status UNAVAILABLE
_EVERY_CALL = CallMatch("", PathMatch(PathKind.PREFIX, "/"))


def route_configuration(host: str, configuration: Configuration, view: View) -> configuration_pb2.RouteConfiguration:
    """Returns the routes of `host`; without a VirtualService one rule, to `host`."""
    service = configuration.virtual_services.get(host)
    entry = configuration.services.get(host)
    default = (HttpRoute("", (), (Destination(host, "", 100),)),)
    routes = service.routes if service else default
    calls = configuration.calls_of(host)
    made = _Made(host, configuration, view, calls)
    # "*": this resource is asked for by the name of its service, whatever the authority of the call.
    ports = [f"{host}:{port.number}" for port in entry.ports] if entry else []
    virtual_host = route_pb2.VirtualHost(
        name=host,
        domains=[host, *ports, "*"],
        routes=[message for route in routes for message in made.alternatives(route)],
        rate_limits=rate_limits(calls.parts.descriptors or ()),
    )
    for name, override in overrides(host, calls.parts).items():
        virtual_host.typed_per_filter_config[name].CopyFrom(override)
    return configuration_pb2.RouteConfiguration(name=host, virtual_hosts=[virtual_host])


@dataclass(frozen=True, slots=True)
class _Made:
    """What the wire routes of one service depend on."""

    host: str
    configuration: Configuration
    view: View
    calls: EffectivePolicy

    def alternatives(self, route: HttpRoute) -> Iterator[route_pb2.Route]:
        """Yields the wire routes of those alternative matches that the view can see.

        For each match, one for each part of it that has a policy of its own, and for each of these one a way that
        calls go.
        """
        ways = branches(route.destinations, self.configuration, self.view)
        made: dict[tuple[int, CallParts], route_pb2.Route] = {}  # the keys of a unit policy are tests by the thousand
        for match in route.matches or (_EVERY_CALL,):
            if not visible(match, self.view):
                continue
            name = ".".join(part for part in (route.name, match.name) if part)
            for path, parts in split(match.path, self.calls):
                narrowed = replace(match, path=path)
                for index, way in enumerate(ways):
                    if (index, parts) not in made:
                        made[index, parts] = self._without_match(route, way, parts)
                    message = route_pb2.Route(name=name, match=route_match(narrowed, way.test))
                    message.MergeFrom(made[index, parts])
                    yield message

    def _without_match(self, route: HttpRoute, way: Branch, parts: CallParts) -> route_pb2.Route:
        if way.refusal:
            return _refusal(way.refusal, self.view)
        action = route_action(route, way, over(parts, self.calls.parts), self.configuration, self.view)
        action.rate_limits.extend(rate_limits(parts.descriptors or ()))
        message = route_pb2.Route(route=action)
        for name, override in overrides(self.host, parts, route.fault).items():
            message.typed_per_filter_config[name].CopyFrom(override)
        apply_edits(message, route.headers)
        return message


def _refusal(words: str, view: View) -> route_pb2.Route:
    """Has calls fail UNAVAILABLE, with the words where the client can say them: meshsdk and Envoy.

    Stock gRPC fails calls of a `non_forwarding_action` (gRFC A36); some of its languages refuse a `direct_response`.
    """
    message = route_pb2.Route()
    if view.request_fields:
        message.direct_response.status = _UNAVAILABLE
        message.direct_response.body.inline_string = words
    else:
        message.non_forwarding_action.SetInParent()
    return message
