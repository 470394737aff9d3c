"""Which clusters a target's calls may ask for."""

from __future__ import annotations

from meshsdk.model.filters import Fault, NamedFilter, RateLimitService
from meshsdk.model.matching import PathKind, PathMatch, RouteMatch
from meshsdk.model.policy import Mirror
from meshsdk.model.resources import Forward, Listener, NoForward, Route, VirtualHost, WeightedCluster
from meshsdk.xds_client.named_clusters import named_clusters

EVERY = RouteMatch(PathMatch(PathKind.PREFIX, ""))


def test_routes_mirrors_and_services() -> None:
    """Clusters of routes come first, in their order, then those of mirrors, then rate limit services; each once."""
    first = Forward((WeightedCluster("b", 1), WeightedCluster("a", 1)), mirrors=(Mirror("m"), Mirror("a")))
    second = Forward((WeightedCluster("c", 1), WeightedCluster("b", 1)))
    routes = tuple(Route("r", EVERY, action) for action in (first, NoForward("no"), second))
    filters = (
        NamedFilter("l", RateLimitService("d", "limiter")),
        NamedFilter("f", Fault()),
        NamedFilter("t", RateLimitService("d", target="10.0.0.1:1")),
    )
    listener = Listener("x", "x", http_filters=filters)
    assert list(named_clusters(listener, VirtualHost("h", ("*",), routes))) == ["b", "a", "c", "m", "limiter"]


def test_services_that_a_route_brings() -> None:
    """A filter that is off in the listener may be on in a route; what overrides no filter of it is nothing."""
    listener = Listener("x", "x", http_filters=(NamedFilter("l", None),))
    cluster = WeightedCluster("a", 1, {"l": RateLimitService("d", "third"), "other": RateLimitService("d", "fourth")})
    route = Route("r", EVERY, Forward((cluster,)), {"l": RateLimitService("d", "second")})
    host = VirtualHost("h", ("*",), (route,), {"l": RateLimitService("d", "first")})
    assert list(named_clusters(listener, host)) == ["a", "first", "second", "third"]
