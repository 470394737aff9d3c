"""The scope: who watches a target for how long, and how often its monitor looks."""

from __future__ import annotations

import pytest

from meshsdk.channel import scope as scope_module
from meshsdk.lb.backend import Connectivity
from tests.unit.channel.fakes import FakeSource, PlainScope, World, cluster, snapshot

NAME = "xds:///orders"


@pytest.fixture
def world() -> World:
    """Fake links."""
    return World()


@pytest.fixture
def source() -> FakeSource:
    """Watches by target."""
    return FakeSource()


@pytest.fixture
def scope(world, source) -> PlainScope:
    """A scope without a monitor."""
    return PlainScope(world, source)


def test_channels_share_a_target(scope, source):
    """Channels of one name share one target and one watch; it ends with the last of them, and its connections close."""
    first, second = scope.open(NAME, "orders"), scope.open(NAME, "orders")
    assert first is second
    (watch,) = source.watches[NAME]
    watch.deliver(snapshot(cluster("a:1")))
    scope.release(NAME)
    assert not watch.cancelled
    assert len(scope.pool) == 1
    scope.release(NAME)
    assert watch.cancelled
    assert len(scope.pool) == 0
    scope.release(NAME)


def test_target_that_is_opened_again(scope, source):
    """After the last channel has closed, the next one gets a new target and a new watch."""
    first = scope.open(NAME, "orders")
    scope.release(NAME)
    assert scope.open(NAME, "orders") is not first
    assert [watch.cancelled for watch in source.watches[NAME]] == [True, False]


def test_late_delivery_to_a_closed_target_dials_nothing(scope, source, world):
    """A configuration that was on its way when the last channel closed connects to nothing."""
    scope.open(NAME, "orders")
    scope.release(NAME)
    source.watches[NAME][0].deliver(snapshot(cluster("a:1")))
    assert world.open == set()


def test_dropped_channel_is_released_at_the_next_look(scope, source):
    """A channel that was collected without close is released by the monitor, and waiting calls are woken."""
    scope.open(NAME, "orders")
    scope.open(NAME, "orders")
    scope.dropped.append(NAME)
    assert not source.watches[NAME][0].cancelled
    scope.look()
    assert not source.watches[NAME][0].cancelled
    woken = scope.woken
    scope.dropped.extend([NAME, NAME])  # one more than there were: no harm
    scope.look()
    assert source.watches[NAME][0].cancelled
    assert scope.woken > woken
    assert not scope.dropped


def test_looks_slow_down(scope, source, world):
    """Looks come quickly while connections are made, more slowly each time, and rarely once all are up."""
    scope.open(NAME, "orders")
    source.watches[NAME][0].deliver(snapshot(cluster("a:1")))
    rests = [scope.look() for _ in range(30)]
    assert rests[0] < scope_module._LONGEST
    assert rests[-1] >= scope_module._LONGEST
    scope._hurry()
    assert scope._delay == scope_module._SHORTEST
    world.set(Connectivity.READY)
    assert scope.look() >= scope_module._LONGEST


def test_look_follows_connections(scope, source, world):
    """A look wakes waiting calls when a connection has come up."""
    target = scope.open(NAME, "orders")
    source.watches[NAME][0].deliver(snapshot(cluster("a:1")))
    world.set(Connectivity.READY)
    woken = scope.woken
    scope.look()
    assert scope.woken == woken + 1
    assert target.connectivity() is Connectivity.READY


def test_close(scope, source, world):
    """A closed scope watches nothing and has closed every connection."""
    scope.open(NAME, "orders")
    scope.open("xds:///users", "users")
    source.watches[NAME][0].deliver(snapshot(cluster("a:1")))
    scope.close()
    assert all(watch.cancelled for watches in source.watches.values() for watch in watches)
    assert world.open == set()
