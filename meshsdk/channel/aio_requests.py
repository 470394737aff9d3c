"""Streams of requests of the asyncio façade, and the four concrete calls.

What the application has given so far is kept until the call commits, so that an attempt that was never sent can be made
again elsewhere. Everything runs on the call's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

import grpc.aio

from meshsdk.channel.aio_call import MeshCall
from meshsdk.channel.aio_responses import StreamResponse, UnaryResponse
from meshsdk.channel.attempt import CallOptions
from meshsdk.channel.replay import LIMIT

if TYPE_CHECKING:
    from meshsdk.channel.aio_methods import MultiCallable

Requests = AsyncIterable[Any] | Iterable[Any]


class _Kept:
    """Requests given so far. `whole` turns false when something was forgotten that a further attempt would need."""

    def __init__(self, source: Requests | None) -> None:
        self.items: list[Any] = []
        self.whole = True
        self.keeping = True
        self.closed = False
        self._source = source
        self._iterator: AsyncIterator[Any] | None = None
        self._turn = asyncio.Lock()
        self._ended: BaseException | None = None

    def keep(self, request: Any) -> None:
        if not self.keeping or len(self.items) >= LIMIT:
            self.whole = False
            self.items.clear()
            return
        if self.whole:
            self.items.append(request)

    def forget(self) -> None:
        self.keeping = False
        self.items.clear()

    def drop(self) -> None:
        """The call has ended: lets go of the application's iterator, so that an async generator is closed."""
        self.forget()
        self._source = self._iterator = None

    async def view(self) -> AsyncIterator[Any]:
        """Gives one attempt the requests from the start."""
        for request in list(self.items):
            yield request
        while True:
            async with self._turn:
                if self._ended is not None:
                    break
                try:
                    request = await anext(self._advance())
                except StopAsyncIteration as end:
                    self._ended = end
                    self.closed = True
                    break
                self.keep(request)
            yield request

    def _advance(self) -> AsyncIterator[Any]:
        if self._iterator is None:
            self._iterator = _asynchronous(self._source or ())
        return self._iterator


async def _asynchronous(source: Requests) -> AsyncIterator[Any]:
    if isinstance(source, AsyncIterable):
        async for request in source:
            yield request
    else:
        for request in source:
            yield request


class StreamRequest(MeshCall):
    """Calls with a stream of requests: an iterator given at the start, or `write` and `done_writing`."""

    _single = False

    def __init__(self, method: MultiCallable, requests: Requests | None, options: CallOptions) -> None:
        """`requests` None: the application writes."""
        self._written = requests is None
        self._kept = _Kept(requests)
        super().__init__(method, None, options)

    def _first_argument(self) -> Any:
        return None if self._written else self._kept.view()

    def _replayable(self) -> bool:
        return self._kept.whole

    @property
    def _done_writing_flag(self) -> bool:
        """Whether the requests have ended; asked by grpc.aio's own call object that stands before interceptors."""
        return self._kept.closed

    def _commit(self) -> None:
        super()._commit()
        self._kept.forget()

    def _conclude(self, inner: Any) -> None:
        super()._conclude(inner)
        self._kept.drop()

    async def _replay(self, inner: Any) -> None:
        if not self._written:
            return
        for request in list(self._kept.items):
            await inner.write(request)
        if self._kept.closed:
            await inner.done_writing()

    async def write(self, request: Any) -> None:
        """Writes one request; returns when grpc has taken it."""
        inner = self._inner or await self._running()
        if self._written:
            self._kept.keep(request)
        try:
            await self._of(inner, inner.write(request))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            if self._inner is inner:
                raise
            await self._running()  # the next attempt was given it with all the others

    async def done_writing(self) -> None:
        """Ends the stream of requests."""
        inner = self._inner or await self._running()
        self._kept.closed = True
        try:
            await self._of(inner, inner.done_writing())
        except grpc.aio.AioRpcError:
            if self._inner is inner:
                raise
            await self._running()  # the next attempt was told so with all the requests


class UnaryUnaryCall(UnaryResponse, grpc.aio.UnaryUnaryCall):  # type: ignore[type-arg]
    """One request, one answer."""


class UnaryStreamCall(StreamResponse, grpc.aio.UnaryStreamCall):  # type: ignore[type-arg]
    """One request, a stream of answers."""


class StreamUnaryCall(StreamRequest, UnaryResponse, grpc.aio.StreamUnaryCall):  # type: ignore[type-arg]
    """A stream of requests, one answer."""


class StreamStreamCall(StreamRequest, StreamResponse, grpc.aio.StreamStreamCall):  # type: ignore[type-arg]
    """Streams both ways."""
