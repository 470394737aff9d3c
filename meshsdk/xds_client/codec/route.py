"""RouteConfiguration -> `model.resources.RouteConfiguration`. Called by `decoding` (RDS) and `listener` (inlined).

Specs: gRFC A27 and A28 (virtual hosts, routes, what is skipped), A31, A42, A44, A39 (filter overrides). Routes that no
call of ours can take are skipped as A28 says and listed in `ignored`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from envoy.config.route.v3 import route_pb2

from meshsdk.model.resources import Filters, Forward, NoForward, Route, RouteConfiguration, VirtualHost
from meshsdk.xds_client.codec import action, hashing, inheritance, matching
from meshsdk.xds_client.codec.http_filters import overrides
from meshsdk.xds_client.codec.ignored import Honoured, unhonoured
from meshsdk.xds_client.codec.inheritance import Level
from meshsdk.xds_client.codec.refusal import FieldError, shown
from meshsdk.xds_client.codec.values import parsed

_ROUTE: Honoured = {
    "name": None,
    "match": matching.HONOURED,
    "route": action.HONOURED,
    "redirect": None,  # NoForward, like the two below
    "direct_response": None,
    "filter_action": None,
    "non_forwarding_action": None,
    "stat_prefix": None,  # names a statistic
    "typed_per_filter_config": None,
    **inheritance.EDITS,
}
_HONOURED: Honoured = {
    "name": None,
    "virtual_hosts": {
        "name": None,
        "domains": None,
        "routes": _ROUTE,
        "typed_per_filter_config": None,
        **inheritance.HOST,
    },
    "validate_clusters": None,  # for the server that made the resource
    "cluster_specifier_plugins": None,
    "typed_per_filter_config": None,
    **inheritance.CONFIGURATION,
}
_HOSTS = "virtual_hosts"
_ROUTES = "virtual_hosts.routes"
_OVERRIDES = "typed_per_filter_config"


def decode(raw: bytes) -> RouteConfiguration:
    """Returns a serialised RouteConfiguration; raises `FieldError`."""
    return from_message(parsed(route_pb2.RouteConfiguration, raw))


def from_message(message: Any) -> RouteConfiguration:
    """Returns an envoy.config.route.v3.RouteConfiguration; raises `FieldError`."""
    noted = set(unhonoured(message, _HONOURED))
    _check_plugins(message, noted)
    level = inheritance.of_configuration(message, noted)
    everywhere = overrides(message.typed_per_filter_config, _OVERRIDES, noted, _OVERRIDES)
    hosts = tuple(
        _virtual_host(host, level, everywhere, f"{_HOSTS}[{i}]", noted) for i, host in enumerate(message.virtual_hosts)
    )
    return RouteConfiguration(message.name, hosts, tuple(sorted(noted)))


def _virtual_host(host: Any, level: Level, everywhere: Filters, path: str, noted: set[str]) -> VirtualHost:
    """Returns one virtual host; `level` and `everywhere` are what the configuration says, of calls and of filters."""
    for i, domain in enumerate(host.domains):
        _check_domain(domain, f"{path}.domains[{i}]")
    if not host.domains:
        raise FieldError(f"{path}.domains", "is empty")
    own = overrides(host.typed_per_filter_config, f"{path}.{_OVERRIDES}", noted, f"{_HOSTS}.{_OVERRIDES}")
    level = inheritance.of_host(host, level, path, noted, _HOSTS)
    routes = (_route(route, level, f"{path}.routes[{i}]", noted) for i, route in enumerate(host.routes))
    return VirtualHost(
        host.name,
        tuple(host.domains),
        tuple(route for route in routes if route is not None),
        MappingProxyType({**everywhere, **own}) if everywhere else own,
    )


def _check_domain(domain: str, path: str) -> None:
    """Refuses what is none of exact, `*suffix`, `prefix*` and `*` (A27)."""
    if not domain or "*" in domain[1:-1] or (len(domain) > 1 and domain[0] == domain[-1] == "*"):
        raise FieldError(path, f"{shown(domain)} is not a domain, *suffix, prefix* or *")


def _route(route: Any, level: Level, path: str, noted: set[str]) -> Route | None:
    """Returns one route, None if A28 has it skipped."""
    if not route.HasField("match"):
        raise FieldError(f"{path}.match", "is not set")
    if any(len(getattr(route.match, name)) for name in matching.NEVER_MET):
        return None  # `unhonoured` has listed the field
    match = matching.route_match(route.match, f"{path}.match")
    filters = overrides(route.typed_per_filter_config, f"{path}.{_OVERRIDES}", noted, f"{_ROUTES}.{_OVERRIDES}")
    does = _action(route, level, path, noted)
    return Route(route.name, match, does, filters) if does else None


def _action(route: Any, level: Level, path: str, noted: set[str]) -> Forward | NoForward | None:
    kind = route.WhichOneof("action")
    if kind != "route":
        return action.no_forward(kind, route.direct_response.body.inline_string)
    skipped_for = action.unsupported_specifier(route.route)
    if skipped_for:
        noted.add(f"{_ROUTES}.route.{skipped_for}")
        return None
    if not action.timeout_counts(route.route):
        noted.add(f"{_ROUTES}.route.timeout")
    noted.update(f"{_ROUTES}.route.hash_policy.{one}" for one in hashing.unhonoured_policies(route.route.hash_policy))
    level = level.edited(route, f"{path}.", noted, f"{_ROUTES}.")
    return action.forward(route.route, level, f"{path}.route", noted, f"{_ROUTES}.route")


def _check_plugins(message: Any, noted: set[str]) -> None:
    """Refuses cluster specifier plugins, of which none is known here, unless optional; routes to those are skipped."""
    names = set()
    for i, plugin in enumerate(message.cluster_specifier_plugins):
        if not plugin.is_optional:
            what = shown(plugin.extension.name)
            raise FieldError(f"cluster_specifier_plugins[{i}]", f"{what} is not supported, and it is not optional")
        names.add(plugin.extension.name)
        noted.add("cluster_specifier_plugins")
    for i, host in enumerate(message.virtual_hosts):
        for j, route in enumerate(host.routes):
            name = route.route.cluster_specifier_plugin
            if name and name not in names:
                where = f"{_HOSTS}[{i}].routes[{j}].route.cluster_specifier_plugin"
                raise FieldError(where, f"{shown(name)} is not in cluster_specifier_plugins")
