"""Which filters and edits hold for a route's calls to a cluster (gRFC A39), and where they go."""

from __future__ import annotations

import pytest

from meshsdk.model.filters import (
    AdaptiveConcurrency,
    AdmissionControl,
    Fault,
    FilterConfig,
    GenericKey,
    HeaderEdit,
    HeaderMutation,
    LocalRateLimit,
    NamedFilter,
    RateLimitActions,
    RateLimitRoute,
    RateLimitService,
    StatefulSession,
    TokenBucket,
)
from meshsdk.model.matching import PathKind, PathMatch, RouteMatch
from meshsdk.model.resources import Filters, Forward, Route, VirtualHost, WeightedCluster
from meshsdk.routing.compiled_route import CompiledRoute
from meshsdk.routing.in_force import Destination
from meshsdk.routing.router import RouteTable

EVERY = RouteMatch(PathMatch(PathKind.PREFIX, ""))
ABORT = Fault(abort_code="UNAVAILABLE", abort_share=0.5)
BUCKET = TokenBucket(1, 1, 1.0)


def compiled(
    *filters: NamedFilter,
    host: Filters | None = None,
    route: Filters | None = None,
    cluster: Filters | None = None,
    forward: Forward | None = None,
) -> CompiledRoute:
    """Returns the only route of a virtual host, as calls meet it."""
    action = forward or Forward((WeightedCluster("a", 1, cluster or {}),))
    table = RouteTable(VirtualHost("h", ("*",), (Route("r", EVERY, action, route or {}),), host or {}), filters)
    found = table.plan("/s/m").unconditional
    assert found is not None
    return found


def only(route: CompiledRoute) -> Destination:
    """Returns the destination of a route that has one."""
    assert route.single == "a"
    (one,) = route.destinations
    return one


def configs(route: CompiledRoute) -> list[FilterConfig | None]:
    """Returns what the filters in force say, in order."""
    return [one.config for one in only(route).filters]


def test_the_most_specific_override_wins() -> None:
    """A39: weighted cluster over route over virtual host over listener; None turns a filter off."""

    def fault(share: float) -> Fault:
        return Fault(abort_code="INTERNAL", abort_share=share)

    listed = NamedFilter("f", fault(0.1))
    assert configs(compiled(listed)) == [fault(0.1)]
    assert configs(compiled(listed, host={"f": fault(0.2)})) == [fault(0.2)]
    assert configs(compiled(listed, host={"f": None}, route={"f": fault(0.3)})) == [fault(0.3)]
    assert configs(compiled(listed, route={"f": fault(0.3)}, cluster={"f": fault(0.4)})) == [fault(0.4)]
    assert configs(compiled(listed, route={"f": None})) == []
    assert configs(compiled(NamedFilter("f", None), route={"f": fault(0.3)})) == [fault(0.3)]
    assert configs(compiled(NamedFilter("f", fault(0.1), off=True))) == []
    assert only(compiled(NamedFilter("f", fault(0.1), off=True), route={"f": fault(0.1)})).filters == (
        NamedFilter("f", fault(0.1)),
    )
    assert configs(compiled(route={"f": fault(0.3)})) == []  # no such filter in the listener


def test_filters_keep_the_order_of_the_listener() -> None:
    """Calls pass them as the listener has them."""
    service = RateLimitService("d", "limiter")
    filters = (NamedFilter("z", service), NamedFilter("a", ABORT))
    assert [one.name for one in only(compiled(*filters, route={"a": ABORT, "z": service})).filters] == ["z", "a"]


@pytest.mark.parametrize(
    "config",
    [
        Fault(),
        Fault(delay=1.0),
        Fault(abort_code="INTERNAL"),
        Fault(abort_code="INTERNAL", abort_share=1.0, max_active=0),
        Fault(abort_code="INTERNAL", abort_share=1.0, cluster="b"),
        LocalRateLimit(BUCKET, enabled=0.0),
        LocalRateLimit(None),
        AdaptiveConcurrency(enabled=False),
        AdmissionControl(enabled=False),
        StatefulSession(),
        StatefulSession("sid", enabled=False),
    ],
)
def test_what_does_nothing_is_left_out(config: FilterConfig) -> None:
    """What a call cannot notice costs it nothing: Istio puts an empty fault filter into every listener."""
    assert configs(compiled(NamedFilter("f", config))) == []


@pytest.mark.parametrize(
    "config",
    [
        Fault(delay_from_header=True, delay_share=1.0),
        Fault(abort_from_header=True, abort_share=1.0, max_active=1),
        Fault(abort_code="INTERNAL", abort_share=1.0, cluster="a"),
        LocalRateLimit(BUCKET),
        AdaptiveConcurrency(),
        AdmissionControl(),
        StatefulSession("sid"),
    ],
)
def test_what_does_something_stays(config: FilterConfig) -> None:
    """Every filter that a call may notice is in force."""
    assert configs(compiled(NamedFilter("f", config))) == [config]


