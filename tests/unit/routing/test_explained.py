"""Explanations of routes: the same answers as the compiled plan's, with words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.model.matching import (
    FieldMatch,
    Fraction,
    HeaderMatch,
    PathKind,
    PathMatch,
    PresentMatch,
    RangeMatch,
    RouteMatch,
    StringKind,
    StringMatch,
)
from meshsdk.model.resources import Forward, NoForward, Route, VirtualHost, WeightedCluster
from meshsdk.routing.explained import DescribedCall, decide
from meshsdk.routing.router import RouteTable
from tests.unit.routing.test_plan_property import METHODS, metadata, virtual_hosts

EVERY = PathMatch(PathKind.PREFIX, "/")
GOLD = StringMatch(StringKind.EXACT, "gold")


def route(name, match, *clusters):
    """A route to clusters with their weights."""
    return Route(name, match, Forward(tuple(WeightedCluster(*one) for one in clusters)))


def host(*routes):
    """A virtual host of these routes."""
    return VirtualHost("host", ("*",), routes)


@given(virtual_hosts(), st.sampled_from(METHODS), metadata, st.sampled_from([0.0, 0.3, 0.9999995]))
def test_it_says_what_the_compiled_plan_does(described, method, sent, drawn):
    """Whatever routes and metadata: the first route whose share is above the draw is the one that calls take."""
    plan = RouteTable(described).plan(method)
    chosen = plan.unconditional or plan.select(sent, None, lambda: drawn)
    verdicts = decide(described, DescribedCall(method, sent)).verdicts
    explained = next((one.route.name for one in verdicts if one.share > drawn), None)
    assert explained == (chosen.route.name if chosen else None)


def test_shares_of_fractions_and_weights():
    """A route that takes a quarter, split 1:3, and a route for the rest: shares of all calls."""
    quarter = RouteMatch(EVERY, fraction=Fraction(250_000))
    found = decide(
        host(route("q", quarter, ("a", 1), ("b", 3)), route("r", RouteMatch(EVERY), ("c", 1))), DescribedCall("/x/Y")
    )
    assert [(one.cluster, one.share) for one in found.taken] == [("a", 0.0625), ("b", 0.1875), ("c", 0.75)]
    assert found.verdicts[0].reasons == ("takes 25 % of the calls",)


def test_what_no_route_takes():
    """A call that no route matches has a way that says so, and every route says why not."""
    found = decide(host(route("only", RouteMatch(PathMatch(PathKind.EXACT, "/a/B")), ("a", 1))), DescribedCall("/x/Y"))
    assert [(one.cluster, one.share, one.problem) for one in found.taken] == [("", 1.0, "no route matches /x/Y")]
    assert found.verdicts[0].reasons == ("the method is not path '/a/B'",)


def test_a_route_that_fails_its_calls():
    """The reason of a route without a cluster is handed on."""
    found = decide(host(Route("no", RouteMatch(EVERY), NoForward("closed"))), DescribedCall("/x/Y"))
    assert found.taken[0].problem == "closed"


@pytest.mark.parametrize(
    ("match", "words"),
    [
        (HeaderMatch("tier", GOLD), "metadata tier is 'silver', must be exact 'gold'"),
        (HeaderMatch("age", RangeMatch(1, 5)), "metadata age is not there, must be in [1, 5)"),
        (HeaderMatch("tier", PresentMatch(), invert=True), "metadata tier is 'silver', must not be there"),
        (HeaderMatch(":path", GOLD), "metadata :path is '/x/Y', must be exact 'gold'"),
    ],
)
def test_words_of_metadata(match, words):
    """Each kind of condition says what is there and what must be."""
    call = DescribedCall("/x/Y", (("tier", "silver"),))
    assert decide(host(route("r", RouteMatch(EVERY, (match,)), ("a", 1))), call).verdicts[0].reasons == (words,)


def test_request_fields():
    """Fields are given by dotted path; one that is not given is not set; without a request nothing is known."""
    match = RouteMatch(EVERY, fields=(FieldMatch(("user", "tier"), GOLD),))
    gold = host(route("r", match, ("a", 1)))
    assert decide(gold, DescribedCall("/x/Y", fields={"user.tier": ("gold",)})).verdicts[0].share == 1.0
    assert decide(gold, DescribedCall("/x/Y", fields={})).verdicts[0].reasons == (
        "request field user.tier is not set, must be exact 'gold'",
    )
    assert decide(gold, DescribedCall("/x/Y")).verdicts[0].reasons == (
        "request field user.tier: there is no request yet",
    )
