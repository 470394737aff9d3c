"""A call of the synchronous façade that outlives the method that made it: futures and streams.

It has the interface of grpcio's own call objects and stands over one of them, exchanged for another while the call may
still move (`sync_attempts`): until the first answer has reached the application.
"""

from __future__ import annotations

import contextlib
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from meshsdk.channel.failure import CallCancelled, CallFailed
from meshsdk.channel.sync_attempts import SyncAttempts


class MeshCall(SyncAttempts, grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]  # subscriptable in stubs only
    """A running call, as the application reads it. Thread rules: see `SyncAttempts`."""

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
                return self._read_headers(metadata)

    def _read_headers(self, metadata: Any) -> Any:
        """Returns the first headers as the plan has them."""
        passage = self._passage
        return metadata if passage is None else passage.headers(metadata)

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
