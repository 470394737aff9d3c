"""Compiled plans: which route a call takes, in which order conditions are asked, and what a plan leaves out."""

from __future__ import annotations

import random

import pytest

from meshsdk.model.matching import (
    FieldMatch,
    Fraction,
    HeaderMatch,
    PathKind,
    PathMatch,
    PresentMatch,
    RouteMatch,
    StringKind,
    StringMatch,
)
from meshsdk.model.policy import HashChannelId, HashHeader
from meshsdk.model.resources import Forward, NoForward, Route, VirtualHost, WeightedCluster
from meshsdk.model.xxh64 import xxh64
from meshsdk.routing.router import RouteTable
from tests.unit.routing.shop import Order, User

ANY = PathMatch(PathKind.PREFIX, "")
GET = "/shop.Orders/Get"


def exact(value):
    """Equality with a value."""
    return StringMatch(StringKind.EXACT, value)


def route(name, path=ANY, *, headers=(), fields=(), fraction=None, action=None):
    """A route to the cluster of its own name."""
    match = RouteMatch(path, tuple(headers), tuple(fields), None if fraction is None else Fraction(fraction))
    return Route(name, match, action or Forward((WeightedCluster(name, 1),)))


def table(*routes):
    """The compiled routes of a host."""
    return RouteTable(VirtualHost("host", ("*",), routes))


def never():
    """A draw for calls that must not need one."""
    raise AssertionError("no random number is needed here")


def chosen(plan, metadata=(), request=None, draw=never):
    """The name of the selected route, None if there is none."""
    selected = plan.select(metadata, request, draw)
    return None if selected is None else selected.route.name


def test_plan_of_a_method_leaves_out_other_methods():
    """Routes whose path does not match are gone from the plan, so the first that is left decides at once."""
    routes = table(
        route("exact", PathMatch(PathKind.EXACT, "/shop.Orders/Put")),
        route("regex", PathMatch(PathKind.REGEX, "/shop[.].*/Del.*"), headers=[HeaderMatch("a", exact("1"))]),
        route("prefix", PathMatch(PathKind.PREFIX, "/shop.")),
        route("rest"),
    )
    assert routes.plan(GET).unconditional.route.name == "prefix"
    assert routes.plan("/shop.Orders/Put").unconditional.route.name == "exact"
    assert routes.plan("/other/Get").unconditional.route.name == "rest"
    assert routes.plan("/shop.Orders/Del").unconditional is None
    assert chosen(routes.plan("/shop.Orders/Del"), [("a", "1")]) == "regex"
    assert chosen(routes.plan("/shop.Orders/Del")) == "prefix"


def test_plan_is_built_once_per_method():
    """The same method gets the same plan, and the number of plans kept is bounded."""
    routes = table(route("all"))
    assert routes.plan(GET) is routes.plan(GET)
    for number in range(10_050):
        routes.plan(f"/made.Up/{number}")
    assert len(routes._plans) <= 10_000


def test_no_route_matches():
    """A call that no route matches gets None, as does any call of a host without routes."""
    assert chosen(table().plan(GET)) is None
    assert table().plan(GET).unconditional is None
    assert chosen(table(route("r", headers=[HeaderMatch("a", exact("1"))])).plan(GET), [("a", "2")]) is None
    assert chosen(table(route("r", headers=[HeaderMatch("a", exact("1"))])).plan(GET), None) is None


