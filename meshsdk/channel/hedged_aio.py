"""A hedged call of the asyncio façade: several attempts at once, of which one becomes the call (gRFC A6).

It has the interface of grpc.aio's own call objects and stands where one attempt would, under an `aio_call.MeshCall`.
What to do when, says `interceptors.policies.hedge`; when a call commits, and what is not hedged: see `hedged_sync`.
Everything runs on the call's loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import grpc
import grpc.aio

from meshsdk.channel.attempt import Ended
from meshsdk.channel.failure import CallRaised
from meshsdk.channel.hedged_attempts import HedgedAttempts, HedgedCallee, Running
from meshsdk.channel.settled import now
from meshsdk.interceptors.policies.hedge import Won
from meshsdk.interceptors.policies.steps import Attempt, Outcome

_OK = grpc.StatusCode.OK


def _end_of(inner: Any) -> Ended:
    return Ended(now(inner.code()), now(inner.details()), tuple(now(inner.trailing_metadata()) or ()))


class HedgedCall:
    """One call. Owned by the loop."""

    def __init__(
        self,
        callee: HedgedCallee,
        stub: Callable[[Any], Any],
        loop: asyncio.AbstractEventLoop,
        *,
        streamed: bool = False,
    ) -> None:
        """Begins the call. `stub(connection)` gives grpc's multi-callable; `streamed`: its answer is a stream.

        Raises what grpc raises for what it cannot send.
        """
        self._callee = callee
        self._stub = stub
        self._loop = loop
        self._streamed = streamed
        self._attempts = HedgedAttempts(callee)
        self._timer: asyncio.TimerHandle | None = None
        self._winner: Running | None = None
        self._done = False
        self._cancelled = False
        self._callbacks: list[Callable[[Any], None]] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._reading: set[asyncio.Task[None]] = set()
        self.unsent = False
        """Whether no attempt of the call, which has ended, ever left the process."""
        self._go_on()

    # Attempts

    def _go_on(self) -> None:
        """Does what the policy says, until it has nothing more to say now."""
        while not self._cancelled and self._winner is None:
            step = self._attempts.hedge.step(time.monotonic())
            if isinstance(step, Attempt):
                self._begin(step)
                continue
            if isinstance(step, Won):
                self._commit(self._attempts.made[step.number])
            break
        self._arm()
        self._conclude()

    def _begin(self, attempt: Attempt) -> None:
        running = self._attempts.begin(attempt)
        if running is None:
            return
        options = self._callee.options
        try:
            left, metadata = self._attempts.arguments(running, attempt)
            running.inner = self._stub(running.backend.connection)(
                self._callee.request,
                timeout=left,
                metadata=metadata,
                credentials=options.credentials,
                compression=options.compression,
            )
        except BaseException as error:
            running.end()
            if running.number == 0 or not isinstance(error, Exception):
                raise
            running.inner = _Raised(error)
            self._attempts.failed(running, Outcome("UNAVAILABLE", unsent=True))
            self._attempts.hedge.refused()  # whatever closed its connection: those that run decide
            return
        running.inner.add_done_callback(lambda _: self._ended(running))
        if self._streamed:
            task = self._loop.create_task(self._read_first(running))
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)

    async def _read_first(self, running: Running) -> None:
        try:
            running.message = (await running.inner.read(),)
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            await running.inner.code()
            self._judge(running)
            return
        self._attempts.hedge.answered(running.number)
        self._go_on()

    def _ended(self, running: Running) -> None:
        """An attempt has ended; called at its end, before anyone who awaits it resumes."""
        running.end()
        if running is self._winner or self._streamed:
            self._conclude()
        else:
            self._judge(running)

    def _judge(self, running: Running) -> None:
        """Tells the policy of the end of an attempt that did not win before it."""
        if self._winner is None and not self._cancelled:
            reached = self._attempts.judge(running, _end_of(running.inner))
            if reached.code == "OK":
                self._attempts.hedge.answered(running.number)
            else:
                self._attempts.failed(running, reached)
        self._go_on()

    def _commit(self, winner: Running) -> None:
        """The call is this attempt from now on."""
        self._winner = winner
        self._wake()
        for one in self._attempts.made:
            if one is not winner and not one.over:
                one.inner.cancel()

    def _conclude(self) -> None:
        """Ends the call if what it is has ended."""
        if self._done or self._winner is None or not self._winner.over:
            return
        inner = self._winner.inner
        if not self._winner.judged and not inner.cancelled():  # a stream, which won by its first answer
            self._attempts.judge(self._winner, _end_of(inner))
        self._attempts.conclude(self._winner, now(inner.code()).name)
        self._finish()

    def _finish(self) -> None:
        self._done = True
        self.unsent = all(one.unsent for one in self._attempts.made)
        self._arm()
        self._wake()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def _arm(self) -> None:
        """Has the policy asked again when the next attempt is due, and only then."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        over = self._done or self._cancelled or self._winner is not None
        due = None if over else self._attempts.hedge.due
        if due is not None:
            self._timer = self._loop.call_later(max(0.0, due - time.monotonic()), self._go_on)

    # Waiting

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    async def _decided(self) -> Running:
        """Waits until the call is one attempt. Raises CancelledError for one that was cancelled between two."""
        while self._winner is None:
            if self._done:
                raise asyncio.CancelledError
            await self._wait()
        return self._winner

    async def _over(self) -> Any:
        """Waits for the end; returns grpc's call, None if it was cancelled between two attempts."""
        while not self._done:
            await self._wait()
        return None if self._winner is None else self._winner.inner

    # What stands over it asks

    def __await__(self) -> Generator[Any, None, Any]:
        """Waits for the answer; cancelling the waiter cancels the call, as in grpcio."""
        try:
            winner = yield from self._decided().__await__()
        except asyncio.CancelledError:
            self.cancel()
            raise
        return (yield from winner.inner.__await__())

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Yields the answers of a stream."""
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    async def read(self) -> Any:
        """Returns the next answer of a stream, `grpc.aio.EOF` at the end."""
        try:
            winner = await self._decided()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if winner.message is not None:
            (message,), winner.message = winner.message, None
            return message
        return await winner.inner.read()

    async def wait_for_connection(self) -> None:
        """Waits until the call is one attempt, which is on a connection."""
        await (await self._decided()).inner.wait_for_connection()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Calls `callback` with this call at its end, or now if it has ended."""
        if self._done:
            callback(self)
        else:
            self._callbacks.append(callback)

    def done(self) -> bool:
        """Tells whether the call has ended."""
        return self._done

    def cancelled(self) -> bool:
        """Tells whether the application cancelled the call."""
        if self._done and self._winner is not None:
            return bool(self._winner.inner.cancelled())
        return self._done

    def cancel(self) -> bool:
        """Cancels every attempt, and the call."""
        if self._done:
            return False
        self._cancelled = True
        running = [one for one in self._attempts.made if not one.over]
        if self._winner is None and running:
            self._winner = running[0]
            self._wake()
        for one in running:
            one.inner.cancel()
        if self._winner is None:  # between two attempts
            self._attempts.conclude(self._attempts.made[-1], "CANCELLED")
            self._finish()
        else:
            self._arm()
            self._conclude()
        return True

    async def initial_metadata(self) -> Any:
        """Waits until the call is one attempt, and for that one's headers."""
        try:
            winner = await self._decided()
        except asyncio.CancelledError:
            if not self._done:
                raise
            return grpc.aio.Metadata()
        return await winner.inner.initial_metadata()

    async def trailing_metadata(self) -> Any:
        """Waits for the end."""
        inner = await self._over()
        return grpc.aio.Metadata() if inner is None else await inner.trailing_metadata()

    async def code(self) -> grpc.StatusCode:
        """Waits for the end."""
        inner = await self._over()
        code: grpc.StatusCode = grpc.StatusCode.CANCELLED if inner is None else await inner.code()
        return code

    async def details(self) -> str:
        """Waits for the end."""
        inner = await self._over()
        return "Locally cancelled by application!" if inner is None else str(await inner.details() or "")

    async def debug_error_string(self) -> str:
        """Waits for the end."""
        inner = await self._over()
        return "" if inner is None else str(await inner.debug_error_string() or "")


class _Raised:
    """Stands for an attempt that grpc refused to make, where it is the last one of a call."""

    def __init__(self, error: Exception) -> None:
        self._failed = CallRaised(error)

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()
        self._failed.result()

    async def read(self) -> Any:
        return self._failed.result()

    def cancelled(self) -> bool:
        return False

    async def initial_metadata(self) -> Any:
        return grpc.aio.Metadata()

    trailing_metadata = initial_metadata

    async def code(self) -> grpc.StatusCode:
        return self._failed.code()

    async def details(self) -> str:
        return self._failed.details()

    debug_error_string = details
