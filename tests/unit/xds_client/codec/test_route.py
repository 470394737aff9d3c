"""RDS: virtual hosts, actions and policies (gRFC A27, A28, A31, A39, A42, A44, A81)."""

from __future__ import annotations

from typing import Any

import pytest

from meshsdk.errors import InvalidResource
from meshsdk.model.matching import PathKind, PathMatch, RouteMatch
from meshsdk.model.policy import HashChannelId, HashHeader, RetryPolicy
from meshsdk.model.resources import (
    Forward,
    Kind,
    NoForward,
    Route,
    RouteConfiguration,
    VirtualHost,
    WeightedCluster,
)
from meshsdk.xds_client.codec import decode
from tests.unit.xds_client.codec.messages import EXTENSIONS, Json, host, route_config, to

STRUCT = "type.googleapis.com/xds.type.v3.TypedStruct"
EVERY = RouteMatch(PathMatch(PathKind.PREFIX, ""))
ROUTE = "virtual_hosts[0].routes[0]"


def decoded(raw: bytes) -> RouteConfiguration:
    """Returns a resource that must be accepted."""
    name, resource = decode(Kind.ROUTE, raw)
    assert isinstance(resource, RouteConfiguration)
    assert resource.name == name == "orders"
    return resource


def refusal(raw: bytes) -> str:
    """Returns the text of the NACK after the resource's name."""
    with pytest.raises(InvalidResource) as caught:
        decode(Kind.ROUTE, raw)
    assert caught.value.name == "orders"
    return str(caught.value).removeprefix("RouteConfiguration 'orders': ")


def action(**fields: Any) -> bytes:
    """Returns a configuration of one route to cluster `a`, its RouteAction with these fields."""
    return route_config(host({"match": {"prefix": ""}, "route": {"cluster": "a", **fields}}))


def forward(raw: bytes) -> Forward:
    """Returns the action of the only route."""
    (found,) = decoded(raw).virtual_hosts[0].routes
    assert isinstance(found.action, Forward)
    return found.action


def test_virtual_hosts() -> None:
    """Hosts, domains and routes keep their order and names."""
    raw = route_config(
        host({**to("a"), "name": "first"}, to("b"), name="one", domains=["orders", "*.orders", "orders.*"]),
        host(name="two"),
    )
    one, two = (Forward((WeightedCluster(name, 1),)) for name in "ab")
    assert decoded(raw) == RouteConfiguration(
        "orders",
        (
            VirtualHost("one", ("orders", "*.orders", "orders.*"), (Route("first", EVERY, one), Route("", EVERY, two))),
            VirtualHost("two", ("*",), ()),
        ),
    )


@pytest.mark.parametrize("domain", ["", "a*b", "**", "*a*"])
def test_domain_refused(domain: str) -> None:
    """A domain with a wildcard elsewhere than at one end is refused."""
    words = f"virtual_hosts[0].domains[1]: {domain!r} is not a domain, *suffix, prefix* or *"
    assert refusal(route_config(host(domains=["a", domain]))) == words


def test_weighted_clusters() -> None:
    """Weights are kept; a cluster of weight 0 is never chosen and not wanted."""
    clusters = [{"name": "a", "weight": 90}, {"name": "b", "weight": 10}, {"name": "c", "weight": 0}, {"name": "d"}]
    raw = action(weighted_clusters={"clusters": clusters}, cluster=None)
    assert forward(raw).clusters == (WeightedCluster("a", 90), WeightedCluster("b", 10))


@pytest.mark.parametrize(
    ("clusters", "words"),
    [
        ([], "the sum of the weights is 0, must be 1 to 4294967295"),
        ([{"name": "a", "weight": 0}], "the sum of the weights is 0, must be 1 to 4294967295"),
        (
            [{"name": "a", "weight": 2**32 - 1}, {"name": "b", "weight": 1}],
            "the sum of the weights is 4294967296, must be 1 to 4294967295",
        ),
        ([{"weight": 1}], "clusters[0].name: is empty"),
        ([{"cluster_header": "x", "weight": 1}], "clusters[0].cluster_header: 'x' is not supported"),
    ],
)
def test_weighted_clusters_refused(clusters: list[Json], words: str) -> None:
    """A28: the weights must add up to something a uint32 holds, and each cluster needs its name."""
    text = refusal(action(weighted_clusters={"clusters": clusters}, cluster=None))
    assert text.removeprefix(f"{ROUTE}.route.weighted_clusters").lstrip(".:").lstrip() == words


def test_cluster_without_name() -> None:
    """An empty cluster name is refused."""
    assert refusal(action(cluster="")) == f"{ROUTE}.route.cluster: is empty"