def test_first_match_wins_among_exact_values():
    """Routes looked up by a header's value keep their order, among each other and with those between them."""
    routes = table(
        route("a1+b", headers=[HeaderMatch("a", exact("1")), HeaderMatch("b", PresentMatch())]),
        route("a2", headers=[HeaderMatch("a", exact("2"))]),
        route("a1", headers=[HeaderMatch("a", exact("1"))]),
        route("a1 again", headers=[HeaderMatch("a", exact("1"))]),
        route("c", headers=[HeaderMatch("c", exact("1"))]),
        route("a3", headers=[HeaderMatch("a", exact("3"))]),
        route("rest"),
    )
    plan = routes.plan(GET)
    assert plan.unconditional is None
    assert chosen(plan, [("a", "1"), ("b", "x")]) == "a1+b"
    assert chosen(plan, [("a", "1")]) == "a1"
    assert chosen(plan, [("a", "2"), ("c", "1")]) == "a2"
    assert chosen(plan, [("a", "3"), ("c", "1")]) == "c"
    assert chosen(plan, [("a", "3")]) == "a3"
    assert chosen(plan, [("a", "1"), ("a", "1")]) == "rest"  # the value is "1,1"
    assert chosen(plan, [("a", "\u0031".encode())]) == "a1"  # grpc takes bytes as values too


def test_exact_values_of_one_header_are_looked_up():
    """Neighbouring routes that ask one header for a value are one lookup, and no other of their values is tested."""
    plan = table(
        *(route(f"v{number}", headers=[HeaderMatch("v", exact(str(number)))]) for number in range(20)), route("rest")
    ).plan(GET)
    assert [header for header, _, _ in plan._groups] == ["v", None]
    assert chosen(plan, [("v", "13")]) == "v13"


def test_missing_header_taken_as_empty_matches_the_empty_value():
    """A route that asks for an empty value and takes a missing header as empty matches calls without the header."""
    empty = HeaderMatch("a", exact(""), treat_missing_as_empty=True)
    plan = table(route("one", headers=[HeaderMatch("a", exact("1"))]), route("empty", headers=[empty])).plan(GET)
    assert chosen(plan) == "empty"
    assert chosen(plan, [("a", "")]) == "empty"
    assert chosen(plan, [("a", "1")]) == "one"


def test_two_values_asked_of_one_header():
    """A route that asks one header for two values never matches, whichever of them is there."""
    plan = table(route("both", headers=[HeaderMatch("a", exact("1")), HeaderMatch("a", exact("2"))])).plan(GET)
    assert [chosen(plan, [("a", value)]) for value in ("1", "2")] == [None, None]


def test_headers_that_every_call_has():
    """content-type, :method and :path are decided when the plan is built; a true one costs no call anything."""
    routes = table(
        route("html", headers=[HeaderMatch("content-type", exact("text/html"))]),
        route("put", headers=[HeaderMatch(":path", exact("/shop.Orders/Put"))]),
        route(
            "get",
            headers=[HeaderMatch("content-type", exact("application/grpc")), HeaderMatch(":method", exact("POST"))],
        ),
    )
    plan = routes.plan(GET)
    assert plan.unconditional.route.name == "get"
    assert plan.problems == [
        "route 'html' never matches: header content-type of a gRPC call is always 'application/grpc'"
    ]
    assert routes.plan("/shop.Orders/Put").unconditional.route.name == "put"


def test_binary_headers_are_missing():
    """A condition on a -bin header is decided as if the call had none, and a route it makes impossible is listed."""
    routes = table(
        route("bin", headers=[HeaderMatch("trace-bin", StringMatch(StringKind.PREFIX, ""), invert=True)]),
        route("no bin", headers=[HeaderMatch("trace-bin", PresentMatch(present=False))]),
    )
    plan = routes.plan(GET)
    assert chosen(plan, [("trace-bin", b"1")]) == "no bin"
    assert plan.unconditional.route.name == "no bin"
    assert len(plan.problems) == 1
    assert "gRFC A28" in plan.problems[0]


def test_fraction():
    """A fraction matches that share of the calls, drawn only where the headers fit and not at all for 0 or 100%."""
    half = table(route("half", headers=[HeaderMatch("a", exact("1"))], fraction=500_000), route("rest")).plan(GET)
    assert chosen(half, [("a", "1")], draw=lambda: 0.4999999) == "half"
    assert chosen(half, [("a", "1")], draw=lambda: 0.5) == "rest"
    assert chosen(half) == "rest"
    assert table(route("all", fraction=1_000_000)).plan(GET).unconditional.route.name == "all"
    nothing = table(route("none", fraction=0), route("rest")).plan(GET)
    assert nothing.unconditional.route.name == "rest"
    assert nothing.problems == []


