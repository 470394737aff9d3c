"""The pool: who shares a connection, when it closes, and how a backend follows its state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.channel.pool import _IDLE_BEFORE_CLOSE, PooledBackend, endpoint_target
from meshsdk.lb.backend import Connectivity
from meshsdk.model.endpoints import Endpoint
from tests.unit.channel.fakes import World

IDLE, CONNECTING, READY, FAILED = Connectivity.IDLE, Connectivity.CONNECTING, Connectivity.READY, Connectivity.FAILED


@pytest.mark.parametrize(
    ("address", "dialled"),
    [
        ("10.0.0.1:80", "ipv4:10.0.0.1:80"),
        ("[::1]:80", "ipv6:[::1]:80"),
        ("dns:///orders:80", "dns:///orders:80"),
        ("unix:/run/orders", "unix:/run/orders"),
        ("unix-abstract:orders", "unix-abstract:orders"),
        ("orders.svc-1.my_net:80", "dns:///orders.svc-1.my_net:80"),
        ("unix:80", "dns:///unix:80"),
        ("dns:80", "dns:///dns:80"),
    ],
)
def test_what_is_dialled(address, dialled):
    """Addresses are dialled without a resolver, names with one; what has a scheme keeps it."""
    assert endpoint_target(address) == dialled


def test_one_connection_for_all_users():
    """Users of one address and authority share a connection; another authority gets its own."""
    world = World()
    first, second = world.pool.acquire("a:1", "orders"), world.pool.acquire("a:1", "orders")
    other = world.pool.acquire("a:1", "users")
    assert first is second
    assert first is not other
    assert [(link.address, link.authority) for link in world.links] == [("a:1", "orders"), ("a:1", "users")]
    assert len(world.pool) == 2


def test_last_user_lets_it_leave():
    """A connection leaves with its last user, closes once it has been idle for a while, and is dialled anew after."""
    world = World()
    connection = world.pool.acquire("a:1", "orders")
    world.pool.acquire("a:1", "orders")
    world.pool.release(connection, world.now)
    assert not world.pool.sweep(world.now + 100)
    assert world.open == {"a:1"}
    world.pool.release(connection, world.now)
    assert len(world.pool) == 0
    assert world.pool.sweep(world.now + _IDLE_BEFORE_CLOSE - 0.1)
    assert world.open == {"a:1"}
    assert not world.pool.sweep(world.now + _IDLE_BEFORE_CLOSE)
    assert world.open == set()
    assert world.pool.acquire("a:1", "orders") is not connection


def test_calls_keep_a_leaving_connection():
    """A connection that left stays open while a call runs on it, and the while begins when the last one ended."""
    world = World()
    connection = world.pool.acquire("a:1", "orders")
    connection.begin(None)
    world.pool.release(connection, world.now)
    assert world.pool.sweep(world.now + 1000)
    connection.end()
    assert world.pool.sweep(world.now + 1000 + _IDLE_BEFORE_CLOSE / 2)
    assert world.open == {"a:1"}
    assert not world.pool.sweep(world.now + 1000 + _IDLE_BEFORE_CLOSE)
    assert world.open == set()


def test_address_that_comes_back_while_leaving():
    """An address that is needed again gets a new connection; the old one still closes, once."""
    world = World()
    old = world.pool.acquire("a:1", "orders")
    world.pool.release(old, world.now)
    new = world.pool.acquire("a:1", "orders")
    assert new is not old
    world.pool.sweep(world.now + 1000)
    assert [link.closed for link in world.links] == [True, False]


def test_cut_closes_at_once():
    """A cut connection closes with calls running."""
    world = World()
    connection = world.pool.acquire("a:1", "orders")
    connection.begin(None)
    world.pool.release(connection, world.now, cut=True)
    assert world.open == set()
    assert not world.pool.sweep(world.now)


def test_close_closes_everything():
    """Closing the pool closes what is used and what is leaving."""
    world = World()
    leaving = world.pool.acquire("a:1", "orders")
    world.pool.acquire("b:1", "orders")
    world.pool.release(leaving, world.now)
    world.pool.close()
    assert world.open == set()
    assert len(world.pool) == 0
    assert not world.pool.sweep(world.now + 1000)


def test_forget_closes_nothing():
    """After a fork the links belong to the parent."""
    world = World()
    world.pool.acquire("a:1", "orders")
    world.pool.forget()
    assert world.open == {"a:1"}
    assert len(world.pool) == 0


def test_abandon_lets_links_go():
    """With its event loop a link goes at once, though balancers and calls still hold the connection."""
    world = World()
    held, leaving = world.pool.acquire("a:1", "orders"), world.pool.acquire("b:1", "orders")
    world.pool.release(leaving, world.now)
    links = [held.link, leaving.link]
    world.pool.abandon()
    assert world.open == {"a:1", "b:1"}  # a closed loop closes nothing
    assert held.link not in links
    assert leaving.link not in links
    assert (held.ready(), held.probe(), len(world.pool)) == (False, FAILED, 0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["acquire", "release", "call", "end", "sweep"]))))
def test_no_connection_leaks_or_closes_early(steps):
    """Whatever the order: a used connection and one with calls is open, and in the end each was closed exactly once."""
    world = World()
    held: list = []
    running: list = []
    for address, step in steps:
        world.now += 1.0
        if step == "acquire":
            held.append(world.pool.acquire(address, "orders"))
        elif step == "release" and held:
            world.pool.release(held.pop(), world.now)
        elif step == "call" and held:
            held[-1].begin(None)
            running.append(held[-1])
        elif step == "end" and running:
            running.pop().end()
        elif step == "sweep":
            world.now += 60
            world.pool.sweep(world.now)
        for connection in (*held, *running):
            assert not connection.link.closed
    for connection in running:
        connection.end()
    for connection in held:
        world.pool.release(connection, world.now)
    world.now += 60
    world.pool.sweep(world.now)
    assert not world.pool.sweep(world.now + 60)
    assert world.open == set()


@pytest.mark.parametrize(
    ("before", "seen", "after", "changed"),
    [
        (IDLE, CONNECTING, CONNECTING, True),
        (CONNECTING, READY, READY, True),
        (READY, READY, READY, False),
        (READY, IDLE, IDLE, True),
        (CONNECTING, FAILED, FAILED, True),
        (FAILED, CONNECTING, FAILED, False),
        (FAILED, IDLE, FAILED, False),
        (FAILED, READY, READY, True),
    ],
)
def test_backend_follows(before, seen, after, changed):
    """A backend follows its connection; FAILED lasts until READY, whatever is tried meanwhile (gRFC A62)."""
    world = World()
    backend = PooledBackend(Endpoint("a:1"), world.pool.acquire("a:1", "orders"))
    backend.state = before
    assert backend.follow(seen) is changed
    assert backend.state is after


def test_backends_share_the_count_of_calls():
    """Backends of two clusters over one connection count the same calls."""
    world = World()
    connection = world.pool.acquire("a:1", "orders")
    one, two = PooledBackend(Endpoint("a:1"), connection), PooledBackend(Endpoint("a:1", weight=2), connection)
    connection.begin(None)
    assert (one.in_flight, two.in_flight) == (1, 1)
    connection.end()
    assert (one.in_flight, two.in_flight) == (0, 0)


def test_announced_end_lasts_until_the_connection_breaks():
    """A peer that announced its end counts anew once its connection was gone."""
    world = World()
    connection = world.pool.acquire("a:1", "orders")
    world.set(READY)
    connection.draining = True
    connection.probe()
    assert connection.draining
    world.set(IDLE)
    connection.probe()
    assert not connection.draining
