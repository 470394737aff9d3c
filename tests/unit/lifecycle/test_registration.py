"""The registration state machine against a scripted registry: outages, lapses, and what the log is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.discovery.registry import Lease
from meshsdk.lifecycle.registration import (
    Change,
    Deregister,
    Gone,
    Pause,
    Publish,
    Register,
    Registration,
    Renew,
    SetState,
)
from meshsdk.model.instance import Instance, InstanceState, Revision

INSTANCE = Instance("orders", "1", "10.0.0.1:50051", revision="r1", state=InstanceState.STARTING)
REVISION = Revision("orders", "r1")
LEASE = Lease("l1", 15.0)


def machine(revision: Revision | None = REVISION) -> Registration:
    """A registration that wants STARTING."""
    return Registration(INSTANCE, revision, 15.0, lambda: 0.5)


def held(now: float = 0.0) -> Registration:
    """One that is registered, ONLINE, since `now`."""
    registration = machine()
    registration.want(InstanceState.ONLINE, now)
    registration.done(registration.next(now), None, now)
    registration.done(registration.next(now), LEASE, now)
    return registration


def test_publishes_then_registers_then_renews():
    """The revision is there before the instance points at it; the lease is renewed at a third of its time."""
    registration = machine()
    assert registration.next(0.0) == Publish(REVISION)
    assert registration.done(Publish(REVISION), None, 0.0) is Change.NONE
    step = registration.next(0.0)
    assert step == Register(INSTANCE, 15.0)
    assert registration.done(step, LEASE, 0.0) is Change.REGISTERED
    assert registration.told is InstanceState.STARTING
    assert registration.next(0.0) == Pause(5.0)
    assert registration.next(5.0) == Renew(LEASE)
    registration.done(Renew(LEASE), LEASE, 5.1)
    assert registration.next(5.2) == Pause(10.1)


def test_the_granted_time_counts():
    """The registry grants a shorter lease than was asked for: renewals follow it."""
    registration = machine(revision=None)
    registration.done(registration.next(0.0), Lease("l", 3.0), 0.0)
    assert registration.next(0.0) == Pause(1.0)


def test_a_state_is_told_at_once():
    """A change of state goes out before the next renewal, once."""
    registration = held()
    registration.want(InstanceState.DRAINING, 1.0)
    step = registration.next(1.0)
    assert step == SetState(LEASE, InstanceState.DRAINING)
    assert registration.told is InstanceState.ONLINE
    registration.done(step, None, 1.0)
    assert registration.told is InstanceState.DRAINING
    assert isinstance(registration.next(1.0), Pause)


def test_a_lapsed_lease_registers_anew_with_the_last_state():
    """The control plane restarted empty: revision and instance go there again, in the state of now."""
    registration = held()
    registration.want(InstanceState.DRAINING, 6.0)
    assert registration.failed(registration.next(6.0), lapsed=True, now=6.0) is Change.LAPSED
    assert registration.told is None
    registration.done(registration.next(6.0), None, 6.0)
    step = registration.next(6.0)
    assert isinstance(step, Register)
    assert step.instance.state is InstanceState.DRAINING


def test_an_outage_is_told_once_and_ends_once():
    """Failures back off to at most 6 s apart; the log hears of the outage when it begins and when it ends."""
    registration, now, changes, pauses = held(), 5.0, [], []
    for _ in range(12):
        step = registration.next(now)
        assert step == Renew(LEASE)
        changes.append(registration.failed(step, lapsed=False, now=now))
        pause = registration.next(now)
        assert isinstance(pause, Pause)
        pauses.append(round(pause.until - now, 6))
        now = pause.until
    assert changes == [Change.LOST] + [Change.NONE] * 11
    assert pauses == sorted(pauses)
    assert pauses[0] < 1.0
    assert 4.0 < pauses[-1] <= 6.0
    assert registration.done(registration.next(now), LEASE, now) is Change.RECOVERED


def test_a_change_of_state_cuts_a_backoff_short():
    """In the middle of an outage the drain's news is tried at once."""
    registration = held()
    for _ in range(5):
        registration.failed(Renew(LEASE), lapsed=False, now=5.0)
    assert isinstance(registration.next(5.0), Pause)
    registration.want(InstanceState.DRAINING, 5.0)
    assert registration.next(5.0) == SetState(LEASE, InstanceState.DRAINING)


