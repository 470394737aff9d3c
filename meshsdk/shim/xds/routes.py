"""The routes of the outbound listener: one virtual host for each target, with the control plane's own routes in it.

Passing on the bytes of the virtual host that was resolved keeps what Envoy honours and the SDK does not. What differs:
a route without a timeout has none (gRPC's meaning; Envoy's is 15 s), a request that never left the machine is sent to
another endpoint, and routes that need a filter with the application's message types are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as manager_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2

from meshsdk.model.resources import Forward, VirtualHost
from meshsdk.shim.xds.clusters import packed

OUTBOUND = "outbound"  # the name of the route configuration, and of the listener
# None of these says that the other side may have begun to work on the request.
_UNSENT = ("connect-failure", "refused-stream", "reset-before-request")
_MOVES = 3  # to another endpoint
_UNAVAILABLE = 503  # which Envoy answers to a gRPC call as the status UNAVAILABLE
_LONGEST = 400  # characters of an explanation


@dataclass(frozen=True, slots=True)
class Reached:
    """A target with routes. `raw`: the serialised RouteConfiguration that holds `host`, b"" for a `mesh:` target.

    `max_duration`: the listener's cap on calls in seconds (gRFC A31), for routes that set none.
    """

    name: str
    host: VirtualHost
    raw: bytes
    max_duration: float | None


@dataclass(frozen=True, slots=True)
class Unreached:
    """A target that cannot be called, and why."""

    name: str
    problem: str


def routes(targets: Iterable[Reached | Unreached]) -> tuple[bytes, list[str]]:
    """Returns the serialised RouteConfiguration `outbound`, and what of the given routes has no effect here.

    A target is called by its name as the host, whatever the port; the first target of a name counts.
    """
    message = route_pb2.RouteConfiguration(name=OUTBOUND, ignore_port_in_host_matching=True)
    ignored: list[str] = []
    taken: set[str] = set()
    for target in targets:
        host = message.virtual_hosts.add()
        if isinstance(target, Reached):
            host.CopyFrom(_reached(target, ignored))
        else:
            _answer(host.routes.add(), target.problem)
        domains = [name for name in _domains(target, host.domains) if name not in taken]
        taken.update(domains)
        host.name = target.name
        del host.domains[:]
        host.domains.extend(domains)
        if not domains:
            ignored.append(f"{target.name}: another target has the same name")
            del message.virtual_hosts[-1]
    other = message.virtual_hosts.add(name="*", domains=["*"])
    _answer(other.routes.add(), "this shim has no target of that name; start it with --target")
    data: bytes = message.SerializeToString(deterministic=True)
    return data, ignored


def inlined_routes(listener: bytes) -> bytes | None:
    """Returns the serialised RouteConfiguration inside a serialised Listener with an api_listener; None without one."""
    packed_manager = listener_pb2.Listener.FromString(listener).api_listener.api_listener
    manager = manager_pb2.HttpConnectionManager.FromString(packed_manager.value)
    data: bytes | None = manager.route_config.SerializeToString() if manager.HasField("route_config") else None
    return data


def _domains(target: Reached | Unreached, given: Collection[str]) -> list[str]:
    """The target's name, and other exact names that the control plane gives its virtual host."""
    exact = [one.rpartition(":")[0] or one for one in given if "*" not in one and not one.startswith("[")]
    return list(dict.fromkeys([target.name, *exact]))


def _reached(target: Reached, ignored: list[str]) -> route_components_pb2.VirtualHost:
    if not target.raw:
        return _direct(target.host)
    configuration = route_pb2.RouteConfiguration.FromString(target.raw)
    found = next(one for one in configuration.virtual_hosts if tuple(one.domains) == target.host.domains)
    kept = []
    for route in found.routes:
        if route.match.dynamic_metadata:
            ignored.append(f"{target.name}: route {route.name!r} on request fields, which a proxy does not decode")
            continue
        _adapt(route, target.max_duration)
        kept.append(route)
    del found.routes[:]
    found.routes.extend(kept)
    return found


def _direct(host: VirtualHost) -> route_components_pb2.VirtualHost:
    """The one route of a `mesh:` target (`xds_client.direct`)."""
    message = route_components_pb2.VirtualHost(name=host.name)
    for route in host.routes:
        if isinstance(route.action, Forward):
            added = message.routes.add()
            added.match.prefix = "/"
            added.route.cluster = route.action.clusters[0].name
            _adapt(added, None)
    return message


def _adapt(route: route_components_pb2.Route, max_duration: float | None) -> None:
    if route.WhichOneof("action") != "route":
        return
    action = route.route
    if not action.HasField("timeout"):
        action.timeout.SetInParent()  # none
    if max_duration and not action.HasField("max_stream_duration"):
        action.max_stream_duration.max_stream_duration.FromNanoseconds(round(max_duration * 1e9))
    policy = action.retry_policy
    conditions = [one for one in policy.retry_on.split(",") if one]
    if not conditions:
        policy.num_retries.value = _MOVES
    policy.retry_on = ",".join(dict.fromkeys([*conditions, *_UNSENT]))
    if not policy.retry_host_predicate:
        name = "envoy.retry_host_predicates.previous_hosts"
        policy.retry_host_predicate.add(name=name, typed_config=packed(previous_hosts_pb2.PreviousHostsPredicate()))
        policy.host_selection_retry_max_attempts = _MOVES


def _answer(route: route_components_pb2.Route, words: str) -> None:
    route.match.prefix = "/"
    route.direct_response.status = _UNAVAILABLE
    route.direct_response.body.inline_string = f"meshsdk shim: {words[:_LONGEST]}"
