"""Registering: instances come, change, are renewed, lapse, are replaced and go, the same for every adapter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshsdk.discovery.registry import Lease, LeaseLapsed
from meshsdk.errors import RegistryError
from meshsdk.model.instance import InstanceState
from tests.contract.registries.follower import Follower
from tests.contract.registries.lab import Feature, needs
from tests.contract.registries.sample import ONE, PLAIN, TWO

TTL = 60.0


@needs(Feature.REGISTER)
def test_an_instance_is_registered_changed_and_removed(lab):
    """A watcher sees an instance come with all its fields, change its state, and go."""
    registry = lab.open()
    follower = Follower(lab.open(), "orders")
    follower.wait_for()
    lease = registry.register(ONE, TTL)
    assert lease.ttl >= 1
    follower.wait_for(ONE)
    assert registry.renew(lease).id == lease.id
    registry.set_state(lease, InstanceState.DRAINING)
    follower.wait_for(replace(ONE, state=InstanceState.DRAINING))
    registry.set_state(lease, InstanceState.DRAINING)
    registry.set_state(lease, InstanceState.ONLINE)
    follower.wait_for(ONE)
    registry.deregister(lease)
    follower.wait_for()
    registry.deregister(lease)


@needs(Feature.REGISTER)
def test_every_field_of_an_instance_arrives(lab):
    """Unusual but acceptable values come out as they went in: other letters, separators, empty texts, every state."""
    odd = replace(
        ONE,
        id="a/b c%2F|ü:1",
        address="[2001:db8::1]:1",
        revision="",
        region="r/1",
        zone="ü",
        weight=65535,
        labels={"example.com/k": "v w/x=y,z", "empty": "", "quote": "\"'\\ \n"},
        state=InstanceState.STARTING,
        started_at=1_700_000_000.25,
    )
    follower = Follower(lab.open(), "orders")
    lab.open().register(odd, TTL)
    follower.wait_for(odd)


@needs(Feature.REGISTER, Feature.LAPSE)
def test_a_renewed_lease_stays(lab):
    """Renewed in time, an instance stays beyond its time to live, and nobody sees it go."""
    registry = lab.open()
    follower = Follower(lab.open(), "orders")
    lease = registry.register(ONE, lab.ttl)
    follower.wait_for(ONE)
    for _ in range(4):
        lab.elapse(lease.ttl * 0.4)
        lease = registry.renew(lease)
    follower.wait_for(ONE)
    assert not any(increment.removed for increment in follower.log)


@needs(Feature.REGISTER, Feature.LAPSE)
def test_a_forgotten_lease_lapses(lab):
    """An instance that is not renewed goes, everything asked of its lease then is told so, and it can come back."""
    registry = lab.open()
    follower = Follower(lab.open(), "orders")
    lease = registry.register(ONE, lab.ttl)
    follower.wait_for(ONE)
    lab.lapse(registry)
    follower.wait_for()
    with pytest.raises(LeaseLapsed):
        registry.renew(lease)
    with pytest.raises(LeaseLapsed):
        registry.set_state(lease, InstanceState.ONLINE)
    registry.deregister(lease)
    registry.register(ONE, TTL)
    follower.wait_for(ONE)


@needs(Feature.REGISTER)
def test_registering_again_replaces(lab):
    """The same (app, id) under a new lease is one instance; the old lease is void, and giving it back harms nobody."""
    registry = lab.open()
    follower = Follower(lab.open(), "orders")
    old = registry.register(ONE, TTL)
    moved = replace(ONE, address="10.0.0.9:1", started_at=1.0)
    new = registry.register(moved, TTL)
    follower.wait_for(moved)
    with pytest.raises(LeaseLapsed):
        registry.renew(old)
    registry.deregister(old)
    assert registry.renew(new).id == new.id
    follower.wait_for(moved)
    Follower(lab.open(), "orders").wait_for(moved)


@needs(Feature.REGISTER, Feature.UNITS)
def test_an_instance_that_changes_its_unit_leaves_the_old_one(lab):
    """Registered again in another unit, it is there once, in that unit."""
    registry = lab.open()
    everywhere, old_unit = Follower(lab.open(), "orders"), Follower(lab.open(), "orders", "u1")
    registry.register(ONE, TTL)
    old_unit.wait_for(ONE)
    moved = replace(ONE, unit="u9", started_at=1.0)
    registry.register(moved, TTL)
    everywhere.wait_for(moved)
    old_unit.wait_for()
    Follower(lab.open(), "orders", "u9").wait_for(moved)


@needs(Feature.REGISTER)
def test_of_two_processes_with_one_id_the_younger_counts(lab):
    """Two clients register the same (app, id): watchers see one instance, the one that started last."""
    old = replace(ONE, started_at=100.0)
    young = replace(ONE, address="10.0.0.9:1", unit=TWO.unit, started_at=200.0)
    lab.open().register(old, TTL)
    lab.open().register(young, TTL)
    Follower(lab.open(), "orders").wait_for(young)


@needs(Feature.REGISTER)
@pytest.mark.parametrize(
    "wrong",
    [replace(ONE, app=""), replace(ONE, address="nowhere"), replace(ONE, labels={"k": "v" * 2000})],
    ids=["app", "address", "label"],
)
def test_what_cannot_be_is_refused(lab, wrong):
    """An instance nobody could use is refused, and nobody hears of it."""
    registry = lab.open()
    with pytest.raises(RegistryError):
        registry.register(wrong, TTL)
    follower = Follower(registry, "orders")
    registry.register(PLAIN, TTL)
    follower.wait_for(PLAIN)


@needs(Feature.REGISTER)
def test_an_unknown_lease_has_lapsed(lab):
    """A lease from before the registry lost its data is told as lapsed."""
    registry = lab.open()
    with pytest.raises(LeaseLapsed):
        registry.renew(Lease("from-before", 15))
    with pytest.raises(LeaseLapsed):
        registry.set_state(Lease("from-before", 15), InstanceState.ONLINE)
    registry.deregister(Lease("from-before", 15))