def test_an_unpublished_revision_keeps_nothing_out():
    """A registry that refuses the revision still gets the instance; the revision is tried again later, told once."""
    registration = machine()
    assert registration.failed(registration.next(0.0), lapsed=False, now=0.0) is Change.UNPUBLISHED
    registration.done(registration.next(0.0), LEASE, 0.0)
    assert registration.told is InstanceState.STARTING
    assert registration.next(5.0) == Publish(REVISION)
    assert registration.failed(Publish(REVISION), lapsed=False, now=5.0) is Change.NONE


def test_leaving_gives_the_lease_back():
    """Leaving deregisters, after that there is nothing to do for ever."""
    registration = held()
    registration.leave(1.0)
    assert registration.next(1.0) == Deregister(LEASE)
    assert not registration.gone
    registration.done(Deregister(LEASE), None, 1.0)
    assert registration.gone
    assert registration.next(99.0) == Gone()


def test_leaving_while_a_registration_is_under_way():
    """The answer to Register comes after `leave`: it is not gone before that lease is given back."""
    registration = machine(revision=None)
    step = registration.next(0.0)
    registration.leave(0.1)
    assert not registration.gone
    registration.done(step, LEASE, 0.2)
    assert registration.next(0.2) == Deregister(LEASE)


def test_leaving_what_was_never_registered_is_done_at_once():
    """Nothing was registered, so there is nothing to give back."""
    registration = machine()
    registration.leave(0.0)
    assert registration.gone
    assert registration.next(0.0) == Gone()


@given(st.lists(st.sampled_from(["ok", "fail", "lapse", "online", "drain"]), max_size=60))
def test_a_registry_that_answers_again_ends_up_right(script):
    """Whatever failed before, a registry that answers from now on soon holds the wanted state."""
    registration, now, serial = machine(), 0.0, 0
    wanted = InstanceState.STARTING
    for word in [*script, *["ok"] * 8]:
        if word in ("online", "drain"):
            wanted = InstanceState.ONLINE if word == "online" else InstanceState.DRAINING
            registration.want(wanted, now)
            continue
        step = registration.next(now)
        if isinstance(step, Pause):
            now = step.until
            continue
        if word == "ok":
            serial += 1
            registration.done(step, Lease(f"l{serial}", 15.0) if isinstance(step, (Register, Renew)) else None, now)
        else:
            registration.failed(step, lapsed=word == "lapse", now=now)
    assert registration.told is wanted


def test_a_lapse_is_no_outage():
    """A lapse is told as such, and the registration that follows as a registration."""
    registration = held()
    assert registration.failed(registration.next(5.0), lapsed=True, now=5.0) is Change.LAPSED
    registration.done(registration.next(5.0), None, 5.0)
    assert registration.done(registration.next(5.0), LEASE, 5.0) is Change.REGISTERED
    assert registration.next(5.0) == Pause(pytest.approx(10.0))


def test_what_changed_is_registered_anew():
    """Other labels: one registration under the same id, in the state wanted now; the same again is no change."""
    registration = held()
    registration.amend({"switch": "off"}, INSTANCE.started_at, 1.0)
    registration.want(InstanceState.DRAINING, 1.0)
    changed = replace(INSTANCE, labels={"switch": "off"}, state=InstanceState.DRAINING)
    step = registration.next(1.0)
    assert step == Register(changed, 15.0)
    assert registration.done(step, Lease("l2", 15.0), 1.0) is Change.NONE
    assert registration.told is InstanceState.DRAINING
    registration.amend({"switch": "off"}, INSTANCE.started_at, 2.0)
    assert registration.next(2.0) == Pause(6.0)
    registration.leave(3.0)
    assert registration.next(3.0) == Deregister(Lease("l2", 15.0))


def test_a_change_during_a_registration_follows_it():
    """The labels change while the registry is asked, and once more during an outage: the last ones are registered."""
    registration = held()
    registration.amend({"a": "1"}, 5.0, 1.0)
    first = registration.next(1.0)
    registration.amend({"a": "2"}, 5.0, 1.1)
    registration.done(first, LEASE, 1.2)
    second = registration.next(1.2)
    assert second.instance.labels == {"a": "2"}
    registration.failed(second, lapsed=False, now=1.3)
    registration.amend({"a": "3"}, 6.0, 1.4)
    assert registration.next(1.4).instance == replace(
        INSTANCE, labels={"a": "3"}, started_at=6.0, state=InstanceState.ONLINE
    )
