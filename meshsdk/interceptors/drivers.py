"""Runs a policy's steps. Carries, does not decide.

Called by the channel façades after a first attempt has failed or could not start: `drive` by a call that blocks its
thread; `first` and `advance`, one step at a time, by calls that outlive the method that made them, on threads and on
asyncio alike. The attempt itself, the sleep and the deadline belong to the caller.
"""

from __future__ import annotations

from collections.abc import Callable

from meshsdk.interceptors.policies.steps import Attempt, Outcome, Sleep, Steps


def first(steps: Steps, outcome: Outcome) -> Attempt | Sleep | None:
    """Tells a fresh policy how the attempt made without it ended; returns its next step, None at the end."""
    next(steps)
    return advance(steps, outcome)


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
