"""The four interceptors of a `grpc.aio` channel that hand every call, whatever its shape, to one router.

One class per shape: grpc.aio registers an interceptor that has several shapes for the first of them only (grpc#40946).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import grpc.aio


class AioRouter(Protocol):
    """Decides what becomes of a call."""

    async def route(self, shape: str, continuation: Callable[..., Any], details: Any, argument: Any) -> Any:
        """Returns the call. `shape`: name of the channel's method, such as "unary_unary"; the rest is grpc.aio's."""


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, router: AioRouter) -> None:
        self._router = router

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._router.route("unary_unary", continuation, client_call_details, request)


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, router: AioRouter) -> None:
        self._router = router

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._router.route("unary_stream", continuation, client_call_details, request)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    def __init__(self, router: AioRouter) -> None:
        self._router = router

    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._router.route("stream_unary", continuation, client_call_details, request_iterator)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    def __init__(self, router: AioRouter) -> None:
        self._router = router

    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._router.route("stream_stream", continuation, client_call_details, request_iterator)


def of_every_shape(router: AioRouter) -> Sequence[Any]:
    """Returns one interceptor for each shape."""
    return (_UnaryUnary(router), _UnaryStream(router), _StreamUnary(router), _StreamStream(router))
