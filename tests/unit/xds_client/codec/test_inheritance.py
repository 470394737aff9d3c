"""RDS: header edits, hedging, mirrors, rate limits and priority, said at the levels where Envoy lets them be said."""

from __future__ import annotations

from typing import Any

import pytest

from meshsdk.model.filters import (
    CalledCluster,
    CallerCluster,
    GenericKey,
    HeaderEdit,
    HeaderValueMatch,
    RateLimitActions,
    RequestHeader,
)
from meshsdk.model.matching import HeaderMatch, PresentMatch
from meshsdk.model.policy import Hedging, Mirror, RetryPolicy
from meshsdk.model.resources import Forward, WeightedCluster
from tests.unit.xds_client.codec.messages import EXTENSIONS, Json, host, route_config, to
from tests.unit.xds_client.codec.test_route import decoded, refusal

ROUTES = "virtual_hosts.routes"


def actions(raw: bytes) -> list[Forward]:
    """Returns the actions of the first virtual host's routes."""
    found = [route.action for route in decoded(raw).virtual_hosts[0].routes]
    assert all(isinstance(one, Forward) for one in found)
    return [one for one in found if isinstance(one, Forward)]


def routed(**fields: Any) -> Json:
    """Returns a route to cluster `a` with settings of its action."""
    return {"match": {"prefix": ""}, "route": {"cluster": "a", **fields}}


def added(name: str, value: str = "v", **fields: Any) -> Json:
    """Returns a HeaderValueOption."""
    return {"header": {"key": name, "value": value}, **fields}


def edits_of(route: Json) -> tuple[tuple[HeaderEdit, ...], tuple[str, ...]]:
    """Returns the request edits of one route, and what has no effect."""
    raw = route_config(host({**to("a"), **route}))
    (action,) = actions(raw)
    return action.request_edits, tuple(path.removeprefix(f"{ROUTES}.") for path in decoded(raw).ignored)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (added("X-A"), HeaderEdit("x-a", "v")),
        (added("x", append_action="ADD_IF_ABSENT"), HeaderEdit("x", "v", only_if_absent=True)),
        (added("x", append_action="OVERWRITE_IF_EXISTS_OR_ADD"), HeaderEdit("x", "v", append=False)),
        (
            added("x", append_action="OVERWRITE_IF_EXISTS"),
            HeaderEdit("x", "v", append=False, only_if_present=True),
        ),
        (added("x", append=False), HeaderEdit("x", "v", append=False)),
        (added("x", append=True), HeaderEdit("x", "v")),
        (added("x", "", keep_empty_value=True), HeaderEdit("x", "")),
        (added("x", "50%%"), HeaderEdit("x", "50%")),
        ({"header": {"key": "x", "raw_value": "dg=="}}, HeaderEdit("x", "v")),
    ],
)
def test_ways_to_add(option: Json, expected: HeaderEdit) -> None:
    """HeaderValueOption: append, add if absent, overwrite, overwrite if there; the deprecated `append` too."""
    assert edits_of({"request_headers_to_add": [option]}) == ((expected,), ())


def test_an_empty_value_adds_nothing() -> None:
    """Unless it is to be kept."""
    assert edits_of({"request_headers_to_add": [added("x", "")]}) == ((), ())


@pytest.mark.parametrize("name", ["grpc-timeout", "Content-Type", "te", "user-agent", "trace-bin"])
def test_headers_of_the_transport_are_listed(name: str) -> None:
    """No metadata sets or removes what gRPC itself says, and binary values are none as they stand in configuration."""
    listed = (f"request_headers_to_add.{name.lower()}", f"request_headers_to_remove.{name.lower()}")
    assert edits_of({"request_headers_to_add": [added(name)], "request_headers_to_remove": [name]}) == ((), listed)


def test_command_operators_are_listed() -> None:
    """There is nothing to fill them in, and the caller's server must not see them as they stand."""
    found = edits_of({"request_headers_to_add": [added("x", "%REQ(y)%"), added("z", "100%")]})
    assert found == ((), ("request_headers_to_add.x", "request_headers_to_add.z"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"request_headers_to_add": [added(":path")]}, "request_headers_to_add[0].header.key: ':path': :-headers and"),
        ({"request_headers_to_remove": ["Host"]}, "request_headers_to_remove[0]: 'Host': :-headers and host may not"),
        ({"request_headers_to_add": [added("a b")]}, "request_headers_to_add[0].header.key: 'a b' is no name"),
        ({"request_headers_to_add": [added("")]}, "request_headers_to_add[0].header.key: is empty"),
        (
            {"response_headers_to_add": [added("x", "\n")]},
            "response_headers_to_add[0].header.value: '\\n' is not",
        ),
        (
            {"request_headers_to_add": [added("x", append=True, append_action="ADD_IF_ABSENT")]},
            "request_headers_to_add[0].append: stands beside append_action",
        ),
        (
            {"request_headers_to_add": [{"header": {"key": "x", "value": "a", "raw_value": "dg=="}}]},
            "request_headers_to_add[0].header.raw_value: stands beside value",
        ),
        ({"request_headers_to_add": [added("x")] * 1001}, "request_headers_to_add: has 1001 entries, at most 1000"),
    ],
)
def test_edits_refused(fields: Json, words: str) -> None:
    """What Envoy refuses is refused: `:`-headers and host, names and values that are none."""
    text = refusal(route_config(host({**to("a"), **fields})))
    assert text.startswith(f"virtual_hosts[0].routes[0].{words}")


