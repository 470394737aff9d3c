"""The routes that the shim's Envoy gets: the control plane's own, with what differs for a proxy on this machine."""

from __future__ import annotations

from envoy.config.route.v3 import route_pb2
from google.protobuf import json_format

from meshsdk.model.matching import PathKind, PathMatch, RouteMatch
from meshsdk.model.resources import Forward, Route, VirtualHost, WeightedCluster
from meshsdk.shim.xds.routes import Reached, Unreached, inlined_routes, routes
from tests.unit.xds_client.codec import messages

_MATCH = RouteMatch(PathMatch(PathKind.PREFIX, ""))


def reached(name: str, *wire_routes: dict, domains: tuple[str, ...] = ("*",), **fields: object) -> Reached:
    """A target whose RDS resource has these routes, and a virtual host for others beside them."""
    hosts = [
        {"name": "others", "domains": ["others"], "routes": [{"match": {"prefix": "/"}, "redirect": {}}]},
        {"name": name, "domains": domains, "routes": wire_routes},
    ]
    raw = json_format.ParseDict({"name": name, "virtualHosts": hosts}, route_pb2.RouteConfiguration())
    host = VirtualHost(name, domains, ())
    return Reached(name, host, raw.SerializeToString(), **{"max_duration": None, **fields})


def parsed(*targets: Reached | Unreached) -> tuple[dict, list[str]]:
    """Returns the virtual hosts by name as JSON, and what has no effect."""
    raw, ignored = routes(targets)
    message = json_format.MessageToDict(route_pb2.RouteConfiguration.FromString(raw))
    assert message["ignorePortInHostMatching"] is True
    return {one["name"]: one for one in message["virtualHosts"]}, ignored


def to(cluster: str, **action: object) -> dict:
    """A route for every call."""
    return {"match": {"prefix": "/"}, "route": {"cluster": cluster, **action}}


def test_routes_are_passed_on() -> None:
    """What the SDK does not honour itself, such as a mirror, reaches Envoy; the host is called by the target's name."""
    mirror = {"requestMirrorPolicies": [{"cluster": "shadow"}]}
    hosts, ignored = parsed(
        reached("orders", to("orders|v1", **mirror), domains=("orders", "orders:50051", "shop", "*"))
    )
    (route,) = hosts["orders"]["routes"]
    assert route["route"]["cluster"] == "orders|v1"
    assert route["route"]["requestMirrorPolicies"][0]["cluster"] == "shadow"
    assert hosts["orders"]["domains"] == ["orders", "shop"]
    assert ignored == []


def test_timeouts_mean_what_they_mean_to_grpc() -> None:
    """A route without a timeout has none, one with a timeout keeps it, and the listener's cap counts where none is."""
    hosts, _ = parsed(
        reached("a", to("a"), to("a", timeout="3s", maxStreamDuration={"maxStreamDuration": "3s"}), max_duration=5.0)
    )
    first, second = (one["route"] for one in hosts["a"]["routes"])
    assert first["timeout"] == "0s"
    assert first["maxStreamDuration"] == {"maxStreamDuration": "5s"}
    assert second["timeout"] == "3s"
    assert second["maxStreamDuration"] == {"maxStreamDuration": "3s"}


def test_a_request_that_never_left_is_sent_elsewhere() -> None:
    """Every route moves such requests to another endpoint; the retries that the control plane allows stay."""
    hosts, _ = parsed(reached("a", to("a"), to("a", retryPolicy={"retryOn": "unavailable", "numRetries": 7})))
    plain, own = (one["route"]["retryPolicy"] for one in hosts["a"]["routes"])
    assert plain["retryOn"] == "connect-failure,refused-stream,reset-before-request"
    assert plain["numRetries"] == 3
    assert own["retryOn"] == "unavailable,connect-failure,refused-stream,reset-before-request"
    assert own["numRetries"] == 7
    assert plain["retryHostPredicate"][0]["name"] == "envoy.retry_host_predicates.previous_hosts"


def test_routes_on_request_fields_are_left_out_and_named() -> None:
    """A proxy without the message types cannot decide them: it would take the rule for every call."""
    matched = {"filter": "f", "path": [{"key": "tier"}], "value": {"stringMatch": {"exact": "gold"}}}
    gold = {"name": "gold", **to("a|gold"), "match": {"prefix": "/", "dynamicMetadata": [matched]}}
    hosts, ignored = parsed(reached("a", gold, to("a")))
    assert [one["route"]["cluster"] for one in hosts["a"]["routes"]] == ["a"]
    assert "'gold' on request fields" in ignored[0]


def test_a_direct_target_has_one_route() -> None:
    """A `mesh:` target, which has no RDS resource, goes to its cluster."""
    route = Route("all", _MATCH, Forward((WeightedCluster("mesh://default/stock", 1),)))
    hosts, _ = parsed(Reached("stock", VirtualHost("stock", ("*",), (route,)), b"", None))
    assert hosts["stock"]["routes"][0]["route"]["cluster"] == "mesh://default/stock"


def test_what_cannot_be_reached_says_why() -> None:
    """A target that cannot be resolved, and every other host, is answered 503 with the reason."""
    hosts, ignored = parsed(Unreached("gone", "there is no listener"), reached("gone", to("x")))
    answer = hosts["gone"]["routes"][0]["directResponse"]
    assert answer["status"] == 503
    assert "there is no listener" in answer["body"]["inlineString"]
    assert "--target" in hosts["*"]["routes"][0]["directResponse"]["body"]["inlineString"]
    assert ignored == ["gone: another target has the same name"]


def test_routes_inside_a_listener() -> None:
    """A control plane may put the routes into the listener."""
    inline = {"name": "inline", "virtual_hosts": [{"name": "h", "domains": ["*"]}]}
    found = route_pb2.RouteConfiguration.FromString(
        inlined_routes(messages.listener(messages.manager(rds=None, route_config=inline)))
    )
    assert found.name == "inline"