@pytest.mark.parametrize(
    ("specifier", "ignored"),
    [
        ({"cluster_header": "x"}, "virtual_hosts.routes.route.cluster_header"),
        ({"inline_cluster_specifier_plugin": {}}, "virtual_hosts.routes.route.inline_cluster_specifier_plugin"),
        ({}, "virtual_hosts.routes.route.cluster_specifier"),
    ],
)
def test_routes_that_are_skipped(specifier: Json, ignored: str) -> None:
    """A28: a route whose cluster cannot be told is skipped, the next one is taken; it is listed."""
    found = decoded(route_config(host({"match": {"prefix": ""}, "route": specifier}, to("b"))))
    assert [route.action for route in found.virtual_hosts[0].routes] == [Forward((WeightedCluster("b", 1),))]
    assert found.ignored == (ignored,)


@pytest.mark.parametrize("matcher", ["query_parameters", "filter_state"])
def test_match_that_never_holds(matcher: str) -> None:
    """A28: a route with a condition that no gRPC call meets is skipped, not widened, whatever else is wrong with it."""
    skipped = {"match": {matcher: [{"name": "x"} if matcher == "query_parameters" else {"key": "x"}]}}
    found = decoded(route_config(host(skipped, to("b"))))
    assert len(found.virtual_hosts[0].routes) == 1
    assert found.ignored == (f"virtual_hosts.routes.match.{matcher}",)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"redirect": {}}, "redirect"),
        ({"direct_response": {"status": 404}}, "direct_response"),
        ({"non_forwarding_action": {}}, "non_forwarding_action"),
        ({"filter_action": {}}, "filter_action"),
    ],
)
def test_actions_of_servers(fields: Json, kind: str) -> None:
    """A route that no client can follow matches, and calls on it fail in words."""
    (found,) = decoded(route_config(host({"match": {"prefix": ""}, **fields}))).virtual_hosts[0].routes
    assert found.action == NoForward(f"the route's action is {kind}, which a gRPC client cannot follow")


def test_words_of_a_direct_response() -> None:
    """What a direct response says is what the caller is told."""
    answer = {"direct_response": {"status": 503, "body": {"inline_string": "no exit from east"}}}
    (found,) = decoded(route_config(host({"match": {"prefix": ""}, **answer}))).virtual_hosts[0].routes
    assert found.action == NoForward("the control plane answers: 'no exit from east'")


def test_no_action() -> None:
    """A route without an action fails its calls too."""
    (found,) = decoded(route_config(host({"match": {"prefix": ""}}))).virtual_hosts[0].routes
    assert found.action == NoForward("no action is set")


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ({"max_stream_duration": "3s"}, (3.0, None)),
        ({"max_stream_duration": "0s"}, (0.0, None)),
        ({"grpc_timeout_header_max": "0.250s"}, (None, 0.25)),
        ({"max_stream_duration": "3s", "grpc_timeout_header_max": "0s"}, (3.0, 0.0)),
    ],
)
def test_max_stream_duration(limit: Json, expected: tuple[float | None, float | None]) -> None:
    """A31: both caps are kept apart, and zero is not the same as unset."""
    found = forward(action(max_stream_duration=limit))
    assert (found.max_duration, found.header_max_duration) == expected


def test_retry_policy() -> None:
    """A44: gRPC's statuses, retries and backoff are taken; per_try_timeout, which A44 leaves out, is taken too.

    What never left is moved whatever the policy says, so that asking for it is nothing without effect.
    """
    policy = {
        "retry_on": " unavailable,Cancelled, 5xx,,connect-failure",
        "num_retries": 3,
        "per_try_timeout": "1.5s",
        "retry_back_off": {"base_interval": "0.1s", "max_interval": "2s"},
        "retriable_status_codes": [503],
    }
    raw = action(retry_policy=policy)
    assert forward(raw).retry == RetryPolicy(frozenset({"UNAVAILABLE", "CANCELLED"}), 3, 0.1, 2.0, 1.5)
    assert decoded(raw).ignored == (
        "virtual_hosts.routes.route.retry_policy.retriable_status_codes",
        "virtual_hosts.routes.route.retry_policy.retry_on.5xx",
    )


