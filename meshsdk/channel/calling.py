"""What calls of all façades share between their attempts: the deadline, the course, the plan, the policy.

Mixed into `BlockingCall` and into the `MeshCall`s of both façades; holds no I/O and makes no attempt.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

from meshsdk.channel.attempt import CallOptions, shorter, with_previous
from meshsdk.channel.course import Course
from meshsdk.channel.hedged_attempts import HedgedCallee
from meshsdk.channel.mirroring import Method, Mirroring
from meshsdk.channel.observed import observed
from meshsdk.channel.passage import Called, Passage, Placed
from meshsdk.channel.pool import PooledBackend
from meshsdk.channel.stack import Hold, Lane, Target
from meshsdk.interceptors.drivers import Question, advance
from meshsdk.interceptors.policies.recover import recover
from meshsdk.interceptors.policies.steps import Attempt, Outcome, Reject, Sleep, Steps
from meshsdk.model.resources import Forward
from meshsdk.telemetry.port import OBSERVING, Sight


class Calling:
    """One call. Its fields belong to whoever makes the call's next attempt, one thread or task at a time."""

    _forward: Forward | None = None  # of the last attempt; the first one's caps the call
    _passage: Passage | None = None  # of a call that has a plan
    _steps: Steps | None = None
    _attempts = 0

    def _set_out(
        self, target: Target, called: Called, options: CallOptions, began: float, seen: Sight | None = None
    ) -> None:
        """`began`: monotonic seconds; the call's timeout counts from there. `seen`: who has looked at it so far."""
        self._target = target
        self._called = called
        self._options = options
        self._began = began
        self._deadline = None if options.timeout is None else began + options.timeout
        self._course = Course(target)
        if OBSERVING.observer is not None:
            self._course.observed = seen or observed(target.name, called.method)

    def _rule(self, forward: Forward) -> None:
        """The first route of a call caps the whole of it (A31)."""
        if self._forward is None:
            limit = shorter(self._options.timeout, forward)
            self._deadline = None if limit is None else self._began + limit
        self._forward = forward

    def _plan(self, lane: Lane) -> tuple[Passage, Question[Reject | None]]:
        """The call has a plan: returns its passage, and the way through the gates."""
        self._rule(lane.forward)
        self._passage = self._course.passage = passage = Passage(self._target, lane, self._called)
        passage.observed = self._course.observed
        return passage, passage.gating(self._deadline)

    def _place(self, attempt: Attempt) -> Callable[[], Placed | Hold]:
        """Returns what gives a call with a plan a backend for its next attempt."""
        passage, pinned = self._passage, self._attempts > 0
        if passage is None:
            raise AssertionError("only a call with a plan is placed by it")
        return lambda: passage.place(avoid=attempt.avoid, pinned=pinned)

    def _set_off(self, lane: Lane, backend: PooledBackend, attempt: Attempt) -> Any:
        """An attempt is about to be made; returns its metadata: after the plan's edits, with the count of attempts."""
        self._rule(lane.forward)
        self._attempts += 1
        self._course.take(backend.tally)
        metadata = with_previous(self._options.metadata if self._passage is None else self._passage.metadata, attempt)
        seen = self._course.observed
        return metadata if seen is None else seen.attempt(lane, backend, metadata)

    def _mirror(self, lane: Lane, method: Method, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Sends the copies that the plan asks for of a call with one request; once, before its first attempt."""
        plan, passage = lane.plan, self._passage
        if plan is None or not plan.mirrors or passage is None or self._attempts:
            return
        options, called = self._options._replace(metadata=passage.metadata), self._called
        copies = Mirroring(
            self._target, method, called.request, options, called.channel_id, called.streamed, self._deadline
        )
        sent = copies.send(lane, loop)
        if sent and self._course.observed is not None:
            self._course.observed.event("mirror", {"clusters": ", ".join(sent)})

    def _hedged(self, placed: Placed) -> HedgedCallee | None:
        """An attempt of a call with one request is about to be made; returns what is called if its plan hedges it."""
        plan, passage = placed.lane.plan, self._passage
        if plan is None or plan.hedging is None or passage is None:
            return None
        self._rule(placed.lane.forward)
        self._attempts += 1
        called = self._called
        return HedgedCallee(
            self._target,
            passage,
            self._course,
            placed,
            self._deadline,
            called.request,
            self._options,
            called.channel_id,
        )

    def _after_hedging(self, code: str, *, unsent: bool) -> Attempt | Sleep | None:
        """Hedged attempts have ended: what never left the process moves on, else nothing follows (A6)."""
        return self._next(Outcome(code, unsent=True)) if unsent else None

    def _left(self) -> float | None:
        """Seconds to the deadline; None without one."""
        return None if self._deadline is None else self._deadline - time.monotonic()

    def _times(self) -> tuple[float | None, float | None]:
        """Returns the timeout that the next attempt is made with, and the timeout that is the attempt's own, if any.

        An answer that is a stream has an own timeout only up to its first message (as Envoy's `per_try_timeout`), so
        the attempt is made with what is left of the call. gRFC A44 leaves `per_try_timeout` out.
        """
        left = self._left()
        retry = None if self._forward is None else self._forward.retry
        own = None if retry is None else retry.per_try_timeout
        if own is None or (left is not None and left <= own) or self._hedges():
            return left, None
        return (left if self._called.streamed else own), own

    def _hedges(self) -> bool:
        """Tells whether the plan hedges: `per_try_timeout` is then when the next attempt begins, and ends none."""
        return self._passage is not None and self._passage.plan.hedging is not None

    def _judges_answers(self) -> bool:
        """Tells whether an OK may be followed by another attempt: a policy with retriable headers looks at them."""
        retry = None if self._forward is None else self._forward.retry
        return retry is not None and bool(retry.retriable_headers)

    def _attempted(self, reached: Outcome) -> None:
        """An attempt has ended."""
        self._course.attempted(unsent=reached.unsent)
        if self._course.observed is not None:
            self._course.observed.attempted(reached.code)
        if self._passage is not None:
            self._passage.attempted()

    def _broke_off(self) -> None:
        """The call could not even be begun, and its application gets the exception."""
        seen, self._course.observed = self._course.observed, None
        if seen is not None:
            seen.end("UNKNOWN", "")

    def _next(self, reached: Outcome) -> Attempt | Sleep | None:
        """Asks the policy what follows the end of an attempt; None: it was the last."""
        if self._steps is None:
            if reached.code == "OK" and not self._judges_answers():
                return None
            hedged = self._hedges() and self._called.single
            retry = None if self._forward is None or hedged else self._forward.retry
            self._steps = recover(retry, random.random, self._may_retry)
            next(self._steps)
        step = advance(self._steps, reached)
        if isinstance(step, Sleep) and self._course.observed is not None:
            self._course.observed.event("retry", {"seconds": step.seconds})
        return step

    def _may_retry(self) -> bool:
        return self._passage is None or self._passage.may_retry()
