"""The drivers carry: a blocking drive and one step at a time take the same policy through the same steps."""

from __future__ import annotations

import pytest

from meshsdk.interceptors.drivers import advance, drive, first
from meshsdk.interceptors.policies.recover import recover
from meshsdk.interceptors.policies.steps import Attempt, Outcome, Sleep
from meshsdk.model.policy import RetryPolicy

RETRY = RetryPolicy(frozenset({"UNAVAILABLE"}), num_retries=3, base_interval=1.0, max_interval=10.0)
LOST, UNSENT, OK = Outcome("UNAVAILABLE"), Outcome("UNAVAILABLE", unsent=True), Outcome("OK")


class Script:
    """Attempts with scripted outcomes; notes what was done."""

    def __init__(self, *outcomes: Outcome, patience: int = 100) -> None:
        self.done: list[object] = []
        self._outcomes = iter(outcomes)
        self._patience = patience

    def attempt(self, attempt: Attempt) -> Outcome:
        """One attempt."""
        self.done.append(attempt)
        return next(self._outcomes)

    def sleep(self, seconds: float) -> None:
        """One sleep; too long ones are the deadline's."""
        self.done.append(Sleep(seconds))
        if seconds > self._patience:
            raise TimeoutError


def at_once(script: Script, outcome: Outcome) -> None:
    """Drives on this thread, after a first attempt with `outcome`."""
    steps = recover(RETRY, lambda: 0.5)
    drive(steps, first(steps, outcome), script.attempt, script.sleep)


def step_by_step(script: Script, outcome: Outcome) -> None:
    """As calls do that outlive the method that made them."""
    steps = recover(RETRY, lambda: 0.5)
    step = first(steps, outcome)
    while step is not None:
        if isinstance(step, Sleep):
            script.sleep(step.seconds)
            step = advance(steps, None)
        else:
            step = advance(steps, script.attempt(step))


@pytest.fixture(params=[at_once, step_by_step])
def driven(request):
    """Either way."""
    return request.param


def test_success_needs_no_step(driven):
    """After a success nothing is done."""
    script = Script()
    driven(script, OK)
    assert script.done == []


def test_steps_in_order(driven):
    """Sleeps and attempts alternate as the policy says, until the success."""
    script = Script(UNSENT, LOST, OK)
    driven(script, LOST)
    assert script.done == [Sleep(0.5), Attempt(1), Attempt(1), Sleep(1.0), Attempt(2)]


def test_end_of_the_policy(driven):
    """Nothing is attempted beyond the policy."""
    script = Script(LOST, LOST, LOST, LOST)
    driven(script, LOST)
    assert [step for step in script.done if isinstance(step, Attempt)] == [Attempt(1), Attempt(2), Attempt(3)]


def test_what_sleep_raises_ends_it(driven):
    """A deadline that is met while sleeping ends the drive with its error, without a further attempt."""
    script = Script(patience=0)
    with pytest.raises(TimeoutError):
        driven(script, LOST)
    assert script.done == [Sleep(0.5)]


def test_advance_after_the_end():
    """A policy that has ended gives no further step."""
    steps = recover(None, lambda: 0.5)
    next(steps)
    assert advance(steps, OK) is None
    assert advance(steps, OK) is None