def test_reset_is_part_of_unavailable() -> None:
    """A lost connection is UNAVAILABLE here: `reset` has an effect beside `unavailable`, and none without it."""
    beside = action(retry_policy={"retry_on": "unavailable,reset"})
    assert forward(beside).retry == RetryPolicy(frozenset({"UNAVAILABLE"}))
    assert decoded(beside).ignored == ()
    alone = action(retry_policy={"retry_on": "internal,reset"})
    assert decoded(alone).ignored == ("virtual_hosts.routes.route.retry_policy.retry_on.reset",)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"retry_on": "internal"}, RetryPolicy(frozenset({"INTERNAL"}), 1, 0.025, 0.25)),
        (
            {"retry_on": "resource-exhausted,deadline-exceeded", "retry_back_off": {"base_interval": "1s"}},
            RetryPolicy(frozenset({"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}), 1, 1.0, 10.0),
        ),
        ({"retry_on": "5xx"}, None),
        ({}, None),
    ],
)
def test_retry_defaults(policy: Json, expected: RetryPolicy | None) -> None:
    """A44: one retry, 25 ms, ten times that at most; without a status of gRPC's there is no policy."""
    assert forward(action(retry_policy=policy)).retry == expected


def test_retry_policy_of_the_virtual_host() -> None:
    """A44: a route without a policy has that of its host, also if the route's own one comes to nothing."""
    own = {"match": {"prefix": ""}, "route": {"cluster": "a", "retry_policy": {"retry_on": "5xx"}}}
    raw = route_config(host(to("a"), own, retry_policy={"retry_on": "unavailable"}))
    first, second = (route.action for route in decoded(raw).virtual_hosts[0].routes)
    assert isinstance(first, Forward)
    assert first.retry == RetryPolicy(frozenset({"UNAVAILABLE"}), 1, 0.025, 0.25)
    assert isinstance(second, Forward)
    assert second.retry is None


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"num_retries": 0}, "num_retries: must be 1 or more"),
        ({"retry_back_off": {}}, "retry_back_off.base_interval: must be more than zero"),
        (
            {"retry_back_off": {"base_interval": "1s", "max_interval": "0s"}},
            "retry_back_off.max_interval: must be more than zero",
        ),
        (
            {"retry_back_off": {"base_interval": "1s", "max_interval": "0.5s"}},
            "retry_back_off.max_interval: 0.5 s is less than base_interval, 1.0 s",
        ),
        ({"per_try_timeout": "-1s"}, "per_try_timeout: -1 s 0 ns is not a duration of zero or more"),
    ],
)
def test_retry_policy_refused(policy: Json, words: str) -> None:
    """A44: retries and intervals must be positive; in a route and in a host alike."""
    assert refusal(action(retry_policy=policy)) == f"{ROUTE}.route.retry_policy.{words}"
    assert refusal(route_config(host(retry_policy=policy))) == f"virtual_hosts[0].retry_policy.{words}"


def test_hash_policies() -> None:
    """A42: headers, with rewriting, and the channel id count, in order; the others are skipped and listed."""
    raw = action(
        hash_policy=[
            {"header": {"header_name": "X-User"}, "terminal": True},
            {"cookie": {"name": "c"}},
            {
                "header": {
                    "header_name": "x-path",
                    "regex_rewrite": {"pattern": {"regex": "/(.*)"}, "substitution": "\\1"},
                }
            },
            {"filter_state": {"key": "io.grpc.channel_id"}},
            {"filter_state": {"key": "other"}},
        ]
    )
    assert forward(raw).hash_policies == (
        HashHeader("x-user", terminal=True),
        HashHeader("x-path", "/(.*)", "\\1"),
        HashChannelId(),
    )
    assert decoded(raw).ignored == (
        "virtual_hosts.routes.route.hash_policy.cookie",
        "virtual_hosts.routes.route.hash_policy.filter_state",
    )


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"header": {}}, "header.header_name: is empty"),
        (
            {"header": {"header_name": "x", "regex_rewrite": {"pattern": {"regex": "("}}}},
            "header.regex_rewrite.pattern.regex: regular expression '(': ",
        ),
        (
            {"header": {"header_name": "x", "regex_rewrite": {"pattern": {"regex": "a"}, "substitution": "\\7"}}},
            "header.regex_rewrite.substitution: substitution '\\\\7': ",
        ),
    ],
)
def test_hash_policy_refused(policy: Json, words: str) -> None:
    """A42: a rewrite that cannot work is refused when it arrives, not when a call needs it."""
    assert refusal(action(hash_policy=[policy])).startswith(f"{ROUTE}.route.hash_policy[0].{words}")


def test_plugins() -> None:
    """Routes to an optional, unknown cluster specifier plugin are skipped and listed."""
    plugin = {"extension": {"name": "rls"}, "is_optional": True}
    skipped = {"match": {"prefix": ""}, "route": {"cluster_specifier_plugin": "rls"}}
    found = decoded(route_config(host(skipped), cluster_specifier_plugins=[plugin]))
    assert found.virtual_hosts[0].routes == ()
    assert found.ignored == ("cluster_specifier_plugins", "virtual_hosts.routes.route.cluster_specifier_plugin")