def test_order_within_a_level() -> None:
    """Envoy removes first, then overwrites, then adds."""
    found, _ = edits_of(
        {
            "request_headers_to_add": [added("a"), added("b", append_action="OVERWRITE_IF_EXISTS_OR_ADD")],
            "request_headers_to_remove": ["c"],
        }
    )
    assert [edit.name for edit in found] == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("specific_wins", "order"),
    [(False, ["route", "vhost", "configuration"]), (True, ["configuration", "vhost", "route"])],
)
def test_order_of_levels(specific_wins: bool, order: list[str]) -> None:
    """Envoy: from the most to the least specific, or the other way; the weighted cluster's own run before all."""

    def level(name: str) -> Json:
        return {"request_headers_to_add": [added(name)], "response_headers_to_remove": [name]}

    weighted = {"clusters": [{"name": "a", "weight": 1, **level("cluster")}]}
    route = {"match": {"prefix": ""}, "route": {"weighted_clusters": weighted}, **level("route")}
    raw = route_config(
        host(route, **level("vhost")), **level("configuration"), most_specific_header_mutations_wins=specific_wins
    )
    (action,) = actions(raw)
    assert decoded(raw).ignored == ()
    assert [edit.name for edit in action.request_edits] == order
    assert [(edit.name, edit.value) for edit in action.response_edits] == [(name, None) for name in order]
    assert action.clusters == (
        WeightedCluster(
            "a", 1, request_edits=(HeaderEdit("cluster", "v"),), response_edits=(HeaderEdit("cluster", None),)
        ),
    )


RETRY = {"retry_on": "unavailable", "num_retries": 2, "per_try_timeout": "0.1s"}


def test_hedging() -> None:
    """A6: where Envoy hedges on the per-try timeout, that is the delay, and what is retried is not fatal."""
    hedge = {"hedge_on_per_try_timeout": True, "initial_requests": 1}
    raw = route_config(host(routed(retry_policy=RETRY, hedge_policy=hedge), routed(retry_policy=RETRY)))
    first, second = actions(raw)
    assert first.hedging == Hedging(3, 0.1, frozenset({"UNAVAILABLE"}))
    assert second.hedging is None
    assert decoded(raw).ignored == ()


def test_hedging_of_the_virtual_host() -> None:
    """A route hedges as its host says, unless it says otherwise."""
    hedge = {"hedge_on_per_try_timeout": True}
    raw = route_config(host(routed(), routed(hedge_policy={}), retry_policy=RETRY, hedge_policy=hedge))
    assert [one.hedging is not None for one in actions(raw)] == [True, False]


@pytest.mark.parametrize(
    ("fields", "listed"),
    [
        ({"hedge_policy": {"initial_requests": 2}}, "initial_requests"),
        ({"hedge_policy": {"additional_request_chance": {"numerator": 1}}}, "additional_request_chance"),
        ({"hedge_policy": {"hedge_on_per_try_timeout": True}}, "hedge_on_per_try_timeout"),
        (
            {"hedge_policy": {"hedge_on_per_try_timeout": True}, "retry_policy": {"retry_on": "unavailable"}},
            "hedge_on_per_try_timeout",
        ),
    ],
)
def test_hedging_without_effect(fields: Json, listed: str) -> None:
    """Further first requests are not made, and without a per-try timeout there is nothing to hedge on."""
    raw = route_config(host(routed(**fields)))
    assert actions(raw)[0].hedging is None
    assert decoded(raw).ignored == (f"{ROUTES}.route.hedge_policy.{listed}",)


def test_mirrors() -> None:
    """A route's mirrors stand in place of its host's, and those in place of the configuration's."""
    half = {"cluster": "half", "runtime_fraction": {"default_value": {"numerator": 50}, "runtime_key": "k"}}
    none = {"cluster": "none", "runtime_fraction": {"default_value": {}}}
    raw = route_config(
        host(routed(request_mirror_policies=[half, none]), routed(), request_mirror_policies=[{"cluster": "all"}]),
        host(routed()),
        request_mirror_policies=[{"cluster": "far", "trace_sampled": False}],
    )
    first, second = actions(raw)
    assert (first.mirrors, second.mirrors) == ((Mirror("half", 0.5),), (Mirror("all", 1.0),))
    found = decoded(raw)
    last = found.virtual_hosts[1].routes[0].action
    assert isinstance(last, Forward)
    assert last.mirrors == (Mirror("far"),)
    assert found.ignored == (
        "request_mirror_policies.trace_sampled",
        f"{ROUTES}.route.request_mirror_policies.runtime_fraction.runtime_key",
    )
    text = refusal(route_config(host(routed(request_mirror_policies=[{}]))))
    assert text == "virtual_hosts[0].routes[0].route.request_mirror_policies[0].cluster: is empty"


