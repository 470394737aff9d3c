"""The balancer of one cluster: what it connects to, when its picker changes, what draining does."""

from __future__ import annotations

import pytest

from meshsdk.channel.balancer import ClusterBalancer
from meshsdk.lb.backend import Connectivity
from meshsdk.lb.picker import Failing, Picker, Waiting
from meshsdk.model.endpoints import Endpoint, Health
from meshsdk.model.policy import LbConfig, PickFirst, RingHash, SlowStart
from meshsdk.model.resources import Drop
from tests.unit.channel.fakes import World, cluster

READY, FAILED, IDLE = Connectivity.READY, Connectivity.FAILED, Connectivity.IDLE


def made(world: World, *addresses, eager: bool = True, **more) -> ClusterBalancer:
    """A balancer of a cluster with these endpoints."""
    return ClusterBalancer(cluster(*addresses, **more), "orders", world.around(), eager=eager)


def picks(balancer: ClusterBalancer, count: int = 20) -> set[str]:
    """The addresses that so many picks gave."""
    assert isinstance(balancer.picker, Picker)
    return {balancer.picker.pick(None).endpoint.address for _ in range(count)}


def test_connects_ahead_of_need():
    """All endpoints are dialled at once; calls wait until the first is connected, then go there alone."""
    world = World()
    balancer = made(world, "a:1", "b:1")
    assert world.open == {"a:1", "b:1"}
    assert isinstance(balancer.picker, Waiting)
    assert balancer.pick is None
    assert not balancer.refresh()
    world.set(READY, "b:1")
    assert balancer.refresh()
    assert picks(balancer) == {"b:1"}
    assert balancer.pick == balancer.picker.pick
    assert not balancer.settled
    world.set(READY)
    assert balancer.refresh()
    assert picks(balancer) == {"a:1", "b:1"}
    assert balancer.settled
    assert not balancer.refresh()


def test_lazy_until_woken():
    """A balancer that is not eager dials nothing before its first call, and then what the latest version says."""
    world = World()
    balancer = made(world, "a:1", eager=False)
    balancer.update(cluster("b:1"))
    assert world.open == set()
    assert not balancer.refresh()
    balancer.wake()
    assert world.open == {"b:1"}
    balancer.wake()
    assert len(world.links) == 1


def test_all_failed():
    """When every endpoint has failed the picker says so, until one is connected."""
    world = World()
    balancer = made(world, "a:1", "b:1")
    world.set(FAILED)
    assert balancer.refresh()
    assert isinstance(balancer.picker, Failing)
    world.set(READY, "a:1")
    balancer.refresh()
    assert picks(balancer) == {"a:1"}


def test_connection_that_breaks():
    """A backend whose connection breaks gets no picks while another is connected."""
    world = World()
    balancer = made(world, "a:1", "b:1")
    world.set(READY)
    balancer.refresh()
    world.set(IDLE, "a:1")
    assert balancer.refresh()
    assert picks(balancer) == {"b:1"}


def test_update_keeps_what_stays():
    """An update dials what came, lets go of what left, and keeps the connection of what stays."""
    world = World()
    balancer = made(world, "a:1", "b:1")
    kept = world.link("b:1")
    balancer.update(cluster("b:1", "c:1"))
    assert len(world.pool) == 2
    assert world.link("b:1") is kept
    world.pool.sweep(world.now + 100)
    assert world.open == {"b:1", "c:1"}


def test_update_that_changes_nothing():
    """An equal version changes nothing."""
    world = World()
    balancer = made(world, "a:1")
    picker = balancer.picker
    balancer.update(cluster("a:1"))
    assert balancer.picker is picker


def test_update_of_an_endpoint():
    """A changed endpoint keeps its connection and takes its new health at once."""
    world = World()
    balancer = made(world, "a:1", "b:1")
    world.set(READY)
    balancer.refresh()
    balancer.update(cluster(Endpoint("a:1", health=Health.DRAINING), "b:1"))
    assert picks(balancer) == {"b:1"}
    assert len(world.links) == 2


