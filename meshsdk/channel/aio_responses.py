"""How answers are read from a call of the asyncio façade: one answer that is awaited, or a stream of them.

Mixed into the concrete calls of `aio_requests`. Everything runs on the call's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import Any

import grpc.aio

from meshsdk.channel.aio_call import MeshCall


class UnaryResponse(MeshCall):
    """Calls with one answer. As in grpcio, a task of the loop keeps them alive to their end."""

    def _track(self) -> None:
        self._method.channel.hold(self)

    def __await__(self) -> Generator[Any, None, Any]:
        """Waits for the answer; cancelling the waiter cancels the call, as in grpcio."""
        while True:
            inner = self._inner
            if inner is None:
                try:
                    inner = yield from self._running().__await__()
                except asyncio.CancelledError:
                    self.cancel()
                    raise
            try:
                answer = yield from inner.__await__()
            except grpc.aio.AioRpcError:
                if self._inner is inner:
                    raise
            else:
                if self._inner is inner:
                    return answer


class StreamResponse(MeshCall):
    """Calls with a stream of answers, read by iteration or by `read`."""

    _streamed = True
    _answers: AsyncIterator[Any] | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        """Returns the one iterator over the answers."""
        if self._answers is None:
            self._answers = self._iterate()
        return self._answers

    async def _iterate(self) -> AsyncIterator[Any]:
        while True:
            inner = self._inner or await self._running()
            answers = aiter(inner)
            try:
                message = await self._of(inner, anext(answers, grpc.aio.EOF))
                if not self._committed and message is not grpc.aio.EOF:
                    if inner is self._left_behind:
                        continue
                    self._commit()
                while message is not grpc.aio.EOF:
                    yield message
                    message = await anext(answers, grpc.aio.EOF)
            except grpc.aio.AioRpcError:
                if self._inner is inner:
                    raise
            else:
                return

    async def read(self) -> Any:
        """Returns the next answer, `grpc.aio.EOF` at the end."""
        while True:
            inner = self._inner or await self._running()
            try:
                message = await self._of(inner, inner.read())
            except grpc.aio.AioRpcError:
                if self._inner is inner:
                    raise
                continue
            if not self._committed and message is not grpc.aio.EOF:
                if inner is self._left_behind:
                    continue
                self._commit()
            return message
