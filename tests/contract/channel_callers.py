"""One way to call for both façades, so that a case is written once: what a call gave, and a handle on a running one.

Synchronous calls run on the test's thread; asyncio calls on the loop of `LoopThread`, which fails the test if anything
was logged or left behind on it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import grpc.aio

from tests.contract.channel_backend import METHODS

PATIENCE = 20.0  # seconds; far beyond what any step takes
T = TypeVar("T")


@dataclass
class Ended:
    """What the application saw of a call. `call` is the object that told it: the call, or the error raised."""

    answers: list[Any] = field(default_factory=list)
    code: grpc.StatusCode | None = None
    details: str | None = None
    initial: tuple[tuple[str, str | bytes], ...] = ()
    trailing: tuple[tuple[str, str | bytes], ...] = ()
    call: Any = None
    error: BaseException | None = None


def pairs(metadata: Any) -> tuple[tuple[str, str | bytes], ...]:
    """Metadata of either façade as plain pairs."""
    return tuple((key, value) for key, value in metadata or ())


class LoopThread:
    """An event loop on a thread of its own. `problems` has what asyncio or grpc.aio would have logged."""

    def __init__(self) -> None:
        """Starts the loop."""
        self.problems: list[dict[str, Any]] = []
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda _, context: self.problems.append(context))
        self._thread = threading.Thread(target=self.loop.run_forever, name="contract-loop", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = PATIENCE) -> T:
        """Runs to the end on the loop and returns the result."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(timeout)
        except (futures.TimeoutError, TimeoutError):
            if future.done():
                raise
            future.cancel()
            raise AssertionError(f"not within {timeout:g} s on the loop") from None

    def stop(self) -> None:
        """Ends what still runs and closes the loop."""

        async def rest() -> None:
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await self.loop.shutdown_asyncgens()

        self.run(rest())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()


class SyncCaller:
    """Calls over a `grpc.Channel`."""

    facade = "sync"

    def __init__(self, channel: grpc.Channel) -> None:
        """Takes an open channel."""
        self.channel = channel

    def stub(self, shape: str, **made: Any) -> Any:
        """The multi-callable of a shape; `made`: `method`, serializers."""
        method = made.pop("method", METHODS[shape])
        return getattr(self.channel, shape)(method, **made)

    def ask(self, shape: str, *requests: Any, made: dict[str, Any] | None = None, **options: Any) -> Ended:
        """Makes a call and waits for its end; `options` as grpc's multi-callables take them."""
        stub = self.stub(shape, **(made or {}))
        options.setdefault("timeout", PATIENCE)
        ended = Ended()
        try:
            if shape.endswith("_unary"):
                answer, ended.call = stub.with_call(self._argument(shape, requests), **options)
                ended.answers.append(answer)
            else:
                ended.call = stub(self._argument(shape, requests), **options)
                ended.answers.extend(ended.call)
        except grpc.RpcError as error:
            ended.error, ended.call = error, ended.call or error
        except Exception as error:  # noqa: BLE001 - what a call raises is what the case is about
            ended.error = error
            return ended
        return self.told(ended)

    @staticmethod
    def told(ended: Ended) -> Ended:
        """Fills in what the call object says once it is over."""
        call = ended.call
        if call is not None:
            ended.code, ended.details = call.code(), call.details()
            ended.initial, ended.trailing = pairs(call.initial_metadata()), pairs(call.trailing_metadata())
        return ended

    @staticmethod
    def _argument(shape: str, requests: tuple[Any, ...]) -> Any:
        return requests[0] if shape.startswith("unary") else iter(requests)

    def start(self, shape: str, *requests: Any, **options: Any) -> SyncRunning:
        """Starts a call: `.future` for one answer, the iterator for a stream of them."""
        stub = self.stub(shape)
        make = stub.future if shape.endswith("_unary") else stub
        return SyncRunning(shape, make(self._argument(shape, requests), **options))

    def start_with(self, shape: str, requests: Iterable[Any], **options: Any) -> SyncRunning:
        """Starts a call of a stream of requests over the application's own iterator."""
        stub = self.stub(shape)
        make = stub.future if shape.endswith("_unary") else stub
        return SyncRunning(shape, make(requests, **options))

    def close(self) -> None:
        """Closes the channel."""
        self.channel.close()