def test_plugins_refused() -> None:
    """A plugin that is needed and unknown is refused, and so is a route to one that is not declared."""
    plugin = {"extension": {"name": "rls"}}
    text = refusal(route_config(cluster_specifier_plugins=[plugin]))
    assert text == "cluster_specifier_plugins[0]: 'rls' is not supported, and it is not optional"
    text = refusal(route_config(host(to("a"), {"match": {}, "route": {"cluster_specifier_plugin": "rls"}})))
    path = "virtual_hosts[0].routes[1].route.cluster_specifier_plugin"
    assert text == f"{path}: 'rls' is not in cluster_specifier_plugins"


LEVELS = {
    "typed_per_filter_config": lambda overrides: route_config(typed_per_filter_config=overrides),
    "virtual_hosts.typed_per_filter_config": lambda overrides: route_config(host(typed_per_filter_config=overrides)),
    "virtual_hosts.routes.typed_per_filter_config": lambda overrides: route_config(
        host({**to("a"), "typed_per_filter_config": overrides})
    ),
    "virtual_hosts.routes.route.weighted_clusters.clusters.typed_per_filter_config": lambda overrides: action(
        cluster=None, weighted_clusters={"clusters": [{"name": "a", "weight": 1, "typed_per_filter_config": overrides}]}
    ),
}


@pytest.mark.parametrize("level", LEVELS)
def test_filter_overrides(level: str) -> None:
    """A39, at every level: an unknown override is refused unless it says that it is optional, and then listed."""
    unknown = {"@type": STRUCT, "type_url": "x/y.Lua"}
    optional = {
        "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
        "is_optional": True,
        "config": unknown,
    }
    harmless = {"@type": f"{EXTENSIONS}filters.http.fault.v3.HTTPFault"}
    found = decoded(LEVELS[level]({"lua": optional, "fault": harmless}))
    assert found.ignored == (f"{level}.lua",)
    text = refusal(LEVELS[level]({"lua": unknown}))
    assert text.endswith("['lua'].typed_config: no filter of type 'y.Lua' is known here, and it is not optional")
    router = {"@type": f"{EXTENSIONS}filters.http.router.v3.Router"}
    assert refusal(LEVELS[level]({"r": router})).endswith("['r']: the router filter takes no overrides")


@pytest.mark.parametrize(
    ("fields", "listed"),
    [
        ({"timeout": "3s"}, True),
        ({"timeout": "3s", "max_stream_duration": {"max_stream_duration": "4s"}}, True),
        ({"timeout": "3s", "max_stream_duration": {"max_stream_duration": "3s"}}, False),
        ({"timeout": "0s"}, False),
    ],
)
def test_timeout_is_listed_where_it_says_something_else(fields: Json, listed: bool) -> None:
    """A31: `timeout` does not count; that is worth a word only if it differs from what counts."""
    assert decoded(action(**fields)).ignored == (("virtual_hosts.routes.route.timeout",) if listed else ())


def test_ignored_fields_are_listed() -> None:
    """What Envoy would do and gRPC does not is listed: A31 has `timeout` count for nothing."""
    fields = {
        "timeout": "3s",
        "request_mirror_policies": [{"cluster_header": "m"}],
        "auto_host_rewrite": True,
        "max_stream_duration": {"grpc_timeout_header_offset": "1s"},
    }
    raw = route_config(
        host(
            {
                "match": {"prefix": "", "tls_context": {}, "grpc": {}, "runtime_fraction": {"runtime_key": "k"}},
                "route": {"cluster": "a", **fields},
                "metadata": {},
            },
            require_tls="ALL",
        ),
        vhds={},
    )
    found = decoded(raw)
    assert found.ignored == (
        "vhds",
        "virtual_hosts.require_tls",
        "virtual_hosts.routes.match.runtime_fraction.runtime_key",
        "virtual_hosts.routes.match.tls_context",
        "virtual_hosts.routes.metadata",
        "virtual_hosts.routes.route.auto_host_rewrite",
        "virtual_hosts.routes.route.max_stream_duration.grpc_timeout_header_offset",
        "virtual_hosts.routes.route.request_mirror_policies.cluster_header",
        "virtual_hosts.routes.route.timeout",
    )
    (route,) = found.virtual_hosts[0].routes
    assert isinstance(route.action, Forward)
    assert route.action.authority_rewrite
