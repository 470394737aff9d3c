"""Endpoints that only sessions ask for: connected when one does, let go of when none has for a while."""

from __future__ import annotations

import pytest

from meshsdk.channel import pins
from meshsdk.channel.balancer import ClusterBalancer
from meshsdk.lb.backend import Connectivity
from meshsdk.model.endpoints import Endpoint, Health
from meshsdk.model.policy import LbConfig
from tests.unit.channel.fakes import World, cluster

DRAINING = Endpoint("d:1", health=Health.DRAINING)
KEPT = LbConfig(draining_sessions=True)


def made(world: World, *endpoints, lb: LbConfig | None = KEPT) -> ClusterBalancer:
    """A balancer of these endpoints, all connected."""
    balancer = ClusterBalancer(cluster(*endpoints, lb=lb), "orders", world.around(), eager=True)
    world.set(Connectivity.READY)
    balancer.refresh()
    return balancer


def test_an_endpoint_of_the_pickers_is_given_at_once() -> None:
    """No second connection is made for a session."""
    world = World()
    balancer = made(world, "a:1", "b:1")
    found = balancer.at("a:1")
    assert found is not None
    assert found.endpoint.address == "a:1"
    assert balancer.at("x:1") is None
    assert not balancer.has("x:1")
    assert balancer.pin("x:1") is None
    assert len(world.links) == 2


def test_an_endpoint_that_no_picker_uses_is_connected_to() -> None:
    """The call waits while it connects; the look that finds it connected says that something moved."""
    world = World()
    balancer = made(world, "a:1", DRAINING)
    assert world.open == {"a:1"}
    assert balancer.at("d:1") is None
    assert balancer.has("d:1")
    backend = balancer.pin("d:1")
    assert backend is not None
    assert backend.state is Connectivity.CONNECTING
    assert not balancer.settled
    assert balancer.pin("d:1") is balancer.at("d:1") is backend
    world.set(Connectivity.READY)
    assert balancer.refresh()
    assert backend.state is Connectivity.READY
    assert balancer.settled
    assert backend.tally.place.cluster == "c"


def test_an_endpoint_that_drains_is_for_sessions_only_where_that_is_said() -> None:
    """Without DRAINING in `override_host_status` a session leaves it, whoever announced the drain."""
    world = World()
    balancer = made(world, "a:1", DRAINING, lb=None)
    assert balancer.pin("d:1") is None
    announced = balancer.at("a:1")
    assert announced is not None
    announced.connection.draining = True
    assert balancer.at("a:1") is None


@pytest.mark.parametrize("health", [Health.UNHEALTHY, Health.DEGRADED])
def test_an_unhealthy_endpoint_is_for_nobody(health: Health) -> None:
    """A session leaves it."""
    assert made(World(), "a:1", Endpoint("d:1", health=health)).pin("d:1") is None


def test_an_endpoint_that_cannot_be_connected_to_is_left() -> None:
    """Once an attempt has failed, the call goes elsewhere."""
    world = World()
    balancer = made(world, "a:1", DRAINING)
    balancer.pin("d:1")
    world.set(Connectivity.FAILED, "d:1")
    assert balancer.refresh()
    assert balancer.at("d:1") is None


def test_it_is_let_go_of_when_no_call_asks() -> None:
    """60 s after the last call that asked, and not while one runs on it."""
    world = World()
    balancer = made(world, "a:1", DRAINING)
    backend = balancer.pin("d:1")
    assert backend is not None
    world.set(Connectivity.READY)
    for _ in range(3):
        world.now += 59
        balancer.refresh()
        assert balancer.at("d:1") is backend
    backend.connection.begin(None)
    world.now += 61
    balancer.refresh()
    assert list(balancer._pins) == [backend]
    backend.connection.end()
    balancer.refresh()
    assert list(balancer._pins) == []
    world.pool.sweep(world.now)
    world.pool.sweep(world.now + 10)
    assert world.open == {"a:1"}


def test_their_number_is_bounded(monkeypatch) -> None:
    """Cookies cannot make a client connect to all of a large cluster."""
    monkeypatch.setattr(pins, "_MOST", 2)
    world = World()
    others = [Endpoint(f"d:{number}", health=Health.DRAINING) for number in range(3)]
    balancer = made(world, "a:1", *others)
    assert [balancer.pin(one.address) is not None for one in others] == [True, True, False]


def test_with_the_endpoint_goes_the_pin() -> None:
    """As does everything at the close."""
    world = World()
    balancer = made(world, "a:1", DRAINING, Endpoint("e:1", health=Health.DRAINING))
    balancer.pin("d:1")
    balancer.pin("e:1")
    balancer.update(cluster("a:1", Endpoint("e:1", health=Health.DRAINING), lb=KEPT))
    assert [one.endpoint.address for one in balancer._pins] == ["e:1"]
    balancer.close(cut=True)
    assert world.open == {"d:1"}  # it finishes its calls; the others are cut
