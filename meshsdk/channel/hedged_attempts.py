"""The attempts of one hedged call, for either façade: where each goes, where it is counted, how it ended.

Used by `hedged_sync` and `hedged_aio`, which make the attempts and follow `interceptors.policies.hedge`. All attempts
stay in the lane of the first one. No I/O.
"""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from meshsdk.channel.attempt import Counted, Ended, outcome, tell, with_previous
from meshsdk.channel.passage import Passage, Placed
from meshsdk.channel.stack import Hold, Metadata, Target
from meshsdk.interceptors.policies.hedge import Hedge
from meshsdk.lb.picker import Picker
from meshsdk.model.policy import Hedging

if TYPE_CHECKING:
    from meshsdk.channel.attempt import CallOptions
    from meshsdk.channel.breakers import Breaker
    from meshsdk.channel.course import Course
    from meshsdk.channel.pool import PooledBackend
    from meshsdk.interceptors.policies.steps import Attempt, Outcome
    from meshsdk.telemetry.port import AttemptObservation

_DRAWS = 16  # picks in search of an endpoint that the call has not tried


class HedgedCallee(NamedTuple):
    """What a hedged call calls. `first`: where its first attempt goes. `deadline`: of the call, monotonic seconds."""

    target: Target
    passage: Passage
    course: Course
    first: Placed
    deadline: float | None
    request: Any
    options: CallOptions
    channel_id: int

    @property
    def hedging(self) -> Hedging:
        """The policy."""
        plan = self.first.lane.plan
        if plan is None or plan.hedging is None:
            raise AssertionError("only calls whose plan hedges come here")
        return plan.hedging


class Running:
    """One attempt. Guarded by whatever guards the call. `inner`: grpc's call; `message`: of a stream, read ahead.

    `seen`: who looks at it, until that one is told its end. `late`: its endpoint has been told that it failed;
    `judged`: that it ended.
    """

    __slots__ = (
        *("_budget", "_since", "counted", "inner", "judged", "late", "message", "number", "over"),
        *("seen", "unsent"),
    )

    def __init__(self, number: int, counted: Counted, budget: Breaker | None, now: float) -> None:
        """`budget`: that counts it as a retry."""
        self.number = number
        self._since = now
        self.late = False
        self.judged = False
        self.counted = counted
        self.inner: Any = None
        self.message: Any = None
        self.over = False
        self.unsent = False
        self.seen: AttemptObservation | None = None
        self._budget = budget

    @property
    def backend(self) -> PooledBackend:
        """Where it goes."""
        return self.counted.backend

    def judge(self, delay: float, now: float) -> None:
        """Tells its endpoint's watch that it failed, if it has given no answer for `delay` seconds.

        As Envoy with `hedge_on_per_try_timeout`: an endpoint that is overtaken again and again is an outlier, though
        none of its attempts ever ends. What the attempt comes to later counts no more.
        """
        if not self.over and not self.late and now - self._since >= delay > 0:
            self.late = True
            tell(self.backend, "DEADLINE_EXCEEDED", (), local_origin=True)

    def tell(self, code: str) -> None:
        """Tells who looks at it that it has ended, once."""
        seen, self.seen = self.seen, None
        if seen is not None:
            seen.ended(code)

    def end(self) -> None:
        """It has ended; only the first end counts."""
        self.over = True
        self.counted.end()
        budget, self._budget = self._budget, None
        if budget is not None:
            budget.retried()


class EndsHedging(Protocol):
    """A call that outlives the method that made it: `MeshCall` of either façade."""

    def hedge_ended(self, inner: Any) -> None:
        """Decides what follows."""


class HedgeEnd:
    """Told when a hedged call has ended. Holds what stands over it weakly, as `AttemptEnd` does."""

    __slots__ = ("_call", "_course")

    def __init__(self, call: EndsHedging, course: Course) -> None:
        """Made as it begins."""
        self._call = weakref.ref(call)
        self._course = course

    def __call__(self, inner: Any) -> None:
        """Asks the call what follows."""
        call = self._call()
        if call is not None:
            call.hedge_ended(inner)
        else:
            self._course.end("CANCELLED", cancelled=True)