def test_share_of_a_fraction():
    """Over many calls a fraction of 10% takes a tenth of them, within five standard deviations."""
    plan = table(route("tenth", fraction=100_000), route("rest")).plan(GET)
    draw = random.Random(7).random
    calls = 20_000
    taken = sum(chosen(plan, draw=draw) == "tenth" for _ in range(calls))
    assert abs(taken - calls / 10) < 5 * (calls * 0.1 * 0.9) ** 0.5


def test_weights():
    """Clusters are chosen by their weights, within five standard deviations; one of weight 0 never is."""
    weights = {"a": 1, "b": 0, "c": 30, "d": 69}
    action = Forward(tuple(WeightedCluster(name, weight) for name, weight in weights.items()))
    compiled = table(route("r", action=action)).plan(GET).unconditional
    assert compiled.single is None
    draw = random.Random(11).random
    calls = 30_000
    counts = dict.fromkeys(weights, 0)
    for _ in range(calls):
        counts[compiled.cluster(draw)] += 1
    assert counts["b"] == 0
    for name, weight in weights.items():
        share = weight / 100
        assert abs(counts[name] - calls * share) <= 5 * (calls * share * (1 - share)) ** 0.5


def test_weights_at_the_edges_of_the_draw():
    """The smallest draw takes the first cluster with weight and the largest the last, also at the largest weights."""
    largest = 2**32 - 1
    clusters = (WeightedCluster("none", 0), WeightedCluster("first", 1), WeightedCluster("last", largest - 1))
    compiled = table(route("r", action=Forward((*clusters, WeightedCluster("no", 0))))).plan(GET).unconditional
    assert compiled.cluster(lambda: 0.0) == "first"
    assert compiled.cluster(lambda: 1 / largest) == "last"
    assert compiled.cluster(lambda: 1 - 2**-53) == "last"


def test_single_cluster_needs_no_draw():
    """Where one cluster has all the weight, it is known beforehand and nothing is drawn."""
    action = Forward((WeightedCluster("a", 0), WeightedCluster("b", 7)))
    compiled = table(route("r", action=action)).plan(GET).unconditional
    assert compiled.single == "b"
    assert compiled.cluster(never) == "b"
    assert compiled.problem == ""


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        (NoForward("it redirects"), "it redirects"),
        (Forward(()), "route 'r' has no cluster with a weight above 0"),
        (Forward((WeightedCluster("a", 0),)), "route 'r' has no cluster with a weight above 0"),
    ],
)
def test_route_that_cannot_be_used(action, problem):
    """A route without a usable destination still matches, and says why the call must fail."""
    compiled = table(route("r", action=action), route("rest")).plan(GET).unconditional
    assert (compiled.route.name, compiled.forward, compiled.single, compiled.problem) == ("r", None, None, problem)
    assert compiled.hash((), 1) is None


def test_hash_of_a_route():
    """A route's hash policies are evaluated on the call's metadata; without any, or any result, there is no hash."""
    policies = (HashHeader("user", terminal=True), HashChannelId())
    hashed = Forward((WeightedCluster("a", 1),), hash_policies=policies)
    compiled = table(route("r", action=hashed)).plan(GET).unconditional
    assert compiled.hash((("user", "ann"),), 5) == xxh64(b"ann")
    assert compiled.hash(None, 5) == 5
    assert table(route("r")).plan(GET).unconditional.hash((("user", "ann"),), 5) is None


