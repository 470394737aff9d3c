"""The request path: what a call takes or why it is held, for every state of configuration and connections."""

from __future__ import annotations

import threading

import pytest

from meshsdk.channel import routes, stack
from meshsdk.channel.stack import DRAINING, UNCONFIGURED, Hold, HoldKind, Target
from meshsdk.lb.backend import Connectivity
from meshsdk.model.endpoints import Endpoint
from meshsdk.model.policy import HashHeader, LbConfig, RingHash
from meshsdk.model.resources import Drop, NoForward, Route
from meshsdk.model.snapshot import BrokenCluster, Unresolvable
from tests.unit.channel.fakes import World, cluster, route, snapshot

READY, FAILED, IDLE, CONNECTING = Connectivity.READY, Connectivity.FAILED, Connectivity.IDLE, Connectivity.CONNECTING


class Fixture:
    """A target over fake links; `woken` counts how often waiting calls were woken."""

    def __init__(self) -> None:
        self.world = World()
        self.woken = 0
        self.target = Target("xds:///orders", "orders", self.world.around(), threading.RLock(), self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def take(self, method: str = "/s/m", metadata=None, request=None, channel_id: int = 1):
        """What a call gets."""
        return self.target.take(method, metadata, request, channel_id)

    def address(self, **more) -> str:
        """The address that a call gets."""
        taken = self.take(**more)
        assert not isinstance(taken, Hold), taken
        return taken[1].endpoint.address

    def ready(self, *addresses: str) -> None:
        """Connections come up."""
        self.world.set(READY, *addresses)
        self.target.refresh()


@pytest.fixture
def one() -> Fixture:
    """A target without configuration."""
    return Fixture()


def test_without_configuration(one):
    """Before the first configuration a call is held and waits, whatever it says of readiness."""
    assert one.take() is UNCONFIGURED
    assert [UNCONFIGURED.waits(ready) for ready in (None, False, True)] == [True] * 3
    assert one.target.connectivity() is CONNECTING


def test_unresolvable(one):
    """A target that cannot be used holds calls in its words; what was connected is let go."""
    one.target.adopt(snapshot(cluster("a:1")))
    one.target.adopt(Unresolvable("xds:///orders", "listener orders does not exist"))
    hold = one.take()
    assert hold.problem == "listener orders does not exist"
    assert not hold.waits(None)
    assert one.target.connectivity() is FAILED
    assert len(one.world.pool) == 0
    one.target.adopt(snapshot(cluster("a:1")))
    one.ready()
    assert one.address() == "a:1"


def test_connecting_then_ready(one):
    """Calls wait while endpoints are connected to, and are woken when one is."""
    one.target.adopt(snapshot(cluster("a:1", "b:1")))
    hold = one.take()
    assert hold.kind is HoldKind.CONNECTING
    assert hold.waits(None)
    assert one.target.connectivity() is CONNECTING
    before = one.woken
    one.ready("b:1")
    assert one.woken == before + 1
    assert one.address() == "b:1"
    assert one.target.connectivity() is READY
    one.target.refresh()
    assert one.woken == before + 1


def test_nothing_usable(one):
    """When every endpoint has failed only calls that wait for ready wait."""
    one.target.adopt(snapshot(cluster("a:1")))
    one.world.set(FAILED)
    one.target.refresh()
    hold = one.take()
    assert hold.kind is HoldKind.FAILING
    assert (hold.waits(None), hold.waits(False), hold.waits(True)) == (False, False, True)
    assert one.target.connectivity() is FAILED


def test_no_route(one):
    """A call that no route matches is refused at once, even one that waits for ready (A28)."""
    one.target.adopt(snapshot(cluster("a:1"), routes=[route("c", prefix="/other/")]))
    one.ready()
    hold = one.take()
    assert (hold.kind, hold.waits(True)) == (HoldKind.REFUSED, False)
    assert "/s/m" in hold.problem
    assert one.address(method="/other/m") == "a:1"


def test_route_that_is_not_for_clients(one):
    """A route without forwarding refuses in its words."""
    refusing = Route("r", route("c").match, NoForward("redirects are not for clients"))
    one.target.adopt(snapshot(cluster("a:1"), routes=[refusing]))
    assert one.take() == Hold(HoldKind.REFUSED, "redirects are not for clients")


def test_broken_cluster(one):
    """A broken cluster fails the calls routed to it and no others (A74)."""
    ways = [route("bad", prefix="/bad/"), route("c")]
    one.target.adopt(snapshot(cluster("a:1"), BrokenCluster("bad", "no such cluster"), routes=ways))
    one.ready()
    assert one.take("/bad/m") == Hold(HoldKind.FAILING, "no such cluster")
    assert one.address() == "a:1"


def test_drops(one):
    """Calls that the endpoints' policy drops are refused with the category (A32)."""
    one.target.adopt(snapshot(cluster("a:1", drops=[Drop("overload", 1_000_000)])))
    one.ready()
    hold = one.take()
    assert (hold.kind, "overload" in hold.problem) == (HoldKind.REFUSED, True)


def test_weighted_clusters(one):
    """A route with two clusters uses both."""
    ways = [route("c", "d")]
    one.target.adopt(snapshot(cluster("a:1"), cluster("b:1", name="d"), routes=ways))
    one.ready()
    assert {one.address() for _ in range(100)} == {"a:1", "b:1"}


def test_hash_is_of_the_call(one):
    """With a hash policy the call's own metadata says where it goes."""
    lb = LbConfig(RingHash())
    addresses = [f"{name}:1" for name in "abcdef"]
    ways = [route("c", hash_policies=(HashHeader("user"),))]
    one.target.adopt(snapshot(cluster(*addresses, lb=lb), routes=ways))
    one.ready()
    homes = {}
    for user in range(30):
        seen = {one.address(metadata=(("user", str(user)),)) for _ in range(5)}
        assert len(seen) == 1
        homes[user] = seen.pop()
    assert len(set(homes.values())) > 2


def test_connection_gone_since_the_last_look(one):
    """A pick whose connection has just gone looks again at once: the call goes elsewhere without waiting."""
    one.target.adopt(snapshot(cluster("a:1", "b:1")))
    one.ready()
    one.world.set(IDLE, "a:1")
    assert {one.address() for _ in range(10)} == {"b:1"}


def test_all_connections_gone_since_the_last_look(one):
    """When all have just gone the call waits for the monitor."""
    one.target.adopt(snapshot(cluster("a:1", "b:1")))
    one.ready()
    one.world.set(IDLE)
    assert one.take().kind is HoldKind.CONNECTING


def test_update_keeps_connections(one):
    """A configuration that keeps a cluster keeps its connections; a cluster that goes takes them along."""
    ways = [route("d", prefix="/d/"), route("c")]
    one.target.adopt(snapshot(cluster("a:1"), cluster("b:1", name="d"), routes=ways))
    one.ready()
    one.target.adopt(snapshot(cluster("a:1", "c:1"), routes=[route("c")]))
    assert one.address() == "a:1"
    assert len(one.world.links) == 3
    one.world.pool.sweep(one.world.now + 100)
    assert one.world.open == {"a:1", "c:1"}


def test_lanes_follow_the_configuration(one):
    """What was remembered of a method does not outlive the configuration that it came from."""
    one.target.adopt(snapshot(cluster("a:1")))
    one.ready()
    assert one.address() == "a:1"
    assert "/s/m" in one.target.routes.lanes
    one.target.adopt(snapshot(cluster("b:1", name="d")))
    one.ready()
    assert one.address() == "b:1"


def test_lanes_are_bounded(one, monkeypatch):
    """A program that makes up method names does not fill the memory, and its calls still go."""
    monkeypatch.setattr(routes, "_MAX_LANES", 3)
    one.target.adopt(snapshot(cluster("a:1")))
    one.ready()
    assert {one.address(method=f"/s/{number}") for number in range(10)} == {"a:1"}
    assert len(one.target.routes.lanes) == 3


def test_many_clusters_connect_at_need(one, monkeypatch):
    """Beyond the eager ones a cluster connects at its first call."""
    monkeypatch.setattr(stack, "_EAGER_CLUSTERS", 1)
    ways = [route("d", prefix="/d/"), route("c")]
    one.target.adopt(snapshot(cluster("a:1"), cluster("b:1", name="d"), routes=ways))
    assert one.world.open == {"a:1"}
    assert one.take("/d/m").kind is HoldKind.CONNECTING
    assert one.world.open == {"a:1", "b:1"}


def test_announced_end_is_noticed(one):
    """Trailing metadata with the announcement moves new calls at once; other metadata does not."""
    one.target.adopt(snapshot(cluster("a:1", "b:1")))
    one.ready()
    _, backend = one.take()
    one.target.noticed(backend.connection, [("other", "1")])
    assert {one.address() for _ in range(10)} == {"a:1", "b:1"}
    one.target.noticed(backend.connection, [(DRAINING, "1")])
    assert {one.address() for _ in range(10)} == {"a:1", "b:1"} - {backend.endpoint.address}


def test_close(one):
    """A closed target cuts its connections, holds calls for good and wakes those that wait."""
    one.target.adopt(snapshot(cluster("a:1")))
    before = one.woken
    one.target.close()
    assert one.woken == before + 1
    assert one.world.open == set()
    hold = one.take()
    assert (hold.kind, hold.waits(True)) == (HoldKind.CLOSED, False)


def test_endpoint_attributes_reach_the_call(one):
    """The forward of the route and the endpoint of the cluster come with the backend."""
    ways = [route("c", max_duration=3.0)]
    one.target.adopt(snapshot(cluster(Endpoint("a:1", weight=7)), routes=ways))
    one.ready()
    lane, backend = one.take()
    assert (lane.forward.max_duration, backend.endpoint.weight) == (3.0, 7)
