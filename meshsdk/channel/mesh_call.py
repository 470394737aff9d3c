"""A call of the synchronous façade that outlives the method that made it: futures and streams.

It has the interface of grpcio's own call objects and stands over one of them, exchanged for another while the call may
still move: until the first answer has reached the application. Steps follow `interceptors.policies.recover`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import grpc

from meshsdk.channel.attempt import AttemptEnd, CallOptions, outcome, shorter, too_late, with_previous
from meshsdk.channel.course import Course
from meshsdk.channel.failure import CallCancelled, CallFailed
from meshsdk.channel.pool import Connection, PooledBackend
from meshsdk.channel.replay import Replay
from meshsdk.channel.stack import Hold
from meshsdk.channel.waiting import next_attempt, wait_for_backend
from meshsdk.interceptors.drivers import advance
from meshsdk.interceptors.policies.recover import recover
from meshsdk.interceptors.policies.steps import Attempt, Sleep, Steps
from meshsdk.model.resources import Forward

if TYPE_CHECKING:
    from meshsdk.channel.sync_methods import MultiCallable

_LOG = logging.getLogger(__name__)


class MeshCall(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]  # subscriptable in stubs only
    """A running call.

    Thread rules: `_inner`, `_decided`, `_reading`, `_final` and `_callbacks` are guarded by `_state`; `_steps`,
    `_course`, `_forward` and `_deadline` belong to the one thread at a time that makes the next attempt; `_committed`
    only ever turns true.
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
        self._target = method.channel.target or method.channel.open()
        self._request = request
        self._requests = requests
        self._options = options
        self._make = "future" if future else "__call__"
        self._began = time.monotonic()
        self._deadline = None if options.timeout is None else self._began + options.timeout
        self._state = threading.Condition()
        self._decided: Any = None  # the last inner call whose end has been decided on
        self._committed = False
        self._reading = 0
        self._cancelled = False
        self._callbacks: list[Callable[[Any], None]] = []
        self._forward: Forward | None = None
        self._steps: Steps | None = None
        self._course = Course(self._target)
        method.channel.track(self)
        taken = self._take(options.metadata)
        if isinstance(taken, Hold):
            self._in_background(None, Attempt())
        else:
            self.launch(*taken, options.metadata)

    def __del__(self) -> None:
        """A call that nobody can read any more is cancelled, as grpcio does: its attempt would keep itself alive."""
        if not self._final and self._inner is not None:
            self._inner.cancel()

    # Attempts

    def _take(self, metadata: Any) -> tuple[Forward, PooledBackend] | Hold:
        return self._target.take(self._method.method, metadata, self._request, self._method.channel.id)

    def launch(self, forward: Forward, backend: PooledBackend, metadata: Any) -> None:
        """Makes an attempt. Raises what grpc raises for what it cannot send."""
        options = self._options
        if self._forward is None:
            limit = shorter(options.timeout, forward)
            self._deadline = None if limit is None else self._began + limit
        self._forward = forward
        left = None if self._deadline is None else self._deadline - time.monotonic()
        connection = backend.connection
        make = getattr(self._method.stub(connection), self._make)
        first = self._request if self._requests is None else self._requests.view()
        tally = backend.tally
        self._course.take(tally)
        connection.begin(None)
        tally.begin(None)
        try:
            inner = make(first, left, metadata, options.credentials, None, options.compression)
        except BaseException:
            tally.leave()
            connection.end()
            raise
        with self._state:
            gone = self._final or self._cancelled
            if not self._final:
                self._inner = inner
                self._state.notify_all()
        if gone:
            inner.cancel()
        inner.add_done_callback(AttemptEnd(self, connection, tally, self._course))

    def ended(self, inner: Any, connection: Connection) -> None:
        """Decides what follows an attempt. Called once for each, by grpc's thread."""
        trailing = inner.trailing_metadata()
        if trailing:
            self._target.noticed(connection, trailing)
        code = inner.code()
        if code is grpc.StatusCode.OK or self._cancelled or self._final:
            self._course.attempted(unsent=False)
            self.conclude(inner)
            return
        fixed = self._committed or (self._requests is not None and not self._requests.replayable)
        if self._steps is None:
            self._steps = recover(self._forward.retry if self._forward else None, random.random)
            next(self._steps)
        reached = outcome(code, inner.details(), trailing, connection, committed=fixed)
        self._course.attempted(unsent=reached.unsent)
        step = advance(self._steps, reached)
        if step is None or too_late(step, self._deadline):
            self.conclude(inner)
        else:
            self._in_background(inner, step)

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

    def prepare(self, step: Attempt | Sleep | None) -> tuple[Any, Callable[[], tuple[Forward, PooledBackend]]]:
        """Sleeps what the policy asks for; returns the next attempt's metadata, and a wait that does not hold the call.

        Blocks; called by `next_attempt` on a thread of its own.
        """
        while isinstance(step, Sleep):
            with self._state:
                self._state.wait_for(lambda: self._final, step.seconds)
            step = advance(self._steps, None) if self._steps is not None else None
        options, method, target, request = self._options, self._method, self._target, self._request
        metadata = with_previous(options.metadata, step) if step is not None else options.metadata
        channel, reference = method.channel, weakref.ref(self)

        def over() -> bool:
            call = reference()
            return call is None or call.done() or channel.target is not target

        wait = functools.partial(
            wait_for_backend,
            channel.scope,
            target,
            lambda: target.take(method.method, metadata, request, channel.id),
            self._deadline,
            over,
            wait_for_ready=options.wait_for_ready,
        )
        return metadata, wait

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
        self._method.channel.untrack(self)
        for callback in callbacks:
            try:
                callback(self)
            except Exception:  # noqa: BLE001 - the others must be told, as in grpcio
                _LOG.exception("a callback of a call of %s raised", self._method.method)

    def _count(self, inner: Any) -> None:
        code = inner.code()  # CANCELLED by this process itself: the application closed the channel
        own = isinstance(inner, CallFailed) and code is grpc.StatusCode.CANCELLED
        self._course.end(code.name, cancelled=own or self._cancelled or inner.cancelled())

    # Reading

    def __iter__(self) -> MeshCall:
        return self

    def __next__(self) -> Any:
        while True:
            inner = self._inner
            if inner is None:
                inner = self._running()
            try:
                return next(inner) if self._committed else self._first(inner)
            except grpc.RpcError:
                if self._superseded(inner):
                    continue
                raise self from None  # as grpcio's own: what iteration raises is the call

    def _first(self, inner: Any) -> Any:
        """Reads the first answer of an attempt; the call stays on that one from then on."""
        with self._meeting():
            message = next(inner)
            self._commit()
        return message

    @contextlib.contextmanager
    def _meeting(self) -> Iterator[None]:
        """While the application's thread gets the first of an attempt, nothing is decided about that attempt's end."""
        with self._state:
            self._reading += 1
        try:
            yield
        finally:
            with self._state:
                self._reading -= 1
                self._state.notify_all()

    def next(self) -> Any:
        """Returns the next message, as grpcio's own call objects do."""
        return next(self)

    def answer(self) -> Any:
        """Blocks for the one answer of a client-streaming call; raises its error."""
        try:
            return self._over().result()
        except BaseException:
            self.cancel()  # an interrupt must not leave the call running; no effect on a call that has ended
            raise

    def _running(self) -> Any:
        """Blocks until an attempt has started or the call is over; returns the attempt, or the error instead of one."""
        with self._state:
            self._state.wait_for(lambda: self._inner is not None or self._final)
            return self._inner

    def _superseded(self, inner: Any) -> bool:
        """Blocks until it is decided what follows the end of `inner`; tells whether another attempt does."""
        with self._state:
            self._state.wait_for(lambda: self._final or self._decided is inner)
            return not (self._final and self._inner is inner)

    def _commit(self) -> None:
        self._committed = True
        if self._requests is not None:
            self._requests.commit()

    def _over(self, timeout: float | None = None) -> Any:
        with self._state:
            if not self._state.wait_for(lambda: self._final, timeout):
                raise grpc.FutureTimeoutError
            return self._inner

    # grpc.Future

    def result(self, timeout: float | None = None) -> Any:
        """Blocks for the answer, `timeout` seconds at most; raises as `grpc.Future.result` says."""
        inner = self._over(timeout)
        try:
            return inner.result()
        except grpc.RpcError:
            raise self from None  # as grpcio's own: the error is the call

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Blocks for the end; returns the error, or None."""
        error: Exception | None = self._over(timeout).exception()
        return self if isinstance(error, grpc.RpcError) else error

    def traceback(self, timeout: float | None = None) -> types.TracebackType | None:
        """Blocks for the end; returns the error's traceback, or None."""
        traceback: types.TracebackType | None = self._over(timeout).traceback()
        return traceback

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Calls `fn` with this call at its end, or now if it has ended."""
        with self._state:
            if not self._final:
                self._callbacks.append(fn)
                self._method.channel.hold(self)
                return
        fn(self)

    def done(self) -> bool:
        """Tells whether the call has ended."""
        return self._final

    def running(self) -> bool:
        """Tells whether the call has not ended."""
        return not self._final

    def cancelled(self) -> bool:
        """Tells whether the application cancelled the call."""
        return self._final and bool(self._inner.cancelled())

    def cancel(self) -> bool:
        """Cancels the call wherever it is: running, waiting for a backend or between attempts."""
        with self._state:
            if self._final:
                return False
            self._cancelled = True
            inner = self._inner
        if inner is not None:
            return bool(inner.cancel())
        self.end(CallCancelled())
        return True

    def end(self, how: CallFailed) -> None:
        """Ends the call wherever it is; no effect on one that has ended."""
        with self._state:
            inner = self._inner
        self.conclude(how)
        if inner is how or inner is None:
            self._method.channel.scope.wake()  # the thread that waits for a backend has nothing to wait for any more
        else:
            inner.cancel()

    # grpc.Call

    def is_active(self) -> bool:
        """Tells whether the call has not ended."""
        return not self._final

    def time_remaining(self) -> float | None:  # type: ignore[override]  # None as grpc documents
        """Seconds to the deadline, None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Calls `callback` at the end; False if the call has ended already."""
        with self._state:
            if self._final:
                return False
            self._callbacks.append(lambda _: callback())
            self._method.channel.hold(self)
            return True

    def initial_metadata(self) -> Any:
        """Blocks for the server's first headers; the call stays on that server from then on."""
        while True:
            inner = self._running()
            with self._meeting():
                metadata = inner.initial_metadata()
                failed = inner.done() and inner.code() is not grpc.StatusCode.OK and not self._committed
                if not failed:
                    self._commit()
            if not (failed and self._superseded(inner)):
                return metadata

    def trailing_metadata(self) -> Any:
        """Blocks for the end."""
        return self._over().trailing_metadata()

    def code(self) -> grpc.StatusCode:
        """Blocks for the end."""
        code: grpc.StatusCode = self._over().code()
        return code

    def details(self) -> str:
        """Blocks for the end."""
        details: str = self._over().details()
        return details

    def debug_error_string(self) -> str:
        """Blocks for the end."""
        words: str = self._over().debug_error_string()
        return words

    def __str__(self) -> str:
        return str(self._inner) if self._final else f"<MeshCall of {self._method.method} that is running>"

    __repr__ = __str__