def limit(*entries: Json, **fields: Any) -> Json:
    """Returns an envoy.config.route.v3.RateLimit."""
    return {"actions": list(entries), **fields}


def test_rate_limits() -> None:
    """Every kind of entry that can be made here; a limit with another one is left out as a whole, and listed."""
    raw = route_config(
        host(
            routed(
                rate_limits=[
                    limit({"source_cluster": {}}, {"destination_cluster": {}}, stage=2, disable_key="k"),
                    limit(
                        {"request_headers": {"header_name": "X-A", "descriptor_key": "a", "skip_if_absent": True}},
                        {"generic_key": {"descriptor_value": "v", "descriptor_key": "k"}},
                    ),
                    limit(
                        {
                            "header_value_match": {
                                "descriptor_value": "v",
                                "expect_match": False,
                                "headers": [{"name": "x", "present_match": True}],
                            }
                        }
                    ),
                    limit({"generic_key": {"descriptor_value": "v"}}, {"remote_address": {}}),
                ]
            )
        )
    )
    assert actions(raw)[0].rate_limits == (
        RateLimitActions((CallerCluster(), CalledCluster()), 2, "k"),
        RateLimitActions((RequestHeader("x-a", "a", skip_if_absent=True), GenericKey("v", "k"))),
        RateLimitActions((HeaderValueMatch("v", (HeaderMatch("x", PresentMatch()),), expect=False),)),
    )
    where = f"{ROUTES}.route.rate_limits"
    assert decoded(raw).ignored == (f"{where}.actions.remote_address", f"{where}.disable_key")


def test_rate_limits_of_the_virtual_host() -> None:
    """They hold for routes that have none of their own, and for those that ask for both."""
    own, hosts = (limit({"generic_key": {"descriptor_value": name}}) for name in ("own", "host"))
    raw = route_config(
        host(
            routed(),
            routed(rate_limits=[own]),
            routed(rate_limits=[own], include_vh_rate_limits=True),
            rate_limits=[hosts],
        )
    )
    found = [[one.actions[0].value for one in action.rate_limits] for action in actions(raw)]
    assert found == [["host"], ["own"], ["own", "host"]]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (limit(), "actions: is empty"),
        (limit({"source_cluster": {}}, stage=11), "stage: 11 is more than 10"),
        (limit({"generic_key": {}}), "actions[0].generic_key.descriptor_value: is empty"),
        (limit({"request_headers": {"header_name": "x"}}), "actions[0].request_headers.descriptor_key: is empty"),
        (
            limit({"header_value_match": {"descriptor_value": "v"}}),
            "actions[0].header_value_match.headers: is empty",
        ),
    ],
)
def test_rate_limits_refused(said: Json, words: str) -> None:
    """A descriptor needs entries, and an entry its key and value."""
    where = "virtual_hosts[0].routes[0].route.rate_limits[0]"
    assert refusal(route_config(host(routed(rate_limits=[said])))) == f"{where}.{words}"


def test_priority() -> None:
    """HIGH counts against its own circuit breakers."""
    raw = route_config(host(routed(priority="HIGH"), routed()))
    assert [one.high_priority for one in actions(raw)] == [True, False]
    assert decoded(raw).ignored == ()


def test_retries_by_headers_and_to_other_hosts() -> None:
    """Headers of an answer may ask for a retry; previous hosts are avoided, other predicates are listed."""
    predicates = [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {"@type": f"{EXTENSIONS}retry.host.previous_hosts.v3.PreviousHostsPredicate"},
        },
        {"name": "other"},
    ]
    policy = {
        "retry_on": "retriable-headers,connect-failure",
        "retriable_headers": [{"name": "x-again", "present_match": True}],
        "retry_host_predicate": predicates,
        "host_selection_retry_max_attempts": 4,
        "retry_priority": {"name": "p"},
        "retriable_request_headers": [{"name": "x", "present_match": True}],
    }
    raw = route_config(host(routed(retry_policy=policy)))
    assert actions(raw)[0].retry == RetryPolicy(
        frozenset(),
        retriable_headers=(HeaderMatch("x-again", PresentMatch()),),
        avoid_previous=True,
        avoid_attempts=4,
    )
    where = f"{ROUTES}.route.retry_policy"
    listed = ("retriable_request_headers", "retry_host_predicate.other", "retry_priority")
    assert decoded(raw).ignored == tuple(f"{where}.{name}" for name in listed)


def test_headers_count_only_if_the_policy_asks_for_them() -> None:
    """As in Envoy, `retriable_headers` without the condition has no effect, nor has the condition without headers."""
    headers = [{"name": "x", "present_match": True}]
    without = routed(retry_policy={"retry_on": "unavailable", "retriable_headers": headers})
    alone = routed(retry_policy={"retry_on": "unavailable,retriable-headers"})
    raw = route_config(host(without, alone))
    assert [one.retry for one in actions(raw)] == [RetryPolicy(frozenset({"UNAVAILABLE"}))] * 2
    where = f"{ROUTES}.route.retry_policy"
    assert decoded(raw).ignored == (f"{where}.retriable_headers", f"{where}.retry_on.retriable-headers")
