"""The interceptor of a `grpc.aio.server`: counts calls in flight, tells peers of a drain, keeps the server's limits.

Given to applications as `meshsdk.aio.server_interceptors()`. It wraps each method's handler once, in the form that
grpc.aio recognises handlers by: coroutine function, async generator function, or plain function for its thread pool.
It refuses only what a limit says.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import grpc
import grpc.aio

from meshsdk.interceptors import deadline
from meshsdk.interceptors.activity import ServerActivity, with_draining
from meshsdk.interceptors.handler_wrapping import Behavior, Handler, HandlerWrapping
from meshsdk.interceptors.limited_aio import limited, refusing
from meshsdk.interceptors.observed_aio import ObservingInterceptor
from meshsdk.interceptors.policies.steps import Reject
from meshsdk.interceptors.server_admission import Admissions
from meshsdk.interceptors.server_context import AioContext, ThreadContext
from meshsdk.model.server_limits import ServerLimits
from meshsdk.telemetry.port import OBSERVING

_Continuation = Callable[[grpc.HandlerCallDetails], "Awaitable[Handler | None]"]


def server_interceptors(limits: ServerLimits | None = None) -> list[grpc.aio.ServerInterceptor]:
    """Returns new interceptors for one `grpc.aio.server(interceptors=...)`; put them first, so that they see all.

    They work by themselves: without `meshsdk.aio.serve` they count and never drain. Telemetry that is on is among them.
    `limits`: of this server, beside what its handlers say with `@meshsdk.rpc(limit=...)`. Raises ConfigurationError for
    limits that cannot be meant.
    """
    observer = OBSERVING.servers
    observing = [] if observer is None else [ObservingInterceptor(observer)]
    return [*observing, ActivityInterceptor(ServerActivity(), Admissions(limits))]  # what limits refuse is seen too


class ActivityInterceptor(grpc.aio.ServerInterceptor):
    """Wraps handlers of all four shapes. `activity` is the server's, read by `meshsdk.aio.serve`.

    Without `admissions` nothing is limited, whatever handlers say.
    """

    def __init__(self, activity: ServerActivity, admissions: Admissions | None = None) -> None:
        self.activity = activity
        self.admissions = admissions or Admissions(None)
        self._wrapping = HandlerWrapping(
            partial(_unary, activity=activity),
            partial(_streaming, activity=activity),
            None if admissions is None else admissions.met,
        )

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Returns the method's handler, wrapped; grpc.aio calls this for every call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return _method_not_found(self.activity) if self.activity.draining else None
        twin = self._wrapping.twin(handler_call_details.method, handler)
        return self._admit(handler_call_details, twin) if self.admissions.active else twin

    def _admit(self, call: Any, twin: Handler) -> Handler:
        if self.admissions.loop_lag is not None:
            self.admissions.loop_lag.touch()
        streamed = twin.response_streaming
        permit = self.admissions.enter(call.method, call.invocation_metadata or (), streamed=streamed)
        if permit is None:
            return twin
        if isinstance(permit, Reject):
            return grpc.stream_stream_rpc_method_handler(_streaming(refusing(permit), self.activity))
        return limited(twin, permit)


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
        deadline.hold(deadline.inbound(context))  # for the rest of this call's own task
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
        deadline.hold(deadline.inbound(context))  # as above
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
        held = deadline.hold(deadline.inbound(context))
        try:
            return handler(request, own)
        finally:
            deadline.release(held)
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
            until = deadline.inbound(context)
            held = deadline.hold(until)
            try:
                responses = handler(request, own)
            finally:
                deadline.release(held)
            yield from deadline.within(until, responses)
        finally:
            own.mark()
            activity.leave(own)

    return counted


def _method_not_found(activity: ServerActivity) -> Handler:
    """Answers as grpc.aio does for a method nobody serves, and tells of the drain."""

    async def refuse(_requests: Any, context: Any) -> None:
        await AioContext(context, activity).abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    return grpc.stream_stream_rpc_method_handler(refuse)