def test_announced_end_is_the_last_resort():
    """A peer that announced its end gets no picks while another is connected, and gets them when none is."""
    world = World()
    balancer = made(world, "a:1", "b:1")
    world.set(READY)
    balancer.refresh()
    world.pool.acquire("a:1", "orders").draining = True
    assert balancer.refresh()
    assert picks(balancer) == {"b:1"}
    world.set(FAILED, "b:1")
    assert balancer.refresh()
    assert picks(balancer) == {"a:1"}
    world.set(READY, "b:1")
    balancer.refresh()
    assert picks(balancer) == {"b:1"}


@pytest.mark.parametrize(
    ("meanwhile", "after"),
    [
        ([Endpoint("a:1", health=Health.DRAINING)], Endpoint("a:1")),
        ([], Endpoint("a:1", started_at=2.0)),
    ],
    ids=["drained", "started anew"],
)
def test_an_announced_end_that_is_off(meanwhile, after):
    """A peer announced its end and is online again, as the registry says: it gets picks beside the other at once."""
    world = World()
    balancer = made(world, "a:1", "b:1")
    world.set(READY)
    world.pool.acquire("a:1", "orders").draining = True
    balancer.refresh()
    for endpoint in meanwhile:
        balancer.update(cluster(endpoint, "b:1"))
    assert picks(balancer) == {"b:1"}
    balancer.update(cluster(after, "b:1"))
    balancer.refresh()
    assert picks(balancer) == {"a:1", "b:1"}


def test_an_announced_end_that_never_came():
    """A peer serves on though nobody says that it is back (no registry): after a minute it gets picks again."""
    world = World()
    balancer = made(world, "a:1", "b:1")
    world.set(READY)
    world.pool.acquire("a:1", "orders").draining = True
    balancer.refresh()
    balancer.update(cluster("a:1", Endpoint("b:1", weight=2)))  # something else changed
    world.now += 59
    balancer.refresh()
    assert picks(balancer) == {"b:1"}
    world.now += 1
    assert balancer.refresh()
    assert picks(balancer) == {"a:1", "b:1"}


def test_all_announce_their_end():
    """When all peers announced their end, all are picked."""
    world = World()
    balancer = made(world, "a:1", "b:1")
    world.set(READY)
    for address in ("a:1", "b:1"):
        world.pool.acquire(address, "orders").draining = True
    balancer.refresh()
    assert picks(balancer) == {"a:1", "b:1"}


@pytest.mark.parametrize(
    ("more", "hashes"), [({"lb": LbConfig(RingHash())}, True), ({"drops": (Drop("load", 1),)}, False)]
)
def test_calls_that_must_ask_more(more, hashes):
    """With a hash policy or with drops there is no bare pick for calls to take."""
    world = World()
    balancer = made(world, "a:1", **more)
    world.set(READY)
    balancer.refresh()
    assert isinstance(balancer.picker, Picker)
    assert balancer.pick is None
    assert balancer.hashes is hashes


def test_pick_first_dials_one_by_one():
    """With pick_first the second endpoint is dialled only once the first has failed."""
    world = World()
    balancer = made(world, "a:1", "b:1", lb=LbConfig(PickFirst()))
    (first,) = world.open
    world.set(FAILED, first)
    balancer.refresh()
    assert world.open == {"a:1", "b:1"}


def test_slow_start_rebuilds_in_time():
    """A picker that expires is built again when its time has come, not before."""
    world = World()
    started = world.now
    lb = LbConfig(slow_start=SlowStart(window=30.0))
    balancer = made(world, Endpoint("a:1", started_at=1.0), Endpoint("b:1", started_at=started), lb=lb)
    world.set(READY)
    balancer.refresh()
    expires = balancer.picker.expires
    assert expires is not None
    world.now = expires - 0.01
    assert not balancer.refresh()
    world.now = expires
    assert balancer.refresh()


def test_close_lets_go():
    """A closed balancer holds nothing; `cut` closes its connections at once."""
    for cut, left in ((True, set()), (False, {"a:1"})):
        world = World()
        balancer = made(world, "a:1")
        balancer.close(cut=cut)
        assert len(world.pool) == 0
        assert world.open == left
