"""The attempts of a call of the asyncio façade.

`aio_call.MeshCall` adds how it is read. A call starts its first attempt at once. Should that end in a way the policy
goes on from, or the call have to wait before it, a task makes the next attempt; whoever waits on the call waits for
that. Everything runs on the call's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from meshsdk.channel import inherited
from meshsdk.channel.attempt import AttemptEnd, CallOptions, Counted, Ended, outcome, tell, too_late
from meshsdk.channel.calling import Calling
from meshsdk.channel.failure import DEADLINE, refused_aio, status, words
from meshsdk.channel.hedged_aio import HedgedCall
from meshsdk.channel.hedged_attempts import HedgedCallee, HedgeEnd
from meshsdk.channel.passage import Called, Passage, Placed, unplanned
from meshsdk.channel.pool import PooledBackend
from meshsdk.channel.settled import now
from meshsdk.channel.stack import Hold, HoldKind, Lane
from meshsdk.interceptors.drivers import Decided, Question, aanswer, advance, begin
from meshsdk.interceptors.policies.gate import Consult
from meshsdk.interceptors.policies.steps import Attempt, Outcome, Reject, Sleep

if TYPE_CHECKING:
    from meshsdk.channel.aio_methods import MultiCallable

_T = TypeVar("_T")
_Step = Sleep | Consult | Decided["Reject | None"]
_Gates = tuple[Passage, Question["Reject | None"], _Step]
_OK = grpc.StatusCode.OK.value[0]
_WRITE_FAILED = "Internal error from Core"  # grpc.aio's words, until the status comes
_STATUS_LOOKS, _STATUS_PAUSE = 100, 0.001  # seconds; it comes at once, and where it does not the call ends INTERNAL
_CLOSED = Hold(HoldKind.CLOSED, "Channel closed.")  # grpcio's words


def _plain_success(inner: Any) -> bool:
    """Tells whether an attempt that has ended is OK and brought no trailing metadata, at a tenth of the public cost.

    grpc.aio gives status and trailing metadata through coroutines only; where its inside looks different from what is
    read here, the answer is False and those are asked.
    """
    try:
        status = inner._cython_call._status  # noqa: SLF001 - see above
        return status.code() == _OK and not status.trailing_metadata()
    except AttributeError:
        return False


def _write_failed(code: grpc.StatusCode, inner: Any) -> bool:
    return code is grpc.StatusCode.INTERNAL and now(inner.details()) == _WRITE_FAILED


async def _status(inner: Any) -> None:
    """Waits until the status has taken the place of a failed write; some releases of grpc.aio tell nobody of that."""
    for _ in range(_STATUS_LOOKS):
        if not _write_failed(now(inner.code()), inner):
            return
        await asyncio.sleep(_STATUS_PAUSE)


def own_error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    """Returns the error of a call that ended in this process."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details, f"meshsdk: {details}")


def _let_go(inner: HedgedCall, loop: asyncio.AbstractEventLoop) -> None:
    """The application has dropped the call: its attempts would keep each other alive. From any thread."""
    if not inner.done() and not loop.is_closed():
        with contextlib.suppress(RuntimeError):  # closed between the check and the call: nothing runs on it any more
            loop.call_soon_threadsafe(inner.cancel)


