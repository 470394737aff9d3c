"""The interceptor of a `grpc.aio.server`: counts calls in flight and tells peers of a drain in trailing metadata.

Given to applications as `meshsdk.aio.server_interceptors()`. It wraps each method's handler once, in the form that
grpc.aio recognises handlers by: coroutine function, async generator function, or plain function for its thread pool.
It never refuses a call.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import grpc
import grpc.aio

from meshsdk.interceptors.activity import ServerActivity, with_draining
from meshsdk.interceptors.handler_wrapping import Behavior, Handler, HandlerWrapping
from meshsdk.interceptors.server_context import AioContext, ThreadContext

_Continuation = Callable[[grpc.HandlerCallDetails], "Awaitable[Handler | None]"]


def server_interceptors() -> list[grpc.aio.ServerInterceptor]:
    """Returns new interceptors for one `grpc.aio.server(interceptors=...)`; put them first, so that they see all.

    They work by themselves: without `meshsdk.aio.serve` they count and never drain.
    """
    return [ActivityInterceptor(ServerActivity())]


class ActivityInterceptor(grpc.aio.ServerInterceptor):
    """Wraps handlers of all four shapes. `activity` is the server's, read by `meshsdk.aio.serve`."""

    def __init__(self, activity: ServerActivity) -> None:
        self.activity = activity
        self._wrapping = HandlerWrapping(partial(_unary, activity=activity), partial(_streaming, activity=activity))

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Returns the method's handler, wrapped; grpc.aio calls this for every call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return _method_not_found(self.activity) if self.activity.draining else None
        return self._wrapping.twin(handler_call_details.method, handler)


def _unary(handler: Behavior, activity: ServerActivity) -> Behavior:
    return _coroutine(handler, activity) if inspect.iscoroutinefunction(handler) else _threaded(handler, activity)


def _streaming(handler: Behavior, activity: ServerActivity) -> Behavior:
    if inspect.isasyncgenfunction(handler):
        return _async_generator(handler, activity)
    if inspect.iscoroutinefunction(handler):  # reader/writer form: answers through context.write
        return _coroutine(handler, activity)
    return _threaded_generator(handler, activity)


def _coroutine(handler: Behavior, activity: ServerActivity) -> Behavior:
    async def counted(request: Any, context: Any) -> Any:
        own = AioContext(context, activity)
        activity.enter(own)
        context.add_done_callback(lambda _context: activity.leave(own))
        try:
            return await handler(request, own)
        finally:
            if activity.draining:
                context.set_trailing_metadata(with_draining(context.trailing_metadata()))

    return counted


def _async_generator(handler: Behavior, activity: ServerActivity) -> Behavior:
    async def counted(request: Any, context: Any) -> AsyncIterator[Any]:
        own = AioContext(context, activity)
        activity.enter(own)
        context.add_done_callback(lambda _context: activity.leave(own))
        responses = handler(request, own)
        try:
            async for response in responses:
                yield response
        finally:
            await responses.aclose()
            if activity.draining:
                context.set_trailing_metadata(with_draining(context.trailing_metadata()))

    return counted


def _threaded(handler: Behavior, activity: ServerActivity) -> Behavior:
    def counted(request: Any, context: Any) -> Any:
        own = ThreadContext(context, activity)
        activity.enter(own)
        try:
            return handler(request, own)
        finally:
            own.mark()
            activity.leave(own)

    return counted


def _threaded_generator(handler: Behavior, activity: ServerActivity) -> Behavior:
    # grpc.aio tells thread handlers nothing of a cancellation, and may leave their thread waiting in its queue: such a
    # call stays counted, and a drain waits for it as long as `DrainTiming.timeout` says.
    def counted(request: Any, context: Any) -> Iterator[Any]:
        own = ThreadContext(context, activity)
        activity.enter(own)
        try:
            yield from handler(request, own)
        finally:
            own.mark()
            activity.leave(own)

    return counted


def _method_not_found(activity: ServerActivity) -> Handler:
    """Answers as grpc.aio does for a method nobody serves, and tells of the drain."""

    async def refuse(_requests: Any, context: Any) -> None:
        await AioContext(context, activity).abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    return grpc.stream_stream_rpc_method_handler(refuse)
