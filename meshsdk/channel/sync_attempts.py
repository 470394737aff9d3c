"""The attempts of a call of the synchronous façade that outlives the method that made it.

`mesh_call.MeshCall` adds how it is read. A call that has to wait, between attempts, for a backend or at a gate, does so
on a thread of its own (`waiting.next_attempt`), which holds it weakly.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from meshsdk.channel import inherited
from meshsdk.channel.attempt import AttemptEnd, CallOptions, Counted, Ended, ended_with, outcome, tell, too_late
from meshsdk.channel.calling import Calling
from meshsdk.channel.course import Course
from meshsdk.channel.failure import DEADLINE, CallCancelled, CallFailed, refused, status, words
from meshsdk.channel.hedged_attempts import HedgedCallee, HedgeEnd
from meshsdk.channel.hedged_sync import HedgedCall
from meshsdk.channel.passage import Called, Passage, Placed, unplanned
from meshsdk.channel.pool import PooledBackend
from meshsdk.channel.replay import Replay
from meshsdk.channel.stack import Hold, Lane
from meshsdk.channel.timers import TIMERS, Timer
from meshsdk.channel.waiting import next_attempt, wait_for_backend
from meshsdk.interceptors.drivers import Decided, Question, advance, answer, begin
from meshsdk.interceptors.policies.gate import Consult
from meshsdk.interceptors.policies.steps import Attempt, Outcome, Reject, Sleep

if TYPE_CHECKING:
    from meshsdk.channel.sync_methods import MultiCallable

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_Gates = tuple[Passage, Question["Reject | None"], "Sleep | Consult | Decided[Reject | None]"]


class SyncAttempts(Calling):
    """A running call.

    Thread rules: `_inner`, `_decided`, `_reading`, `_final` and `_callbacks` are guarded by `_state`; the fields of
    `Calling` and `_gates` belong to the one thread at a time that makes the next attempt; `_committed` only ever turns
    true; `_timed_out` is set by the attempt's timer before it cancels the attempt.
    """

    def __init__(
        self,
        method: MultiCallable,
        request: Any,
        options: CallOptions,
        *,
        requests: Replay | None = None,
        future: bool = False,
    ) -> None:
        """Starts the call; never blocks. `requests`: the stream of requests; `future`: made by `.future`."""
        self._final = False
        self._inner: Any = None
        self._method = method
        self._request = request
        self._requests = requests
        self._make = "future" if future else "__call__"
        target = method.channel.target or method.channel.open()
        called = Called(method.method, options.metadata, request, method.channel.id, not future, requests is None)
        self._set_out(target, called, options, time.monotonic())
        self._state = threading.Condition()
        self._decided: Any = None  # the last inner call whose end has been decided on
        self._committed = False
        self._reading = 0
        self._cancelled = False
        self._callbacks: list[Callable[[Any], None]] = []
        self._gates: _Gates | None = None  # on the way through them
        self._limited: Any = None  # the inner call that was made with a timeout of its own
        self._timed_out: Any = None  # the inner call whose own timeout has passed
        self._timer: Timer | None = None
        method.channel.track(self)  # type: ignore[arg-type]  # it is a MeshCall
        if (late := inherited.late(method.method, options.timeout)) is not None:
            self.conclude(late)
            return
        taken = target.take(method.method, options.metadata, request, method.channel.id)
        if not isinstance(taken, Hold):
            self.launch(Placed(*taken), Attempt())
        elif taken.lane is None:
            self._in_background(None, Attempt())
        else:
            self._set_out_planned(taken.lane)

    def __del__(self) -> None:
        """A call that nobody can read any more is cancelled, as grpcio does: its attempt would keep itself alive."""
        if not self._final and self._inner is not None:
            self._inner.cancel()

    def _set_out_planned(self, lane: Lane) -> None:
        """Begins a call that has a plan: here as far as nothing has to be waited for, else on a thread."""
        passage, gating = self._plan(lane)
        step = begin(gating)
        if not isinstance(step, Decided):
            self._gates = passage, gating, step
        elif step.decision is not None:
            self.conclude(refused(step.decision))
            return
        else:
            placed = passage.place()
            if isinstance(placed, Placed):
                self.launch(placed, Attempt())
                return
            if not placed.waits(self._options.wait_for_ready):
                progress = self._method.channel.scope.source.progress
                code = status(placed, self._options.wait_for_ready)
                self.conclude(CallFailed(code, words(self._target.name, placed, progress)))
                return
        self._in_background(None, Attempt())

    def launch(self, placed: Placed, attempt: Attempt) -> None:
        """Makes an attempt. Raises what grpc raises for what it cannot send."""
        lane, backend, breaker = placed
        if lane.plan is not None and self._requests is None:
            self._mirror(lane, self._method)
            if (callee := self._hedged(placed)) is not None:
                self._hedge(callee)
                return
        options = self._options
        counted = Counted(backend, breaker)
        try:
            metadata = self._set_off(lane, backend, attempt)
            timeout, own = self._times()
            make = getattr(self._method.stub(backend.connection), self._make)
            first = self._request if self._requests is None else self._requests.view()
            inner = make(first, timeout, metadata, options.credentials, None, options.compression)
        except BaseException:
            counted.end()
            self._broke_off()
            raise
        self._limited = None if own is None else inner
        if not self._stand_over(inner):
            inner.cancel()
        elif own is not None and self._called.streamed:
            self._limit(inner, own)
        inner.add_done_callback(AttemptEnd(self, counted, self._course))

    def _stand_over(self, inner: Any) -> bool:
        """The call is this attempt for now; False: it is over, and the attempt to be cancelled."""
        with self._state:
            if not self._final:
                self._inner = inner
                self._state.notify_all()
            return not (self._final or self._cancelled)

    def _hedge(self, callee: HedgedCallee) -> None:
        try:
            inner = HedgedCall(callee, self._method.stub, streamed=self._called.streamed)
        except BaseException:
            self._broke_off()
            raise
        if not self._stand_over(inner):
            inner.cancel()
        inner.add_done_callback(HedgeEnd(self, self._course))

    def hedge_ended(self, inner: HedgedCall) -> None:
        """Decides what follows hedged attempts. Called once for each round of them."""
        over = self._cancelled or self._final or self._committed
        step = None if over else self._after_hedging(inner.code().name, unsent=inner.unsent)
        if step is None or too_late(step, self._deadline):
            self.conclude(inner)
        else:
            self._in_background(inner, step)

    def _limit(self, inner: Any, seconds: float) -> None:
        """Ends an attempt that has given no answer after its own timeout; see `Calling._times`."""
        reference = weakref.ref(self)

        def end() -> None:
            call = reference()
            if call is not None:
                call.time_out(inner)

        self._timer = TIMERS.at(time.monotonic() + seconds, end)

    def time_out(self, inner: Any) -> None:
        """The own timeout of an attempt has passed."""
        with self._state:
            if self._committed or self._final or self._inner is not inner:
                return
            self._timed_out = inner
        inner.cancel()

    def ended(self, inner: Any, backend: PooledBackend) -> None:
        """Decides what follows an attempt. Called once for each, by grpc's thread."""
        if self._timer is not None:
            self._timer.cancel()
        ended = self._end_of(inner)
        if ended.trailing:
            self._target.noticed(backend.connection, ended.trailing)
        ok = ended.code is grpc.StatusCode.OK
        if self._cancelled or self._final or (ok and not self._judges_answers()):
            if ok:
                tell(backend, "OK", ended.trailing)
            self._attempted(Outcome(ended.code.name))
            self.conclude(inner)
            return
        fixed = self._committed or (self._requests is not None and not self._requests.replayable)
        reached = outcome(ended, backend, committed=fixed)
        self._attempted(reached)
        step = self._next(reached)
        if step is not None and not too_late(step, self._deadline):
            self._in_background(inner, step)
        elif inner is self._timed_out:
            self.conclude(CallFailed(ended.code, DEADLINE))
        else:
            self.conclude(inner)

    def _end_of(self, inner: Any) -> Ended:
        if inner is self._timed_out:
            return Ended(grpc.StatusCode.DEADLINE_EXCEEDED, DEADLINE, (), (), timed_out=True)
        return ended_with(inner, initial=self._judges_answers(), timed_out=inner is self._limited)

    def _in_background(self, ended: Any, step: Attempt | Sleep) -> None:
        arguments = (weakref.ref(self), ended, step)
        threading.Thread(target=next_attempt, args=arguments, name="meshsdk-call", daemon=True).start()

    def leave(self, ended: Any) -> bool:
        """Gives up an attempt that has ended, unless an application's thread has just got its first answer (A6)."""
        with self._state:
            self._state.wait_for(lambda: self._reading == 0)
            if not self._committed:
                self._decided = ended
                if self._inner is ended:
                    self._inner = None
                self._state.notify_all()
                return True
        self.conclude(ended)
        return False

    def prepare(self, step: Attempt | Sleep | None) -> tuple[Attempt, Callable[[], Placed | Lane]]:
        """Sleeps what the policy asks for, passes the gates; returns the next attempt, and a wait for its backend.

        The wait does not hold the call; it gives a bare lane where the call turns out to have a plan. Blocks; called by
        `next_attempt` on a thread of its own. Raises CallFailed where a gate refuses the call.
        """
        while isinstance(step, Sleep):
            self._rest(step.seconds)
            step = advance(self._steps, None) if self._steps is not None else None
        if self._gates is not None:
            gates, self._gates = self._gates, None
            self._pass(*gates)
        attempt = step or Attempt()
        if self._passage is not None:
            return attempt, self._wait(self._place(attempt))
        target, called = self._target, self._called
        return attempt, self._wait(lambda: unplanned(target, called, attempt.avoid))

    def enter(self, lane: Lane, attempt: Attempt) -> Callable[[], Placed]:
        """The call has a plan, as was found out only now; as `prepare`."""
        passage, gating = self._plan(lane)
        self._pass(passage, gating, begin(gating))
        return self._wait(self._place(attempt))

    def _pass(
        self, passage: Passage, gating: Question[Reject | None], step: Sleep | Consult | Decided[Reject | None]
    ) -> None:
        reject = answer(gating, step, passage.ask, self._wait_out)
        if reject is not None:
            raise refused(reject)

    def _wait_out(self, seconds: float) -> None:
        """Sleeps as a gate says. Raises CallFailed at the deadline, and when the call is over."""
        left = self._left()
        self._rest(seconds if left is None else max(0.0, min(seconds, left)))
        if self._final:
            raise CallCancelled
        if left is not None and left <= seconds:
            raise CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, DEADLINE)

    def _rest(self, seconds: float) -> None:
        with self._state:
            self._state.wait_for(lambda: self._final, seconds)

    def _wait(self, take: Callable[[], _T | Hold]) -> Callable[[], _T]:
        channel, target, reference = self._method.channel, self._target, weakref.ref(self)
        deadline, ready = self._deadline, self._options.wait_for_ready

        def over() -> bool:
            call = reference()
            return call is None or call.over() or channel.target is not target

        return lambda: wait_for_backend(channel.scope, target, take, deadline, over, wait_for_ready=ready)

    def over(self) -> bool:
        """Tells whether the call has ended."""
        return self._final

    @property
    def course(self) -> Course:
        """Where the call is counted at its end."""
        return self._course

    def conclude(self, inner: Any) -> None:
        """Ends the call with its last attempt, or with the error instead of one; no effect on one that has ended."""
        with self._state:
            if self._final:
                return
            self._inner = self._decided = inner
            self._final = True
            callbacks, self._callbacks = self._callbacks, []
            self._state.notify_all()
        self._count(inner)
        self._method.channel.untrack(self)  # type: ignore[arg-type]  # it is a MeshCall
        for callback in callbacks:
            try:
                callback(self)
            except Exception:  # noqa: BLE001 - the others must be told, as in grpcio
                _LOG.exception("a callback of a call of %s raised", self._method.method)

    def _count(self, inner: Any) -> None:
        code = inner.code()  # CANCELLED by this process itself: the application closed the channel
        own = isinstance(inner, CallFailed) and code is grpc.StatusCode.CANCELLED
        details = "" if self._course.observed is None else inner.details()
        self._course.end(code.name, details, cancelled=own or self._cancelled or inner.cancelled())