class AioAttempts(Calling):
    """A running call. Owned by the loop."""

    _inner: Any = None  # the running or last attempt; None while the next one is being prepared
    _failed: BaseException | None = None  # why there is no attempt, for a call that ended without one
    _unsure: Any = None  # an attempt with a failed write, whose status is yet to come
    _decided: Any = None  # the last attempt whose end has been decided on
    _left_behind: Any = None  # the last attempt that was given up for another one
    _limited: Any = None  # the attempt that was made with a timeout of its own
    _timed_out: Any = None  # the attempt whose own timeout has passed
    _timer: asyncio.TimerHandle | None = None
    _next_task: asyncio.Task[None] | None = None
    _done = False
    _committed = False
    _over_waiters: list[asyncio.Future[None]] | None = None
    _callbacks: list[Callable[[Any], None]] | None = None
    _streamed = False  # whether the answer is a stream
    _single = True  # whether the request is not

    def __init__(self, method: MultiCallable, request: Any, options: CallOptions) -> None:
        """Starts the call on the running loop; never blocks. `request` is None for a stream of requests."""
        self._method = method
        self._request = request
        target = method.channel.target or method.channel.open()
        called = Called(method.method, options.metadata, request, method.channel.id, self._streamed, self._single)
        self._set_out(target, called, options, time.monotonic())
        self._loop = method.channel.scope_loop
        self._track()
        if options.timeout is not None and options.timeout <= 0:
            self._failed = inherited.late_aio(method.method, options.timeout)
            if self._failed is not None:
                self._conclude(None)
                return
        taken = target.take(method.method, options.metadata, request, method.channel.id)
        if not isinstance(taken, Hold):
            self._inner = self._launch(Placed(*taken), Attempt())
        elif taken.lane is None:
            self._prepare(Attempt())
        else:
            self._set_out_planned(taken.lane)

    def _track(self) -> None:
        self._method.channel.track(self)  # type: ignore[arg-type]  # it is a MeshCall

    # Attempts

    def _set_out_planned(self, lane: Lane) -> None:
        """Begins a call that has a plan: here as far as nothing has to be waited for, else in a task."""
        passage, gating = self._plan(lane)
        step = begin(gating)
        if not isinstance(step, Decided):
            self._next_task = self._loop.create_task(self._go_on(Attempt(), None, (passage, gating, step)))
        elif step.decision is not None:
            self._failed = refused_aio(step.decision)
            self._conclude(None)
        else:
            placed = passage.place()
            if isinstance(placed, Placed):
                self._inner = self._launch(placed, Attempt())
            elif placed.waits(self._options.wait_for_ready):
                self._prepare(Attempt())
            else:
                self._failed = self._held(placed)
                self._conclude(None)

    def _first_argument(self) -> Any:
        return self._request

    def _launch(self, placed: Placed, attempt: Attempt) -> Any:
        lane, backend, breaker = placed
        if lane.plan is not None and self._single:
            self._mirror(lane, self._method, self._loop)
            if (callee := self._hedged(placed)) is not None:
                return self._hedge(callee)
        options = self._options
        counted = Counted(backend, breaker)
        try:
            metadata = self._set_off(lane, backend, attempt)
            timeout, own = self._times()
            inner = self._method.stub(backend.connection)(
                self._first_argument(),
                timeout=timeout,
                metadata=metadata,
                credentials=options.credentials,
                compression=options.compression,
            )
        except BaseException:
            counted.end()
            self._broke_off()
            raise
        if own is not None:
            self._limited = inner
            if self._streamed:
                self._timer = self._loop.call_later(own, self._time_out, inner)
        inner.add_done_callback(AttemptEnd(self, counted, self._course))
        return inner

    def _hedge(self, callee: HedgedCallee) -> HedgedCall:
        try:
            inner = HedgedCall(callee, self._method.stub, self._loop, streamed=self._streamed)
        except BaseException:
            self._broke_off()
            raise
        inner.add_done_callback(HedgeEnd(self, self._course))
        weakref.finalize(self, _let_go, inner, self._loop).atexit = False
        return inner

    def hedge_ended(self, inner: HedgedCall) -> None:
        """Decides what follows hedged attempts. Called once for each round of them."""
        over = self._done or self._committed or inner.cancelled()
        step = None if over else self._after_hedging(now(inner.code()).name, unsent=inner.unsent)
        if step is None or too_late(step, self._deadline):
            self._conclude(inner)
        else:
            self._inner = None
            self._prepare(step, inner)

    def _time_out(self, inner: Any) -> None:
        """The own timeout of an attempt has passed; see `Calling._times`."""
        if not self._committed and not self._done and not inner.done():
            self._timed_out = inner
            inner.cancel()

    def ended(self, inner: Any, backend: PooledBackend) -> None:
        """Decides what follows an attempt; called at its end, before anyone who awaits it resumes."""
        if self._done or inner is self._decided:
            return
        if self._timer is not None:
            self._timer.cancel()
        if _plain_success(inner) and not self._judges_answers():
            if backend.watch is not None:
                backend.watch.succeeded()
            self._course.succeed()
            self._conclude(inner)
            return
        ended = self._end_of(inner)
        if inner is not self._unsure and _write_failed(ended.code, inner):
            self._wait_for_status(inner, backend)
            return
        if inner is self._unsure and self._next_task is not None:
            self._next_task.cancel()
        self._decided = inner
        if ended.trailing:
            self._target.noticed(backend.connection, ended.trailing)
        ok = ended.code is grpc.StatusCode.OK
        if (ok and not self._judges_answers()) or (inner.cancelled() and inner is not self._timed_out):
            if ok:
                tell(backend, "OK", ended.trailing)
            self._attempted(Outcome(ended.code.name))
            self._conclude(inner)
            return
        self._judge(inner, ended, backend)

    def _judge(self, inner: Any, ended: Ended, backend: PooledBackend) -> None:
        """Asks the policy what follows."""
        reached = outcome(ended, backend, committed=self._committed or not self._replayable())
        self._attempted(reached)
        step = self._next(reached)
        if step is not None and not too_late(step, self._deadline):
            self._inner = None
            self._prepare(step, inner)
        elif inner is self._timed_out:
            self._failed = own_error(ended.code, DEADLINE)
            self._conclude(None)
        else:
            self._conclude(inner)

    def _end_of(self, inner: Any) -> Ended:
        if inner is self._timed_out:
            return Ended(grpc.StatusCode.DEADLINE_EXCEEDED, DEADLINE, (), (), timed_out=True)
        initial = tuple(now(inner.initial_metadata())) if self._judges_answers() else ()
        trailing = tuple(now(inner.trailing_metadata()) or ())
        return Ended(now(inner.code()), now(inner.details()), trailing, initial, inner is self._limited)

    def _replayable(self) -> bool:
        return True

    def _wait_for_status(self, inner: Any, backend: PooledBackend) -> None:
        """A write failed because the attempt has ended; why it has, tells the status that comes next."""
        self._inner, self._unsure = None, inner
        self._next_task = self._loop.create_task(_status(inner))
        self._next_task.add_done_callback(lambda _: self.ended(inner, backend))

    def _prepare(self, step: Attempt | Sleep, ended: Any = None) -> None:
        self._next_task = self._loop.create_task(self._go_on(step, ended))

    async def _go_on(self, first: Attempt | Sleep, ended: Any, gates: _Gates | None = None) -> None:
        if self._committed:  # its first answer was on its way to the application when it ended: it is the last (A6)
            self._conclude(ended)
            return
        self._left_behind = ended
        step: Attempt | Sleep | None = first
        inner: Any = None
        try:
            if gates is not None:
                await self._pass(*gates)
            while isinstance(step, Sleep):
                await asyncio.sleep(step.seconds)
                step = None if self._steps is None else advance(self._steps, None)
            attempt = step or Attempt()
            inner = self._launch(await self._placed(attempt), attempt)
            await self._replay(inner)
            if not inner.done():  # else `ended` has decided what follows
                self._inner = inner
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - raised to whoever awaits the call
            if inner is None or not inner.done():  # else as above: it ended while it was given the requests
                self._failed = error
                self._conclude(None)

    async def _replay(self, inner: Any) -> None:
        """Gives a further attempt what the application has written so far."""

    async def _pass(self, passage: Passage, gating: Question[Reject | None], step: _Step) -> None:
        """Passes the gates; raises the error of a call that one refuses."""
        reject = await aanswer(gating, step, passage.aask, self._wait_out)
        if reject is not None:
            raise refused_aio(reject)

    async def _wait_out(self, seconds: float) -> None:
        """Sleeps as a gate says; raises the error of a call whose deadline comes first."""
        left = self._left()
        await asyncio.sleep(seconds if left is None else max(0.0, min(seconds, left)))
        if left is not None and left <= seconds:
            raise own_error(grpc.StatusCode.DEADLINE_EXCEEDED, DEADLINE)

    async def _placed(self, attempt: Attempt) -> Placed:
        """Waits for a backend; passes the gates first, where the call turns out to have a plan."""
        if self._passage is None:
            found: Placed | Lane = await self._wait(lambda: unplanned(self._target, self._called, attempt.avoid))
            if isinstance(found, Placed):
                return found
            passage, gating = self._plan(found)
            await self._pass(passage, gating, begin(gating))
        return await self._wait(self._place(attempt))

    async def _wait(self, take: Callable[[], _T | Hold]) -> _T:
        method, scope = self._method, self._method.channel.scope
        while True:
            taken = take() if method.channel.target is self._target else _CLOSED
            if not isinstance(taken, Hold):
                return taken
            left = self._left()
            if not taken.waits(self._options.wait_for_ready) or (left is not None and left <= 0):
                raise self._held(taken)
            scope.hurry()
            await scope.wait(left)

    def _held(self, hold: Hold) -> grpc.aio.AioRpcError:
        """Returns the error of a call that ends at this hold."""
        details = words(self._target.name, hold, self._method.channel.scope.source.progress)
        return own_error(status(hold, self._options.wait_for_ready), details)

    def _conclude(self, inner: Any) -> None:
        self._inner = inner
        self._done = True
        if not self._course.over:
            self._count(inner)
        self._method.channel.untrack(self)  # type: ignore[arg-type]  # it is a MeshCall
        waiters, self._over_waiters = self._over_waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback(self)

    def _count(self, inner: Any) -> None:
        """Counts the call at its end; `inner`: its last attempt, or None where `_failed` is what it ended with."""
        if inner is not None:
            details = "" if self._course.observed is None else now(inner.details())
            self._course.end(now(inner.code()).name, details, cancelled=inner.cancelled())
        elif isinstance(self._failed, grpc.aio.AioRpcError):
            code = self._failed.code()
            closed = self._method.channel.target is not self._target
            details = self._failed.details()
            self._course.end(code.name, details, cancelled=closed and code is grpc.StatusCode.CANCELLED)
        else:
            cancelled = isinstance(self._failed, asyncio.CancelledError)
            self._course.end("CANCELLED" if cancelled else "UNKNOWN", cancelled=cancelled)