def test_a_route_says_what_to_ask_a_service() -> None:
    """RateLimitPerRoute: a domain and limits for the route's calls; the service and the rest stay the listener's."""
    own = RateLimitActions((GenericKey("w"),))
    service = NamedFilter("s", RateLimitService("d", "limiter", stage=1))
    (found,) = configs(compiled(service, host={"s": RateLimitRoute("host's")}, route={"s": RateLimitRoute("", (own,))}))
    assert found == RateLimitService("host's", "limiter", stage=1, rate_limits=(own,))
    assert only(compiled(service)).filters == (service,)


def test_a_route_turns_a_filter_on() -> None:
    """A filter that the listener has off is on where a route says something of it, with what the listener says too."""
    service = NamedFilter("s", RateLimitService("d", "limiter"), off=True)
    assert configs(compiled(service)) == []
    assert configs(compiled(service, route={"s": RateLimitRoute("r")})) == [RateLimitService("r", "limiter")]
    mutation = NamedFilter("m", HeaderMutation((edit("x"),)), off=True)
    assert only(compiled(mutation)).request_edits == ()
    own = HeaderMutation((edit("y"),))
    assert only(compiled(mutation, route={"m": own})).request_edits == (edit("x"), edit("y"))


def test_an_override_of_another_filter_does_not_count() -> None:
    """What a route says of a filter of the same name but another type leaves the listener's in force."""
    assert configs(compiled(NamedFilter("f", ABORT), route={"f": AdmissionControl()})) == [ABORT]
    assert configs(compiled(NamedFilter("f", ABORT), route={"f": RateLimitRoute("d")})) == [ABORT]


def edit(name: str) -> HeaderEdit:
    """Returns an edit that can be told from others."""
    return HeaderEdit(name, "v")


@pytest.mark.parametrize(
    ("specific_last", "order"),
    [
        (False, ["listener", "cluster's", "route's", "host's", "weighted", "action"]),
        (True, ["listener", "host's", "route's", "cluster's", "weighted", "action"]),
    ],
)
def test_order_of_edits(specific_last: bool, order: list[str]) -> None:
    """Envoy: mutation filters, then the weighted cluster, then the route; on the way back the filters come last."""

    def mutation(name: str) -> HeaderMutation:
        return HeaderMutation((edit(name),), (edit(name),), specific_last)

    weighted = WeightedCluster("a", 1, {"m": mutation("cluster's")}, (edit("weighted"),), (edit("weighted"),))
    found = only(
        compiled(
            NamedFilter("m", mutation("listener")),
            host={"m": mutation("host's")},
            route={"m": mutation("route's")},
            forward=Forward((weighted,), request_edits=(edit("action"),), response_edits=(edit("action"),)),
        )
    )
    assert found.filters == ()
    assert [one.name for one in found.request_edits] == order
    assert [one.name for one in found.response_edits] == order[-2:] + order[:-2]


def test_a_mutation_is_turned_off() -> None:
    """A route that turns the filter off has none of its edits."""
    listed = NamedFilter("m", HeaderMutation((edit("x"),)))
    assert only(compiled(listed, route={"m": None})).request_edits == ()


def test_one_cluster_in_two_ways() -> None:
    """A cluster that stands twice, with other edits, is not a single destination: calls are split by weight."""
    ways = (WeightedCluster("a", 1, request_edits=(edit("x"),)), WeightedCluster("a", 3))
    route = compiled(forward=Forward(ways))
    assert route.single is None
    assert [len(route.destination(lambda draw=draw: draw).request_edits) for draw in (0.0, 0.2, 0.25, 0.9)] == [
        1,
        1,
        0,
        0,
    ]
    assert compiled(forward=Forward((WeightedCluster("a", 1), WeightedCluster("a", 3)))).single == "a"


def test_limits_ask_what_the_route_says() -> None:
    """A rate limit without actions of its own has those of the route; its own go before them."""
    own, routes = RateLimitActions((GenericKey("own"),)), RateLimitActions((GenericKey("route"),))
    forward = Forward((WeightedCluster("a", 1),), rate_limits=(routes,))
    limits = (
        NamedFilter("l", LocalRateLimit(BUCKET)),
        NamedFilter("s", RateLimitService("d", "limiter")),
        NamedFilter("o", RateLimitService("d", "limiter", rate_limits=(own,))),
    )
    assert configs(compiled(*limits, forward=forward)) == [
        LocalRateLimit(BUCKET, rate_limits=(routes,)),
        RateLimitService("d", "limiter", rate_limits=(routes,)),
        RateLimitService("d", "limiter", rate_limits=(own,)),
    ]
