"""The upgrade's state machine, second by second: time and what is seen are arguments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.shim.upgrade.machine import End, HandOver, Look, Sight, UpgradeMachine, UpgradePhase, UpgradeTiming

TIMING = UpgradeTiming(start=30.0, probation=1.0, drain=15.0, watch=5.0)
COMING = Sight(new_runs=True, serves=False, old_runs=True)
SERVING = Sight(new_runs=True, serves=True, old_runs=True, open_connections=3)
EMPTY = Sight(new_runs=True, serves=True, old_runs=True, open_connections=0)
DEAD = Sight(new_runs=False, serves=False, old_runs=True, open_connections=3)


def begun() -> UpgradeMachine:
    """An upgrade that began at second 100."""
    machine = UpgradeMachine(TIMING)
    machine.begin(100.0)
    return machine


def handed_over() -> UpgradeMachine:
    """One whose new Envoy took over at second 102."""
    machine = begun()
    assert isinstance(machine.look(101.0, SERVING), Look)
    assert machine.look(102.0, SERVING) == HandOver()
    assert machine.phase is UpgradePhase.DRAINING_OLD
    return machine


def test_an_upgrade_that_goes_well():
    """Started, served, watched for a second, handed over; the old one is ended when empty and the watch is over."""
    machine = begun()
    assert isinstance(machine.look(100.0, COMING), Look)
    assert machine.phase is UpgradePhase.STARTING_NEW
    assert isinstance(machine.look(100.5, SERVING), Look)
    assert machine.phase is UpgradePhase.HANDING_OVER
    assert machine.look(101.5, SERVING) == HandOver()
    assert isinstance(machine.look(103.0, EMPTY), Look)
    assert machine.look(106.5, EMPTY) == End()
    assert machine.phase is UpgradePhase.DONE


def test_the_old_one_is_ended_at_the_deadline():
    """A stream that never ends holds the old one for 15 s and no longer."""
    machine = handed_over()
    assert isinstance(machine.look(116.9, SERVING), Look)
    assert machine.look(117.0, SERVING) == End()


@pytest.mark.parametrize(
    ("now", "sight", "words"),
    [(100.1, DEAD, "ended before it served"), (130.0, COMING, "did not serve within 30 s")],
)
def test_one_that_never_serves(now, sight, words):
    """It ends or takes too long: rolled back, and the old one needs nothing."""
    machine = begun()
    end = machine.look(now, sight)
    assert isinstance(end, End)
    assert words in end.problem
    assert not end.restore
    assert machine.phase is UpgradePhase.ROLLED_BACK


@pytest.mark.parametrize(("sight", "words"), [(DEAD, "ended while"), (COMING, "stopped serving")])
def test_one_that_fails_on_probation(sight, words):
    """It served and does no more, before the hand-over: the old one still accepts, nothing is to be restored."""
    machine = begun()
    machine.look(100.5, SERVING)
    end = machine.look(101.0, sight)
    assert isinstance(end, End)
    assert words in end.problem
    assert not end.restore


def test_one_that_dies_after_the_hand_over():
    """The old one accepts no more: its program has to be started again, even if the old one is empty already."""
    end = handed_over().look(104.0, DEAD)
    assert isinstance(end, End)
    assert end.restore
    assert "after it had taken over" in end.problem


def test_an_old_one_that_dies_ends_the_probation():
    """Nobody else accepts: the new one takes over at once."""
    machine = begun()
    assert machine.look(100.5, Sight(new_runs=True, serves=True, old_runs=False)) == HandOver()
    assert machine.look(105.5, Sight(new_runs=True, serves=True, old_runs=False)) == End()


def test_an_old_one_is_empty_when_it_stays_so():
    """A connection that its workers had just taken shows up after the first look: it is waited for, too."""
    machine = UpgradeMachine(UpgradeTiming(watch=0.0))
    machine.begin(0.0)
    machine.look(0.5, SERVING)
    assert machine.look(2.0, SERVING) == HandOver()
    assert isinstance(machine.look(2.0, EMPTY), Look)
    assert isinstance(machine.look(2.4, SERVING), Look)
    assert isinstance(machine.look(3.0, EMPTY), Look)
    assert isinstance(machine.look(3.4, EMPTY), Look)
    assert machine.look(3.5, EMPTY) == End()


def test_an_old_one_that_cannot_be_asked_gets_its_time():
    """Unknown is not empty."""
    machine = handed_over()
    unknown = Sight(new_runs=True, serves=True, old_runs=True, open_connections=None)
    assert isinstance(machine.look(110.0, unknown), Look)
    assert machine.look(117.0, unknown) == End()


@given(
    st.lists(
        st.tuples(
            st.floats(0, 5),
            st.builds(Sight, st.booleans(), st.booleans(), st.booleans(), st.none() | st.integers(0, 3)),
        ),
        max_size=60,
    )
)
def test_whatever_is_seen_it_ends(steps):
    """It ends within its times; it hands over once at most, to a new one that runs; looks lie ahead."""
    machine = begun()
    now, handed = 100.0, 0
    for passed, sight in [*steps, *[(1.0, SERVING)] * 60]:
        now += passed
        decision = machine.look(now, sight)
        if isinstance(decision, End):
            assert decision.restore == (bool(handed) and bool(decision.problem))
            return
        if isinstance(decision, HandOver):
            handed += 1
            assert sight.new_runs
        else:
            assert decision.at >= now
        assert handed <= 1
    pytest.fail("it did not end")
