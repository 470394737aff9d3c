"""Calls of the asyncio façade: what `grpc.aio` offers, over a native call that may be exchanged for another.

`aio_attempts` makes those; the shapes are in `aio_responses` and `aio_requests`. Everything runs on the call's loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from meshsdk.channel.aio_attempts import AioAttempts, own_error
from meshsdk.channel.failure import DEADLINE


class MeshCall(AioAttempts):
    """What the four shapes share: end, cancellation, metadata. Owned by the loop."""

    # Waiting

    async def _running(self) -> Any:
        """Waits for an attempt to run; raises what kept the call from ever making one."""
        while self._inner is None:
            if self._failed is not None:
                raise self._failed
            if self._next_task is not None:
                await asyncio.wait((self._next_task,))
        return self._inner

    async def _of(self, inner: Any, awaitable: Awaitable[Any]) -> Any:
        """Waits for what an attempt does; raises AioRpcError where that one was cancelled by its own timeout.

        grpc.aio raises CancelledError in whoever waits on a cancelled call; `gather` tells that from a cancel of the
        waiter, which it passes on.
        """
        if self._committed or inner is not self._limited:
            return await awaitable
        result: Any = (await asyncio.gather(awaitable, return_exceptions=True))[0]
        if isinstance(result, asyncio.CancelledError) and self._inner is not inner:
            raise own_error(grpc.StatusCode.DEADLINE_EXCEEDED, DEADLINE)
        if isinstance(result, BaseException):
            raise result
        return result

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
        if self._next_task is not None:
            self._next_task.cancel()
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
                return self._read_headers(metadata)

    def _read_headers(self, metadata: Any) -> Any:
        """Returns the first headers as the plan has them."""
        passage = self._passage
        if passage is None or not passage.marks_headers:
            return metadata
        return grpc.aio.Metadata(*passage.headers(metadata))

    async def trailing_metadata(self) -> Any:
        """Waits for the end."""
        inner = await self.over()
        if inner is not None:
            return await inner.trailing_metadata()
        failed = self._failed
        return failed.trailing_metadata() if isinstance(failed, grpc.aio.AioRpcError) else grpc.aio.Metadata()

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
                await self._of(inner, inner.wait_for_connection())
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
