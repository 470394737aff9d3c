"""Plans: made for ways that use something, of what holds there; state stays while its configuration does."""

from __future__ import annotations

import dataclasses
import gc

import pytest

from meshsdk.channel.plan import compile_plans, limited_alike
from meshsdk.channel.shared import Shared
from meshsdk.model.filters import AdaptiveConcurrency, Fault, HeaderEdit, NamedFilter, StatefulSession
from meshsdk.model.matching import HeaderMatch, PresentMatch
from meshsdk.model.policy import CircuitBreakers, Hedging, Mirror, RetryPolicy
from meshsdk.model.resources import Listener, WeightedCluster
from meshsdk.model.snapshot import BrokenCluster, ResolvedCluster
from meshsdk.routing.router import RouteTable
from tests.unit.channel.fakes import cluster, route, snapshot

EDIT = HeaderEdit("key", "value")
CODES = frozenset({"UNAVAILABLE"})
FAULT = Fault(abort_code="ABORTED", abort_share=0.5)


def plans(made, shared: Shared | None = None):
    """The plans of a snapshot, in the order of its ways."""
    table = RouteTable(made.virtual_host, made.listener.http_filters)
    found = compile_plans(made, table.routes, shared or Shared())
    return [found.get(id(way)) for one in table.routes for way in one.destinations]


def limited(limits: CircuitBreakers | None) -> ResolvedCluster:
    """A cluster with limits."""
    plain = cluster("a:1")
    made = dataclasses.replace(plain.cluster, breakers=limits)
    return ResolvedCluster(made, tuple(dataclasses.replace(leaf, cluster=made) for leaf in plain.leaves))


@pytest.mark.parametrize(
    "forward",
    [{}, {"retry": RetryPolicy(CODES, avoid_previous=True)}, {"max_duration": 3.0}, {"high_priority": True}],
)
def test_nothing_to_plan(forward):
    """What fast paths can do has no plan: retries after failures, caps."""
    assert plans(snapshot(cluster("a:1"), routes=[route("c", **forward)])) == [None]


@pytest.mark.parametrize(
    "forward",
    [
        {"retry": RetryPolicy(CODES, per_try_timeout=1.0)},
        {"retry": RetryPolicy(CODES, retriable_headers=(HeaderMatch("x", PresentMatch(True)),))},
        {"hedging": Hedging(2, 0.1)},
        {"mirrors": (Mirror("d"),)},
        {"request_edits": (EDIT,)},
        {"response_edits": (EDIT,)},
    ],
)
def test_something_to_plan(forward):
    """What concerns an attempt before it has failed has a plan."""
    (plan,) = plans(snapshot(cluster("a:1"), routes=[route("c", **forward)]))
    assert plan is not None


def test_limits():
    """A cluster's limits are a breaker of the mesh, by the leaf cluster that has them."""
    shared = Shared()
    (plan,) = plans(snapshot(limited(CircuitBreakers())), shared)
    assert plan is not None
    assert dict(plan.breakers) == {"c": next(iter(shared.breakers))}
    assert plans(snapshot(limited(CircuitBreakers(*[2**32 - 1] * 4)))) == [None]


def filtered(*filters: NamedFilter, **more):
    """A snapshot whose listener has these filters."""
    made = snapshot(cluster("a:1"), cluster("b:1", name="d"), **more)
    return dataclasses.replace(made, listener=Listener("orders", http_filters=filters))


def test_gates_of_a_listener():
    """All ways that share a listener's filter share its gate; a session is no gate."""
    session = StatefulSession("cookie")
    made = filtered(NamedFilter("f", FAULT), NamedFilter("s", session), routes=[route("c"), route("d")])
    one, two = plans(made)
    assert one.gates == two.gates
    assert len(one.gates) == 1
    assert one.session == session


def test_gates_of_overrides():
    """An override has a gate of its own wherever it stands, and takes a gate off where it says so."""
    other = dataclasses.replace(FAULT, abort_share=0.25)
    first = dataclasses.replace(route("c", prefix="/x/"), filters={"f": other})
    second = dataclasses.replace(route("c", prefix="/y/"), filters={"f": other})
    off = dataclasses.replace(route("c", prefix="/z/"), filters={"f": None})
    split = route("c", "d")
    ways = (WeightedCluster("c", 1, {"f": other}), WeightedCluster("d", 1))
    split = dataclasses.replace(split, action=dataclasses.replace(split.action, clusters=ways))
    found = plans(filtered(NamedFilter("f", FAULT), routes=[first, second, off, split]))
    assert found[2] is None
    gates = [plan.gates[0] for plan in (found[0], found[1], found[3], found[4])]
    assert len({id(gate) for gate in gates}) == 4


def test_gates_stay():
    """A gate is made anew when its configuration changes, and not when something else does."""
    shared, named = Shared(), NamedFilter("f", AdaptiveConcurrency())
    first = plans(filtered(named), shared)
    second = plans(filtered(named, NamedFilter("g", FAULT)), shared)
    assert second[0].gates[0] is first[0].gates[0]
    third = plans(filtered(NamedFilter("f", AdaptiveConcurrency(max_limit=5))), shared)
    assert third[0].gates[0] is not first[0].gates[0]
    del first, second
    gc.collect()
    assert plans(filtered(named), shared)[0].gates


def test_limited_alike():
    """Plans hold over changes of endpoints, and not over changes of limits."""
    one = snapshot(limited(CircuitBreakers()))
    assert limited_alike(one, snapshot(limited(CircuitBreakers())))
    assert not limited_alike(one, snapshot(limited(None)))
    assert not limited_alike(one, snapshot(limited(CircuitBreakers()), cluster("b:1", name="d")))
    assert not limited_alike(one, snapshot(BrokenCluster("c", "gone")))
