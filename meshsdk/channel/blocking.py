"""The slow path of a blocking unary call: waiting for a backend, moving, retrying. Runs on the caller's thread.

A call whose lane has a plan runs here from its start: gates, then attempts that the breaker admits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import grpc

from meshsdk.channel.attempt import CallOptions, Counted, Ended, ended_with, outcome, tell
from meshsdk.channel.calling import Calling
from meshsdk.channel.failure import CLOSED, DEADLINE, CallFailed, refused
from meshsdk.channel.hedged_attempts import HedgedCallee
from meshsdk.channel.hedged_sync import HedgedCall
from meshsdk.channel.passage import Called, Placed, unplanned
from meshsdk.channel.pool import PooledBackend
from meshsdk.channel.stack import Hold, Lane, Target
from meshsdk.channel.waiting import wait_for_backend
from meshsdk.interceptors.drivers import answer, begin, drive
from meshsdk.interceptors.policies.steps import Attempt, Outcome
from meshsdk.telemetry.port import Sight

if TYPE_CHECKING:
    from meshsdk.channel.sync_methods import UnaryUnary

_T = TypeVar("_T")
_OK = Outcome("OK")


class _NoTime(Exception):
    """The wait before a retry would outlast the call's deadline."""


class BlockingCall(Calling):
    """One call. Used by one thread."""

    def __init__(
        self,
        method: UnaryUnary,
        target: Target,
        request: Any,
        options: CallOptions,
        began: float = 0.0,
        seen: Sight | None = None,
    ) -> None:
        """`began`: monotonic seconds at the first attempt; 0.0: now. `seen`: that attempt, if somebody looks."""
        self._method = method
        self._request = request
        called = Called(method.method, options.metadata, request, method.channel.id, streamed=False, single=True)
        self._set_out(target, called, options, began or time.monotonic(), seen)
        self._answer: tuple[Any, grpc.Call] | None = None
        self._error: grpc.RpcError | None = None

    def run(self, lane: Lane | None = None) -> tuple[Any, grpc.Call]:
        """Makes the call from its start: nothing was connected when it began, or its `lane` has a plan."""

        def begins() -> Outcome:
            if lane is not None:
                self._enter(lane)
            return self._attempt(Attempt())

        return self._conclude(begins)

    def resume(self, lane: Lane, backend: PooledBackend, error: grpc.RpcError) -> tuple[Any, grpc.Call]:
        """Goes on after a first attempt that failed with `error`."""
        self._rule(lane.forward)
        self._course.take(backend.tally)
        return self._conclude(lambda: self._failed(backend, error))

    def _conclude(self, attempt: Callable[[], Outcome]) -> tuple[Any, grpc.Call]:
        try:
            step = self._next(attempt())
            if step is not None and self._steps is not None:
                drive(self._steps, step, self._attempt, self._sleep)
        except _NoTime:
            pass  # what the last attempt ended with is the call's own (as gRPC does)
        except grpc.RpcError as error:
            self._count(error)
            raise
        except BaseException:  # an interrupt
            self._course.end("CANCELLED", cancelled=True)
            raise
        self._count(self._error)
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # an exception that holds its own frame would keep request and channel alive
        if self._answer is None:
            raise AssertionError("an attempt ends with an answer or an error")
        return self._marked(self._answer)

    def _marked(self, answer: tuple[Any, grpc.Call]) -> tuple[Any, grpc.Call]:
        """Has the call object show the first headers as the plan has them; it stays grpc's own."""
        call: Any = answer[1]
        if self._passage is not None and self._passage.marks_headers:
            headers = self._passage.headers(call.initial_metadata())
            call.initial_metadata = lambda: headers
        return answer

    def _count(self, error: Any) -> None:
        """Counts the call at its end. One that the close of its channel ended was cancelled by the application."""
        code = grpc.StatusCode.OK if error is None else error.code()
        closed = self._method.channel.target is not self._target
        details = "" if error is None else error.details()
        self._course.end(code.name, details, cancelled=closed and code is grpc.StatusCode.CANCELLED)

    def _enter(self, lane: Lane) -> None:
        """Takes the call through the gates of its plan. Raises CallFailed where one refuses it."""
        passage, gating = self._plan(lane)
        reject = answer(gating, begin(gating), passage.ask, self._wait_out)
        if reject is not None:
            raise refused(reject)

    def _placed(self, attempt: Attempt) -> Placed:
        """Waits for a backend; passes the gates first, where the call turns out to have a plan."""
        if self._passage is None:
            found = cast("Placed | Lane", self._wait(lambda: unplanned(self._target, self._called, attempt.avoid)))
            if isinstance(found, Placed):
                return found
            self._enter(found)
        return self._wait(self._place(attempt))

    def _wait(self, take: Callable[[], _T | Hold]) -> _T:
        channel = self._method.channel
        return wait_for_backend(
            channel.scope,
            self._target,
            take,
            self._deadline,
            lambda: channel.target is not self._target,
            wait_for_ready=self._options.wait_for_ready,
        )

    def _attempt(self, attempt: Attempt) -> Outcome:
        method, options = self._method, self._options
        placed = self._placed(attempt)
        lane, backend, breaker = placed
        if lane.plan is not None:
            self._mirror(lane, method)
            if (callee := self._hedged(placed)) is not None:
                return self._hedge(callee)
        counted = Counted(backend, breaker)
        own = None
        try:
            metadata = self._set_off(lane, backend, attempt)
            timeout, own = self._times()
            self._answer = method.stub(backend.connection).with_call(
                self._request, timeout, metadata, options.credentials, None, options.compression
            )
        except grpc.RpcError as error:
            return self._failed(backend, error, timed_out=own is not None)
        finally:
            counted.end()
        self._error = None
        call = self._answer[1]
        trailing = call.trailing_metadata() or ()
        self._target.noticed(backend.connection, trailing)
        if self._judges_answers():
            return self._reached(ended_with(call, initial=True, timed_out=False), backend)
        tell(backend, "OK", trailing)
        self._attempted(_OK)
        return _OK

    def _hedge(self, callee: HedgedCallee) -> Outcome:
        call = HedgedCall(callee, self._method.stub, driven=True)
        ending = call.drive()
        self._answer = self._error = None
        try:
            self._answer = ending.result(), ending
        except grpc.RpcError as error:
            self._error = error
        return Outcome(ending.code().name, unsent=call.unsent, committed=not call.unsent)

    def _failed(self, backend: PooledBackend, error: Any, *, timed_out: bool = False) -> Outcome:
        self._answer, self._error = None, error
        ended = ended_with(error, initial=self._judges_answers(), timed_out=timed_out)
        self._target.noticed(backend.connection, ended.trailing)
        return self._reached(ended, backend)

    def _reached(self, ended: Ended, backend: PooledBackend) -> Outcome:
        reached = outcome(ended, backend, committed=False)
        self._attempted(reached)
        return reached

    def _sleep(self, seconds: float) -> None:
        """Sleeps before a retry. Raises _NoTime where the deadline comes first, CallFailed when the channel closes."""
        if self._deadline is not None and time.monotonic() + seconds >= self._deadline:
            raise _NoTime
        self._rest(seconds)

    def _wait_out(self, seconds: float) -> None:
        """Sleeps as a gate says. Raises CallFailed where the deadline comes first, and when the channel closes."""
        left = self._left()
        if left is not None and left <= seconds:
            self._rest(max(0.0, left))
            raise CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, DEADLINE)
        self._rest(seconds)

    def _rest(self, seconds: float) -> None:
        """Sleeps on what the close of a channel wakes. Raises CallFailed when the call's own closes."""
        channel, changed = self._method.channel, self._method.channel.scope.changed
        with changed:
            closed = changed.wait_for(lambda: channel.target is not self._target, seconds)
        if closed:
            raise CallFailed(grpc.StatusCode.CANCELLED, CLOSED)
