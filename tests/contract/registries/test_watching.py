"""Watching: what a watcher is told, by application, by unit and of everything, the same for every adapter."""

from __future__ import annotations

import random
from dataclasses import replace

from meshsdk.discovery.registry import Lease
from meshsdk.model.instance import Increment, Instance, InstanceState
from tests.contract.registries.follower import Follower, ids
from tests.contract.registries.lab import Feature, needs
from tests.contract.registries.sample import ONE, OTHER, PLAIN, TWO, many
from tests.e2e.processes import until

TTL = 60.0


def test_a_watch_begins_with_all_there_is(lab):
    """The first increment is a reset with every instance; of an application that nobody knows it is empty."""
    lab.writer.register(ONE, TTL)
    lab.writer.register(PLAIN, TTL)
    registry = lab.open()
    follower, nobody = Follower(registry, "orders"), Follower(registry, "nobody")
    follower.wait_for(ONE, PLAIN)
    assert follower.log[0].reset
    nobody.wait_for(app="nobody")
    assert nobody.log == [Increment("nobody", reset=True)]


@needs(Feature.UNITS)
def test_a_watch_of_a_unit_sees_that_unit(lab):
    """Instances of other units and of none are not told of, neither at first nor later."""
    lab.writer.register(ONE, TTL)
    lab.writer.register(PLAIN, TTL)
    follower = Follower(lab.open(), "orders", "u2")
    follower.wait_for()
    lab.writer.register(TWO, TTL)
    follower.wait_for(TWO)
    third = replace(TWO, id="4")
    lab.writer.register(replace(ONE, id="5"), TTL)
    lab.writer.register(third, TTL)
    follower.wait_for(TWO, third)
    assert {instance.unit for increment in follower.log for instance in increment.put} == {"u2"}


@needs(Feature.ALL_APPS)
def test_a_watch_of_everything_follows_every_application(lab):
    """The listing ends with its mark; applications that come later are told of, and ones that go."""
    lab.writer.register(ONE, TTL)
    leaving = lab.writer.register(OTHER, TTL)
    follower = Follower(lab.open(), "")
    follower.wait_for_mark()
    assert follower.marks == 1
    assert follower.apps == {"orders": {"1": ONE}, "users": {"1": OTHER}}
    late = Instance("late", "1", "10.0.2.1:1")
    lab.writer.register(late, TTL)
    follower.wait_for(late, app="late")
    lab.writer.deregister(leaving)
    follower.wait_for(app="users")
    lab.writer.register(TWO, TTL)
    follower.wait_for(ONE, TWO)


@needs(Feature.ALL_APPS)
def test_a_watch_of_everything_where_there_is_nothing(lab):
    """An empty registry is told as its mark alone."""
    follower = Follower(lab.open(), "")
    follower.wait_for_mark()
    assert follower.log == [Increment("", reset=True)]


def test_an_interface_is_watched_like_an_application(lab):
    """Interface-level entries stand under the interface's name in place of an application's."""
    entry = Instance("shop.Orders", "10.0.0.1:50051", "10.0.0.1:50051", labels={"side": "provider"})
    lab.writer.register(entry, TTL)
    Follower(lab.open(), "shop.Orders").wait_for(entry, app="shop.Orders")


def test_a_cancelled_watch_hears_nothing(lab):
    """After cancel nothing is delivered, while others of the same client go on; cancelling twice is no error."""
    registry = lab.open()
    follower, witness = Follower(registry, "orders"), Follower(registry, "orders")
    follower.wait_for()
    witness.wait_for()
    follower.watch.cancel()
    follower.watch.cancel()
    told = len(follower.log)
    lab.writer.register(ONE, TTL)
    witness.wait_for(ONE)
    assert len(follower.log) == told


def test_churn_ends_in_the_truth(lab):
    """After a storm of registrations, state changes, replacements and removals watchers hold what is registered."""
    followers = [Follower(lab.open(), "orders") for _ in range(2)]
    followers[0].wait_for()
    draw = random.Random(4)
    truth: dict[str, tuple[Instance, Lease]] = {}
    for step in range(80):
        instance = draw.choice(many(12))
        held = truth.get(instance.id)
        if held is None or draw.random() < 0.2:
            instance = replace(instance, weight=step + 1, started_at=float(step))
            truth[instance.id] = (instance, lab.writer.register(instance, TTL))
        elif draw.random() < 0.5:
            state = draw.choice(list(InstanceState))
            lab.writer.set_state(held[1], state)
            truth[instance.id] = (replace(held[0], state=state), held[1])
        else:
            lab.writer.deregister(held[1])
            del truth[instance.id]
    late = Follower(lab.open(), "orders")
    for follower in (*followers, late):
        follower.wait_for(*(instance for instance, _ in truth.values()))


def test_a_thousand_instances_are_listed(lab):
    """They are told completely, and the next change is one small increment."""
    instances = many(1000)
    lab.fill(instances, 120.0)
    follower = Follower(lab.open(), "orders")
    follower.wait_for(*instances)
    told = len(follower.log)
    lab.writer.register(PLAIN, TTL)
    follower.wait_for(*instances, PLAIN)
    assert sum(len(increment.put) for increment in follower.log[told:]) == 1


def test_a_failing_watcher_is_logged_and_goes_on(lab, caplog):
    """A listener's exception ends neither its watch nor anybody's call."""
    told: list[Increment] = []

    def listener(increment: Increment) -> None:
        told.append(increment)
        raise RuntimeError("listener's own")

    registry = lab.open()
    registry.watch("orders", "", listener)
    until(lambda: told, "the first increment")
    lab.writer.register(ONE, TTL)
    until(lambda: "1" in ids([instance for increment in told for instance in increment.put]), "the change")
    assert "listener's own" in caplog.text


@needs(Feature.RAW)
def test_what_others_left_is_skipped_counted_and_logged_once(lab, caplog):
    """Entries that cannot be used spoil nothing: each is logged once with its key, and counted while it is there."""
    lab.put_raw("orders", "no-json", b"{")
    lab.put_raw("orders", "no-address", b'{"app": "orders", "id": "no-address"}')
    lab.writer.register(ONE, TTL)
    follower = Follower(lab.open(), "orders")
    follower.wait_for(ONE)
    assert follower.watch.skipped == 2
    lab.put_raw("orders", "late", b"\xff\x00")
    lab.put_raw("orders", "no-json", b"[" * 10_000)
    lab.writer.register(TWO, TTL)
    follower.wait_for(ONE, TWO)
    until(lambda: follower.watch.skipped == 3, "three are counted")
    for key in ("no-json", "no-address", "late"):
        lines = [r.getMessage() for r in caplog.records if key in r.getMessage() and "skipped" in r.getMessage()]
        assert len(lines) == 1, lines
    lab.remove_raw("orders", "no-json")
    until(lambda: follower.watch.skipped == 2, "the one that is gone is no longer counted")


def test_threads_do_not_grow(lab):
    """Watches that come and go leave no thread behind, and neither does a client that is closed."""
    lab.writer.register(ONE, TTL)
    before = lab.threads()
    registry = lab.open()
    witness = Follower(registry, "orders")
    witness.wait_for(ONE)
    lab.writer.register(TWO, TTL)
    witness.wait_for(ONE, TWO)
    one_watch = lab.threads()
    for _ in range(5):
        followers = [Follower(registry, "orders") for _ in range(4)]
        for follower in followers:
            follower.wait_for(ONE, TWO)
            follower.watch.cancel()
    until(lambda: lab.threads() <= one_watch, "the threads of cancelled watches ended")
    registry.close()
    until(lambda: lab.threads() <= before, "the threads of the client ended")
