"""Outages: a registry killed, frozen, compacted or closed. What was known stays in use; then it is right again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshsdk.discovery.registry import LeaseLapsed
from meshsdk.errors import RegistryError
from meshsdk.model.instance import InstanceState
from tests.contract.registries.follower import Follower, Keeper, eventually
from tests.contract.registries.lab import Feature, needs
from tests.contract.registries.sample import ONE, PLAIN, TWO

TTL = 60.0


@needs(Feature.KILL)
def test_killed_and_back(lab, caplog):
    """While it is away calls fail in words and watchers are told nothing; then they hold what is registered by now."""
    follower = Follower(lab.open(), "orders")
    with Keeper(lab.writer, lab.ttl) as keeper:
        keeper.keep(ONE, TWO)
        follower.wait_for(ONE, TWO)
        told = len(follower.log)
        lab.stop_server()
        with pytest.raises(RegistryError) as refused:
            lab.open().register(PLAIN, TTL)
        assert not isinstance(refused.value, LeaseLapsed)
        assert lab.address in str(refused.value)
        assert len(follower.log) == told, "nothing is told while nothing is known"
        lab.start_server()
        changed = replace(TWO, state=InstanceState.DRAINING)
        eventually(lambda: keeper.keep(PLAIN, changed), "it takes registrations again")
        follower.wait_for(ONE, changed, PLAIN)
    lines = [r.getMessage() for r in caplog.records if "watch" in r.getMessage() and "broke" in r.getMessage()]
    assert len(lines) <= 1, f"an outage is told once: {lines}"


@needs(Feature.KILL)
def test_a_watch_begun_while_it_is_away(lab):
    """A watch that cannot reach the registry waits for it, and then tells what there is."""
    with Keeper(lab.writer, lab.ttl) as keeper:
        keeper.keep(ONE)
        lab.stop_server()
        follower = Follower(lab.open(), "orders")
        lab.start_server()
        follower.wait_for(ONE)


@needs(Feature.FREEZE)
def test_frozen_and_thawed(lab):
    """A registry that does not answer costs a call its timeout, not for ever; watchers go on when it does."""
    registry = lab.open()
    follower = Follower(registry, "orders")
    with Keeper(lab.writer, lab.ttl) as keeper:
        keeper.keep(ONE)
        follower.wait_for(ONE)
        told = len(follower.log)
        lab.freeze()
        with pytest.raises(RegistryError) as refused:
            registry.register(PLAIN, TTL)
        assert not isinstance(refused.value, LeaseLapsed)
        assert len(follower.log) == told, "nothing is told while nothing is known"
        lab.thaw()
        eventually(lambda: keeper.keep(TWO, PLAIN), "it takes registrations again")
        follower.wait_for(ONE, TWO, PLAIN)


@needs(Feature.COMPACT, Feature.KILL)
def test_compacted_while_a_watcher_was_away(lab):
    """The past that a watcher would resume from is gone: it lists anew, and tells of no removal that was none."""
    follower = Follower(lab.open(), "orders")
    lab.writer.register(ONE, TTL)
    leaving = lab.writer.register(PLAIN, TTL)
    follower.wait_for(ONE, PLAIN)
    told = len(follower.log)
    lab.stop_server()
    lab.start_server()
    eventually(lambda: lab.writer.deregister(leaving), "it answers again")
    eventually(lambda: lab.writer.register(TWO, TTL), "it takes registrations again")
    lab.compact()
    follower.wait_for(ONE, TWO)
    for increment in follower.log[told:]:
        assert not set(increment.removed) & {"1", "2"}
        assert not increment.reset or "1" in {instance.id for instance in increment.put}


@needs(Feature.COMPACT)
def test_compacted_during_churn(lab):
    """Compactions between changes disturb no watcher."""
    follower = Follower(lab.open(), "orders")
    follower.wait_for()
    last = ONE
    for weight in range(1, 30):
        last = replace(ONE, weight=weight)
        lab.writer.register(last, TTL)
        if weight % 5 == 0:
            lab.compact()
    follower.wait_for(last)
    assert not any("1" in increment.removed for increment in follower.log)


def test_a_closed_registry_says_so(lab):
    """Close ends every watch; what is asked afterwards is refused in words. Closing twice is no error."""
    registry, witness = lab.open(), Follower(lab.open(), "orders")
    follower = Follower(registry, "orders")
    follower.wait_for()
    registry.close()
    registry.close()
    told = len(follower.log)
    if lab.writer is not registry:
        lab.writer.register(ONE, TTL)
        witness.wait_for(ONE)
    assert len(follower.log) == told


@needs(Feature.KILL, Feature.REGISTER)
def test_calls_on_a_closed_registry_are_refused(lab):
    """A registry with a connection says that it is closed, and not with its library's exception."""
    registry = lab.open()
    lease = registry.register(ONE, TTL)
    registry.close()
    for call in (
        lambda: registry.register(ONE, TTL),
        lambda: registry.renew(lease),
        lambda: registry.get_revision("orders", "r"),
    ):
        with pytest.raises(RegistryError, match="closed"):
            call()