class HedgedAttempts:
    """Guarded by whatever guards the call. `hedge`: the call's policy."""

    __slots__ = ("_callee", "hedge", "made")

    def __init__(self, callee: HedgedCallee) -> None:
        """The call begins."""
        self._callee = callee
        self.hedge = Hedge(callee.hedging, callee.deadline, time.monotonic())
        self.made: list[Running] = []

    def begin(self, attempt: Attempt) -> Running | None:
        """Counts the attempt that the policy asks for; None: it cannot begin, for lack of budget or endpoint."""
        now = time.monotonic()
        for one in self.made:
            one.judge(self._callee.hedging.delay, now)
        budget = self._budget() if attempt.previous else None
        admitted = budget is None or budget.retry()
        placed = (self._elsewhere(attempt.avoid) if self.made else self._callee.first) if admitted else None
        if placed is None:
            if budget is not None and admitted:
                budget.retried()
            self.hedge.refused()
            return None
        number = self.hedge.started(placed.backend.endpoint.address, now)
        running = Running(number, Counted(placed.backend, placed.breaker), budget, now)
        if not self.made:
            self._callee.course.take(running.counted.tally)
        self.made.append(running)
        return running

    def _budget(self) -> Breaker | None:
        return next(iter(self._callee.passage.plan.breakers.values()), None)

    def _elsewhere(self, avoid: frozenset[str]) -> Placed | None:
        """Picks an endpoint that was not tried, or one that was if there is no other; None without any, or if full."""
        lane, target = self._callee.first.lane, self._callee.target
        backend = self._untried(avoid)
        if backend is None:
            taken = target.take_slowly(lane, self._callee.passage.metadata, self._callee.channel_id)
            if isinstance(taken, Hold):
                return None
            backend = taken[1]
        breaker = self._callee.passage.plan.breakers.get(backend.tally.place.cluster)
        if breaker is not None and not breaker.enter():
            return None
        return Placed(lane, backend, breaker)

    def _untried(self, avoid: frozenset[str]) -> PooledBackend | None:
        picker = self._callee.first.lane.balancer.picker
        if isinstance(picker, Picker):
            for _ in range(_DRAWS):
                backend = cast("PooledBackend", picker.pick(None))  # a hash would lead to the same one each time
                if backend.endpoint.address not in avoid and backend.connection.ready():
                    return backend
        return None

    def arguments(self, running: Running, attempt: Attempt) -> tuple[float | None, Metadata | None]:
        """Returns timeout and metadata of an attempt that is made now."""
        deadline, seen = self._callee.deadline, self._callee.course.observed
        left = None if deadline is None else deadline - time.monotonic()
        metadata = with_previous(self._callee.passage.metadata, attempt)
        if seen is not None:
            if running.number:
                seen.event("hedge", {"previous": attempt.previous})
            metadata = seen.attempt(self._callee.first.lane, running.backend, metadata)
            running.seen, seen.last = seen.last, None
        return left, metadata

    def judge(self, running: Running, ended: Ended) -> Outcome:
        """An attempt has ended of itself: tells its endpoint's watch and connection; returns the policies' words."""
        running.judged = True
        self._callee.target.noticed(running.backend.connection, ended.trailing)
        return outcome(ended, running.backend, committed=False, told=running.late)

    def failed(self, running: Running, outcome: Outcome) -> None:
        """An attempt has ended other than OK, of itself."""
        running.judged = True
        running.unsent = outcome.unsent
        running.tell(outcome.code)
        self.hedge.failed(running.number, outcome, time.monotonic())

    def conclude(self, winner: Running, code: str) -> None:
        """Tells the call's course of its attempts: it counts where the winner was. `code`: of the winner's status."""
        course, first = self._callee.course, self.made[0]
        winner.tell(code)
        for one in self.made:
            if one is not winner:
                one.tell("CANCELLED")
                course.attempted(unsent=one.unsent)
                if one is not first:
                    one.counted.tally.moved_away()
        if winner is not first:
            course.take(winner.counted.tally)
        course.attempted(unsent=winner.unsent)
