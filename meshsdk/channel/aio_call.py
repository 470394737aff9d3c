"""Calls of the asyncio façade: what `grpc.aio` offers, over a native call that may be exchanged for another.

A call starts its first attempt at once. Should that end in a way the policy goes on from, a task makes the next
attempt; whoever waits on the call waits for that. Everything runs on the call's loop.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from meshsdk.channel.attempt import AttemptEnd, CallOptions, outcome, shorter, too_late, with_previous
from meshsdk.channel.course import Course
from meshsdk.channel.failure import status, words
from meshsdk.channel.pool import Connection, PooledBackend
from meshsdk.channel.stack import Hold, HoldKind
from meshsdk.interceptors.drivers import advance
from meshsdk.interceptors.policies.recover import recover
from meshsdk.interceptors.policies.steps import Attempt, Sleep, Steps
from meshsdk.model.resources import Forward

if TYPE_CHECKING:
    from meshsdk.channel.aio_methods import MultiCallable

_T = TypeVar("_T")
_OK = grpc.StatusCode.OK.value[0]
_WRITE_FAILED = "Internal error from Core"  # grpc.aio's words, until the status comes
_STATUS_LOOKS, _STATUS_PAUSE = 100, 0.001  # seconds; it comes at once, and where it does not the call ends INTERNAL
_CLOSED = Hold(HoldKind.CLOSED, "Channel closed.")  # grpcio's words


def now(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Returns the result of a coroutine that has no reason to wait: status and metadata of a call that has ended."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: _T = stop.value
        return result
    coroutine.close()
    raise AssertionError("a call that has ended knows its status")


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


class MeshCall:
    """What the four shapes share: attempts, end, cancellation. Owned by the loop."""

    _inner: Any = None  # the running or last attempt; None while the next one is being prepared
    _failed: BaseException | None = None  # why there is no attempt, for a call that ended without one
    _unsure: Any = None  # an attempt with a failed write, whose status is yet to come
    _decided: Any = None  # the last attempt whose end has been decided on
    _left: Any = None  # the last attempt that was given up for another one
    _next: asyncio.Task[None] | None = None
    _done = False
    _committed = False
    _over_waiters: list[asyncio.Future[None]] | None = None
    _callbacks: list[Callable[[Any], None]] | None = None
    _forward: Forward | None = None
    _steps: Steps | None = None

    def __init__(self, method: MultiCallable, request: Any, options: CallOptions) -> None:
        """Starts the call on the running loop; never blocks. `request` is None for a stream of requests."""
        self._method = method
        self._target = method.channel.target or method.channel.open()
        self._loop = method.channel.scope_loop
        self._request = request
        self._options = options
        self._began = time.monotonic()
        self._deadline = None if options.timeout is None else self._began + options.timeout
        self._course = Course(self._target)
        self._track()
        taken = self._target.take(method.method, options.metadata, request, method.channel.id)
        if isinstance(taken, Hold):
            self._prepare(Attempt())
        else:
            self._inner = self._launch(*taken, options.metadata)

    def _track(self) -> None:
        self._method.channel.track(self)

    # Attempts

    def _first_argument(self) -> Any:
        return self._request

    def _launch(self, forward: Forward, backend: PooledBackend, metadata: Any) -> Any:
        options = self._options
        if self._forward is None and forward.max_duration is not None:
            limit = shorter(options.timeout, forward)
            self._deadline = None if limit is None else self._began + limit
        self._forward = forward
        connection = backend.connection
        left = None if self._deadline is None else self._deadline - time.monotonic()
        stub = self._method.stub(connection)
        tally = backend.tally
        self._course.take(tally)
        connection.begin(None)
        tally.begin(None)
        try:
            inner = stub(
                self._first_argument(),
                timeout=left,
                metadata=metadata,
                credentials=options.credentials,
                compression=options.compression,
            )
        except BaseException:
            tally.leave()
            connection.end()
            raise
        inner.add_done_callback(AttemptEnd(self, connection, tally, self._course))
        return inner

    def ended(self, inner: Any, connection: Connection) -> None:
        """Decides what follows an attempt; called at its end, before anyone who awaits it resumes."""
        if self._done or inner is self._decided:
            return
        if _plain_success(inner):
            self._course.succeed()
            self._conclude(inner)
            return
        code, trailing = now(inner.code()), tuple(now(inner.trailing_metadata()))
        if inner is not self._unsure and _write_failed(code, inner):
            self._wait_for_status(inner, connection)
            return
        if inner is self._unsure and self._next is not None:
            self._next.cancel()
        self._decided = inner
        if trailing:
            self._target.noticed(connection, trailing)
        if code is grpc.StatusCode.OK or inner.cancelled():
            self._course.attempted(unsent=False)
            self._conclude(inner)
            return
        if self._steps is None:
            self._steps = recover(self._forward.retry if self._forward else None, random.random)
            next(self._steps)
        fixed = self._committed or not self._replayable()
        reached = outcome(code, now(inner.details()), trailing, connection, committed=fixed)
        self._course.attempted(unsent=reached.unsent)
        step = advance(self._steps, reached)
        if step is None or too_late(step, self._deadline):
            self._conclude(inner)
        else:
            self._inner = None
            self._prepare(step, inner)

    def _replayable(self) -> bool:
        return True

    def _wait_for_status(self, inner: Any, connection: Connection) -> None:
        """A write failed because the attempt has ended; why it has, tells the status that comes next."""
        self._inner, self._unsure = None, inner
        self._next = self._loop.create_task(_status(inner))
        self._next.add_done_callback(lambda _: self.ended(inner, connection))

    def _prepare(self, step: Attempt | Sleep, ended: Any = None) -> None:
        self._next = self._loop.create_task(self._go_on(step, ended))

    async def _go_on(self, first: Attempt | Sleep, ended: Any) -> None:
        if self._committed:  # its first answer was on its way to the application when it ended: it is the last (A6)
            self._conclude(ended)
            return
        self._left = ended
        step: Attempt | Sleep | None = first
        try:
            while isinstance(step, Sleep):
                await asyncio.sleep(step.seconds)
                step = None if self._steps is None else advance(self._steps, None)
            metadata = self._options.metadata if step is None else with_previous(self._options.metadata, step)
            inner = self._launch(*await self._backend(metadata), metadata)
            await self._replay(inner)
            if not inner.done():  # else `ended` has decided what follows
                self._inner = inner
        except asyncio.CancelledError as cancelled:
            self._failed = cancelled
            self._conclude(None)
        except Exception as error:  # noqa: BLE001 - it becomes the end of the call, and is raised to whoever awaits it
            self._failed = error
            self._conclude(None)

    async def _replay(self, inner: Any) -> None:
        """Gives a further attempt what the application has written so far."""

    async def _backend(self, metadata: Any) -> tuple[Forward, PooledBackend]:
        method, scope = self._method, self._method.channel.scope
        while True:
            hold = _CLOSED
            if method.channel.target is self._target:
                taken = self._target.take(method.method, metadata, self._request, method.channel.id)
                if not isinstance(taken, Hold):
                    return taken
                hold = taken
            left = None if self._deadline is None else self._deadline - time.monotonic()
            if not hold.waits(self._options.wait_for_ready) or (left is not None and left <= 0):
                details = words(self._target.name, hold, scope.source.progress)
                code = status(hold, self._options.wait_for_ready)
                raise grpc.aio.AioRpcError(
                    code, grpc.aio.Metadata(), grpc.aio.Metadata(), details, f"meshsdk: {details}"
                )
            scope.hurry()
            await scope.wait(left)

    def _conclude(self, inner: Any) -> None:
        self._inner = inner
        self._done = True
        if not self._course.over:
            self._count(inner)
        self._method.channel.untrack(self)
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
            self._course.end(now(inner.code()).name, cancelled=inner.cancelled())
        elif isinstance(self._failed, grpc.aio.AioRpcError):
            code = self._failed.code()
            closed = self._method.channel.target is not self._target
            self._course.end(code.name, cancelled=closed and code is grpc.StatusCode.CANCELLED)
        else:
            cancelled = isinstance(self._failed, asyncio.CancelledError)
            self._course.end("CANCELLED" if cancelled else "UNKNOWN", cancelled=cancelled)

    # Waiting

    async def _running(self) -> Any:
        """Waits for an attempt to run; raises what kept the call from ever making one."""
        while self._inner is None:
            if self._failed is not None:
                raise self._failed
            if self._next is not None:
                await asyncio.wait((self._next,))
        return self._inner

    async def over(self) -> Any:
        """Waits for the end; returns the last attempt, None if there was none."""
        if not self._done:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._over_waiters = [*(self._over_waiters or ()), waiter]
            await waiter
        return self._inner

    # grpc.aio.Call

    def cancelled(self) -> bool:
        """Tells whether the application cancelled the call."""
        if self._inner is not None:
            return bool(self._inner.cancelled())
        return isinstance(self._failed, asyncio.CancelledError)

    def done(self) -> bool:
        """Tells whether the call has ended."""
        return self._done

    def time_remaining(self) -> float | None:
        """Seconds to the deadline, None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def cancel(self) -> bool:
        """Cancels the call wherever it is: running, waiting for a backend or between attempts."""
        if self._done:
            return False
        if self._inner is not None:
            return bool(self._inner.cancel())
        self._failed = asyncio.CancelledError()
        if self._next is not None:
            self._next.cancel()
        self._conclude(None)
        return True

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Calls `callback` with this call at its end, or now if it has ended."""
        if self._done:
            callback(self)
            return
        self._callbacks = [*(self._callbacks or ()), callback]
        self._method.channel.hold(self)

    async def initial_metadata(self) -> Any:
        """Waits for the server's first headers; the call stays on that server from then on. Empty if there was none."""
        while True:
            try:
                inner = await self._running()
            except (asyncio.CancelledError, Exception) as error:
                if error is not self._failed:
                    raise
                return grpc.aio.Metadata()
            metadata = await inner.initial_metadata()
            if self._inner is inner:
                self._commit()
                return metadata

    async def trailing_metadata(self) -> Any:
        """Waits for the end."""
        inner = await self.over()
        return grpc.aio.Metadata() if inner is None else await inner.trailing_metadata()

    async def code(self) -> grpc.StatusCode:
        """Waits for the end."""
        inner = await self.over()
        if inner is not None:
            code: grpc.StatusCode = await inner.code()
            return code
        return self._failed.code() if isinstance(self._failed, grpc.aio.AioRpcError) else grpc.StatusCode.CANCELLED

    async def details(self) -> str:
        """Waits for the end."""
        inner = await self.over()
        if inner is not None:
            details: str = await inner.details()
            return details
        if isinstance(self._failed, grpc.aio.AioRpcError):
            return self._failed.details() or ""
        return "Locally cancelled by application!"  # grpcio's words

    async def debug_error_string(self) -> str:
        """Waits for the end."""
        inner = await self.over()
        if inner is not None:
            text: str = await inner.debug_error_string()
            return text
        return str(self._failed)

    async def wait_for_connection(self) -> None:
        """Waits until the call is on a connection; raises its error if it ends before."""
        while True:
            inner = await self._running()
            try:
                await inner.wait_for_connection()
            except grpc.aio.AioRpcError:
                if self._inner is inner:
                    raise
            else:
                return

    def _commit(self) -> None:
        self._committed = True

    def __repr__(self) -> str:
        state = self._inner or self._failed or "waiting for an endpoint"
        return f"<{type(self).__name__} of {self._method.method}: {state}>"
