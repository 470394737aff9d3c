"""The drivers carry: a blocking drive and one step at a time take the same policy through the same steps."""

from __future__ import annotations

import asyncio

import pytest

from meshsdk.interceptors.drivers import Decided, aanswer, advance, answer, begin, drive
from meshsdk.interceptors.policies.gate import Consult, Verdict
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
    next(steps)
    drive(steps, advance(steps, outcome), script.attempt, script.sleep)


def step_by_step(script: Script, outcome: Outcome) -> None:
    """As calls do that outlive the method that made them."""
    steps = recover(RETRY, lambda: 0.5)
    next(steps)
    step = advance(steps, outcome)
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


def question(*steps):
    """Gates that yield these and decide by what they were sent."""

    def ask():
        sent = []
        try:
            for step in steps:
                sent.append((yield step))  # noqa: PERF401 - a generator's own words
        finally:
            closed.append(sent)
        return sent

    closed: list[list] = []
    return ask(), closed


ASK, YES = Consult("d", (), 1.0), Verdict(True)


def blocking(asked, script: Script):
    """Takes a question to its decision on this thread."""
    return answer(asked, begin(asked), lambda _: YES, script.sleep)


def in_a_task(asked, script: Script):
    """Takes a question to its decision in a task."""

    async def ask(_):
        return YES

    async def sleep(seconds: float) -> None:
        script.sleep(seconds)

    return asyncio.run(aanswer(asked, begin(asked), ask, sleep))


@pytest.mark.parametrize("run", [blocking, in_a_task])
def test_question(run):
    """Waits are slept, questions asked, each answered with what it is sent; the decision comes back."""
    script = Script()
    asked, _ = question(Sleep(1.0), ASK, Sleep(2.0))
    assert run(asked, script) == [None, YES, None]
    assert script.done == [Sleep(1.0), Sleep(2.0)]
    assert run(question()[0], script) == []


@pytest.mark.parametrize("run", [blocking, in_a_task])
def test_question_that_is_cut_short(run):
    """A sleep that raises closes the question, so that its gates can tidy up."""
    asked, closed = question(Sleep(1.0), Sleep(5.0), ASK)
    with pytest.raises(TimeoutError):
        run(asked, Script(patience=3))
    assert closed == [[None]]


def test_question_without_a_wait():
    """Gates that decide at once are done before anything has to wait."""
    assert begin(question()[0]) == Decided([])
