"""The hedging policy: a table of what follows what, and properties over any sequence of events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.interceptors.policies.hedge import MOST_ATTEMPTS, Hedge, Won
from meshsdk.interceptors.policies.steps import Attempt, Outcome
from meshsdk.model.policy import Hedging

POLICY = Hedging(3, 1.0, frozenset({"UNAVAILABLE"}))
LOST, FATAL = Outcome("UNAVAILABLE"), Outcome("ABORTED")
UNSENT = Outcome("UNAVAILABLE", unsent=True)


def begun(policy: Hedging = POLICY, deadline: float | None = None, attempts: int = 1) -> Hedge:
    """A call whose attempts 0, 1 ... began at 0 s, 1 s ... on endpoints a, b ..."""
    hedge = Hedge(policy, deadline, 0.0)
    for number in range(attempts):
        assert isinstance(hedge.step(float(number)), Attempt)
        assert hedge.started("abcdef"[number], float(number)) == number
    return hedge


def test_first_attempt_is_made_at_once():
    """A call starts with one attempt, anywhere."""
    assert Hedge(POLICY, None, 5.0).step(5.0) == Attempt()


def test_one_attempt_every_delay():
    """Further attempts begin a delay after the one before, on endpoints not tried yet, and tell how many were made."""
    hedge = begun()
    assert (hedge.due, hedge.step(0.9)) == (1.0, None)
    assert hedge.step(1.0) == Attempt(previous=1, avoid=frozenset("a"))
    hedge.started("b", 1.2)
    assert (hedge.due, hedge.step(2.1)) == (2.2, None)
    assert hedge.step(2.2) == Attempt(previous=2, avoid=frozenset("ab"))
    hedge.started("c", 2.2)
    assert (hedge.due, hedge.step(99.0)) == (None, None)


def test_no_delay_makes_all_at_once():
    """Without a delay every attempt begins now."""
    hedge = Hedge(Hedging(3, 0.0), None, 0.0)
    for address in "abc":
        assert isinstance(hedge.step(0.0), Attempt)
        hedge.started(address, 0.0)
    assert hedge.step(0.0) is None


@pytest.mark.parametrize("most", [6, 1000])
def test_most_attempts(most):
    """More than five attempts are five (A6)."""
    hedge = begun(Hedging(most, 1.0), attempts=MOST_ATTEMPTS)
    assert (hedge.due, hedge.step(1e9)) == (None, None)


def test_first_answer_wins():
    """The attempt that answers first is the call, whatever comes after."""
    hedge = begun(attempts=2)
    hedge.answered(1)
    hedge.answered(0)
    hedge.failed(0, FATAL, 1.5)
    assert (hedge.step(1.5), hedge.due) == (Won(1), None)


def test_fatal_status_wins():
    """A status that is not non-fatal ends the call though another attempt runs."""
    hedge = begun(attempts=2)
    hedge.failed(0, FATAL, 1.5)
    assert hedge.step(1.5) == Won(0)


def test_non_fatal_failure_brings_the_next_at_once():
    """After a non-fatal failure the next attempt begins now, the one after that a delay later."""
    hedge = begun()
    hedge.failed(0, LOST, 0.3)
    assert hedge.step(0.3) == Attempt(previous=1, avoid=frozenset("a"))
    hedge.started("b", 0.3)
    assert hedge.due == 1.3


def test_last_failure_is_the_call():
    """With no attempt left and none running, the last one that failed is the call."""
    hedge = begun(attempts=3)
    hedge.failed(1, LOST, 3.0)
    hedge.failed(0, LOST, 3.0)
    assert hedge.step(3.0) is None
    hedge.failed(2, LOST, 3.1)
    assert hedge.step(3.1) == Won(2)


def test_pushback_delays():
    """A server's pushback puts the next attempt off, and a failure without one does not bring it forward."""
    hedge = begun(attempts=2)
    hedge.failed(0, Outcome("UNAVAILABLE", pushback=4.0), 1.5)
    hedge.failed(1, LOST, 2.0)
    assert (hedge.due, hedge.step(5.4)) == (5.5, None)
    assert isinstance(hedge.step(5.5), Attempt)