def test_request_fields():
    """A field rule takes the calls whose decoded request has the value, and no call before its first message."""
    gold = FieldMatch(("user", "tier"), exact("gold"))
    plan = table(
        route("gold", fields=[gold]),
        route("tagged", fields=[FieldMatch(("tags",), exact("b"))]),
        route("unpaid", fields=[FieldMatch(("card",), PresentMatch(present=False))]),
        route("rest"),
    ).plan(GET)
    assert chosen(plan, request=Order(user={"tier": "gold"})) == "gold"
    assert chosen(plan, request=Order(tags=["a", "b"])) == "tagged"
    assert chosen(plan, request=Order()) == "unpaid"
    assert chosen(plan, request=Order(card="1")) == "rest"
    assert chosen(plan, request=None) == "rest"
    assert plan.problems == []


def test_inverted_request_field():
    """An inverted rule takes what the rule does not, an unset field included, as Envoy's MetadataMatcher does."""
    other = FieldMatch(("user", "nick"), exact("bob"), invert=True)
    plan = table(route("not bob", fields=[other]), route("rest")).plan(GET)
    assert chosen(plan, request=Order(user={"nick": "ann"})) == "not bob"
    assert chosen(plan, request=Order()) == "not bob"
    assert chosen(plan, request=Order(user={"nick": "bob"})) == "rest"
    assert chosen(plan, request=None) == "rest"


def test_field_that_the_type_lacks_never_matches():
    """A field rule whose path the request's type lacks fails even inverted, and is reported once per type."""
    wrong = [FieldMatch(("user", "teir"), exact("gold"), invert=invert) for invert in (False, True)]
    plan = table(*(route(f"r{index}", fields=[match]) for index, match in enumerate(wrong)), route("rest")).plan(GET)
    for _ in range(3):
        assert chosen(plan, request=Order(user={"tier": "gold"})) == "rest"
        assert chosen(plan, request=User(tier="gold")) == "rest"
        assert chosen(plan, request=b"raw bytes") == "rest"
    assert len(plan.problems) == 3
    assert plan.problems[0].startswith(
        "route 'r0', 'r1' never matches: request field user.teir: shop.User has no field"
    )


def test_each_field_is_read_once_per_call():
    """However many routes test a field, a call reads it once, and not at all when a cheaper condition fails."""

    class Counting:
        DESCRIPTOR = Order.DESCRIPTOR
        reads = 0

        @property
        def tags(self):
            type(self).reads += 1
            return ["x"]

    fields = [FieldMatch(("tags",), exact(str(number))) for number in range(10)]
    plan = table(
        route("header", headers=[HeaderMatch("a", exact("1"))], fields=fields[:1]),
        *(route(f"r{number}", fields=[match]) for number, match in enumerate(fields)),
    ).plan(GET)
    assert chosen(plan, request=Counting()) is None
    assert Counting.reads == 1
    only_header = table(route("header", headers=[HeaderMatch("a", exact("1"))], fields=fields[:1])).plan(GET)
    assert chosen(only_header, request=Counting()) is None
    assert Counting.reads == 1


def test_routes_behind_an_unconditional_one_are_unreachable():
    """What stands behind a route that takes every call is never asked: not even its broken field is reported."""
    plan = table(route("all"), route("late", fields=[FieldMatch(("nope",), exact("1"))])).plan(GET)
    assert chosen(plan, request=Order()) == "all"
    assert plan.problems == []


@pytest.mark.parametrize(
    "bad",
    [
        route("bad", PathMatch(PathKind.REGEX, "(")),
        route("bad", headers=[HeaderMatch("a", StringMatch(StringKind.REGEX, "("))]),
        route("bad", fields=[FieldMatch(("a",), StringMatch(StringKind.REGEX, "("))]),
        route("bad", action=Forward((WeightedCluster("a", 1),), hash_policies=(HashHeader("a", regex="("),))),
    ],
)
def test_bad_expression_is_refused_at_once(bad):
    """A route with a regular expression that is not acceptable is refused with its name when the table is made."""
    with pytest.raises(ValueError, match="virtual host 'host', route 'bad': regular expression '\\('"):
        table(bad)
