"""Runs a policy's steps. Carries, does not decide.

Called by the channel façades after a first attempt has failed or could not start: `drive` by a call that blocks its
thread; `advance`, one step at a time, by calls that outlive the method that made them, on threads and on
asyncio alike. `begin`, `answer` and `aanswer` take a call through its gates, before its first attempt. The attempt
itself, the sleep, the question and the deadline belong to the caller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from meshsdk.interceptors.policies.gate import Consult, Verdict
from meshsdk.interceptors.policies.steps import Attempt, Outcome, Sleep, Steps

_T = TypeVar("_T")
Question = Generator[Sleep | Consult, Verdict | None, _T]
"""What passes gates: yields waits and questions, returns the decision (`policies.gate.Passing`)."""
NOBODY = Verdict(None, "no rate limit service can be asked here")


class RateLimitClient(Protocol):
    """Asks a rate limit service from a thread. Never raises: what goes wrong is a verdict."""

    def ask(self, consult: Consult) -> Verdict:
        """Blocks for the answer, `consult.timeout` seconds at most."""


class AioRateLimitClient(Protocol):
    """Asks a rate limit service from a task of the loop. Never raises: what goes wrong is a verdict."""

    async def ask(self, consult: Consult) -> Verdict:
        """Waits for the answer, `consult.timeout` seconds at most."""


def advance(steps: Steps, outcome: Outcome | None) -> Attempt | Sleep | None:
    """Sends what came of the last step (None after a sleep); returns the next one, None at the end."""
    try:
        return steps.send(outcome)
    except StopIteration:
        return None


def drive(
    steps: Steps, step: Attempt | Sleep | None, attempt: Callable[[Attempt], Outcome], sleep: Callable[[float], None]
) -> None:
    """Runs from `step` to the end. `sleep` raises when the call's deadline would pass."""
    while step is not None:
        if isinstance(step, Sleep):
            sleep(step.seconds)
            step = advance(steps, None)
        else:
            step = advance(steps, attempt(step))


@dataclass(frozen=True, slots=True)
class Decided(Generic[_T]):
    """The end of a question."""

    decision: _T


def begin(question: Question[_T], verdict: Verdict | None = None) -> Sleep | Consult | Decided[_T]:
    """Runs gates up to the first that does not decide at once; `verdict` answers the one that has not."""
    try:
        return question.send(verdict)
    except StopIteration as end:
        return Decided(end.value)


def answer(
    question: Question[_T],
    step: Sleep | Consult | Decided[_T],
    ask: Callable[[Consult], Verdict],
    sleep: Callable[[float], None],
) -> _T:
    """Runs gates from what `begin` gave to their decision. `sleep` may raise: the question is closed then."""
    try:
        while not isinstance(step, Decided):
            if isinstance(step, Sleep):
                sleep(step.seconds)
                step = begin(question)
            else:
                step = begin(question, ask(step))
        return step.decision
    finally:
        question.close()


async def aanswer(
    question: Question[_T],
    step: Sleep | Consult | Decided[_T],
    ask: Callable[[Consult], Awaitable[Verdict]],
    sleep: Callable[[float], Awaitable[None]],
) -> _T:
    """As `answer`, in a task."""
    try:
        while not isinstance(step, Decided):
            if isinstance(step, Sleep):
                await sleep(step.seconds)
                step = begin(question)
            else:
                step = begin(question, await ask(step))
        return step.decision
    finally:
        question.close()