def test_negative_pushback_forbids():
    """After a negative pushback no attempt begins, and the one that runs decides."""
    hedge = begun(attempts=2)
    hedge.failed(0, Outcome("UNAVAILABLE", pushback=-1.0), 1.5)
    assert (hedge.due, hedge.step(99.0)) == (None, None)
    hedge.failed(1, LOST, 99.0)
    assert hedge.step(99.0) == Won(1)


def test_attempt_that_cannot_begin():
    """Without budget or endpoint there are no more attempts: with none running the call has failed."""
    hedge = begun()
    assert isinstance(hedge.step(1.0), Attempt)
    hedge.refused()
    assert (hedge.due, hedge.step(1.0)) == (None, None)
    hedge.failed(0, LOST, 1.1)
    assert hedge.step(1.1) == Won(0)


def test_unsent_is_no_attempt():
    """An attempt that never left is replaced at once, on another endpoint, and uses up nothing."""
    hedge = begun(Hedging(1, 1.0))
    assert hedge.step(9.0) is None
    hedge.failed(0, UNSENT, 9.0)
    assert hedge.step(9.0) == Attempt(avoid=frozenset("a"))


def test_moves_are_bounded():
    """A call on endpoints that all lose it unsent ends."""
    hedge, moves = Hedge(POLICY, None, 0.0), 0
    while isinstance(hedge.step(0.0), Attempt):
        hedge.failed(hedge.started("a", 0.0), UNSENT, 0.0)
        moves += 1
        assert moves < 1000
    assert isinstance(hedge.step(0.0), Won)


def test_deadline():
    """From the call's deadline on no attempt begins, however the running one fails."""
    hedge = begun(deadline=0.5)
    hedge.failed(0, Outcome("UNAVAILABLE"), 0.5)
    assert hedge.step(0.5) == Won(0)


def test_pushback_beyond_the_deadline():
    """A call is not kept waiting for an attempt that would begin after its deadline."""
    hedge = begun(deadline=5.0)
    hedge.failed(0, Outcome("UNAVAILABLE", pushback=60.0), 0.5)
    assert hedge.step(0.5) == Won(0)


def test_late_tick():
    """An attempt whose time has come is not begun when the deadline has passed meanwhile."""
    hedge = begun(deadline=2.0)
    assert (hedge.due, hedge.step(2.5), hedge.due) == (1.0, None, None)


OUTCOMES = st.builds(
    Outcome,
    st.sampled_from(["UNAVAILABLE", "ABORTED"]),
    unsent=st.booleans(),
    pushback=st.sampled_from([None, None, -1.0, 0.0, 2.0]),
)
DEADLINES = st.sampled_from([None, 0.0, 2.5])
EVENTS = st.lists(st.tuples(st.sampled_from(["wait", "fail", "answer"]), st.integers(0, 9), OUTCOMES), max_size=40)


@given(st.integers(1, 8), st.sampled_from([0.0, 0.5, 3.0]), DEADLINES, EVENTS)
def test_any_sequence(most, delay, deadline, events):
    """Whatever happens: no more attempts than allowed, one winner that never changes, never nothing to wait for."""
    hedge, now, sent = Hedge(Hedging(most, delay, frozenset({"UNAVAILABLE"})), deadline, 0.0), 0.0, 0
    running: list[int] = []
    for event, which, outcome in [("wait", 0, LOST), *events]:
        if event == "wait":
            now += which / 4
        elif running:
            number = running[which % len(running)]
            if event == "answer":
                hedge.answered(number)
            else:
                running.remove(number)
                sent -= outcome.unsent
                hedge.failed(number, outcome, now)
        while isinstance(step := hedge.step(now), Attempt):
            assert step.previous == sent
            running.append(hedge.started(f"{len(running)}", now))
            sent += 1
        assert sent <= min(most, MOST_ATTEMPTS)
        if isinstance(step, Won):
            assert hedge.step(now + 100) == step
            return
        assert running or hedge.due is not None