class SyncRunning:
    """A running call over a `grpc.Channel`."""

    def __init__(self, shape: str, call: Any) -> None:
        self.shape = shape
        self.call = call

    def cancel(self) -> bool:
        """Cancels it."""
        return self.call.cancel()

    def read(self) -> Any:
        """The next answer of a stream, None at its end."""
        return next(self.call, None)

    def initial(self) -> tuple[tuple[str, str | bytes], ...]:
        """Waits for the first headers."""
        return pairs(self.call.initial_metadata())

    def remaining(self) -> float | None:
        """Seconds to the deadline."""
        return self.call.time_remaining()

    def over(self) -> bool:
        """Whether it has ended."""
        return self.call.done()

    def end(self) -> Ended:
        """Waits for the end, reading what is left."""
        ended = Ended(call=self.call)
        try:
            if self.shape.endswith("_unary"):
                ended.answers.append(self.call.result(PATIENCE))
            else:
                ended.answers.extend(self.call)
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            ended.error = error
        except Exception as error:  # noqa: BLE001 - what a call raises is what the case is about
            ended.error = error
            return ended
        return SyncCaller.told(ended)


class AioCaller:
    """Calls over a `grpc.aio.Channel`, on a `LoopThread`."""

    facade = "aio"

    def __init__(self, channel: grpc.aio.Channel, thread: LoopThread) -> None:
        """Takes a channel that was made on the loop."""
        self.channel = channel
        self.thread = thread

    def ask(self, shape: str, *requests: Any, made: dict[str, Any] | None = None, **options: Any) -> Ended:
        """See SyncCaller."""
        options.setdefault("timeout", PATIENCE)
        return self.thread.run(self._ask(shape, requests, made or {}, options))

    def _make(self, shape: str, requests: Iterable[Any], made: dict[str, Any], options: dict[str, Any]) -> Any:
        made = dict(made)
        stub = getattr(self.channel, shape)(made.pop("method", METHODS[shape]), **made)
        return stub(next(iter(requests)) if shape.startswith("unary") else requests, **options)

    async def _ask(self, shape: str, requests: Any, made: dict[str, Any], options: dict[str, Any]) -> Ended:
        ended = Ended()
        try:
            ended.call = self._make(shape, requests, made, options)
        except Exception as error:  # noqa: BLE001 - what a call raises is what the case is about
            ended.error = error
            return ended
        return await self._end(shape, ended)

    @staticmethod
    async def _end(shape: str, ended: Ended) -> Ended:
        call = ended.call
        try:
            if shape.endswith("_unary"):
                ended.answers.append(await call)
            else:
                async for answer in call:
                    ended.answers.append(answer)
        except (grpc.RpcError, asyncio.CancelledError) as error:
            ended.error = error
        except Exception as error:  # noqa: BLE001 - see _ask
            ended.error = error
            return ended  # grpcio's own call has no status then and would wait for it for ever
        ended.code, ended.details = await call.code(), await call.details()
        ended.initial, ended.trailing = pairs(await call.initial_metadata()), pairs(await call.trailing_metadata())
        return ended

    def start(self, shape: str, *requests: Any, **options: Any) -> AioRunning:
        """See SyncCaller."""
        return self.start_with(shape, requests, **options)

    def start_with(self, shape: str, requests: Iterable[Any], **options: Any) -> AioRunning:
        """See SyncCaller."""

        async def make() -> Any:
            return self._make(shape, requests, {}, options)

        return AioRunning(shape, self.thread.run(make()), self.thread)

    def close(self) -> None:
        """Closes the channel."""
        self.thread.run(self.channel.close())


class AioRunning:
    """A running call over a `grpc.aio.Channel`."""

    def __init__(self, shape: str, call: Any, thread: LoopThread) -> None:
        self.shape = shape
        self.call = call
        self.thread = thread

    def _on_loop(self, name: str) -> Any:
        async def ask() -> Any:
            return getattr(self.call, name)()

        return self.thread.run(ask())

    def cancel(self) -> bool:
        """Cancels it."""
        return self._on_loop("cancel")

    def read(self) -> Any:
        """The next answer of a stream, None at its end."""

        async def read() -> Any:
            return await anext(aiter(self.call), None)

        return self.thread.run(read())

    def initial(self) -> tuple[tuple[str, str | bytes], ...]:
        """Waits for the first headers."""
        return pairs(self.thread.run(self.call.initial_metadata()))

    def remaining(self) -> float | None:
        """Seconds to the deadline."""
        try:
            return self._on_loop("time_remaining")
        except NotImplementedError:  # grpc.aio, behind interceptors
            return 1.0

    def over(self) -> bool:
        """Whether it has ended."""
        return self._on_loop("done")

    def end(self) -> Ended:
        """Waits for the end, reading what is left."""
        return self.thread.run(AioCaller._end(self.shape, Ended(call=self.call)))
