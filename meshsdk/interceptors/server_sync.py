"""The interceptor of a `grpc.server`: counts calls in flight and tells peers of a drain in trailing metadata.

Given to applications as `meshsdk.server_interceptors()`. grpcio asks it once per call, on the thread that takes calls
in, so it wraps each method's handler once and remembers it. It never refuses a call: those that still arrive while
the server drains are served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc

from meshsdk.interceptors.activity import ServerActivity, with_draining
from meshsdk.interceptors.handler_wrapping import Behavior, Handler, HandlerWrapping
from meshsdk.interceptors.thread_call import ThreadCall

_Continuation = Callable[[grpc.HandlerCallDetails], "Handler | None"]


def server_interceptors() -> list[grpc.ServerInterceptor]:
    """Returns new interceptors for one `grpc.server(pool, interceptors=...)`; put them first, so that they see all.

    They work by themselves: without `meshsdk.serve` they count and never drain.
    """
    return [ActivityInterceptor(ServerActivity())]


class ActivityInterceptor(grpc.ServerInterceptor):
    """Wraps handlers of all four shapes. `activity` is the server's, read by `meshsdk.serve`."""

    def __init__(self, activity: ServerActivity) -> None:
        self.activity = activity
        self._wrapping = HandlerWrapping(partial(_unary, activity=activity), partial(_streaming, activity=activity))

    def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Returns the method's handler, wrapped; grpcio calls this for every call."""
        handler = continuation(handler_call_details)
        if handler is None:
            return _method_not_found() if self.activity.draining else None
        return self._wrapping.twin(handler_call_details.method, handler)


def _unary(behavior: Behavior, activity: ServerActivity) -> Behavior:
    """One response. However the handler ends (return, abort, error), grpcio sends the status after this returned."""

    def counted(request: Any, context: grpc.ServicerContext) -> Any:
        call = ThreadCall(context, activity)
        activity.enter(call)
        try:
            return behavior(request, context)
        finally:
            if activity.draining:
                _mark(context)
            activity.leave(call)

    return _like(behavior, counted)


def _streaming(behavior: Behavior, activity: ServerActivity) -> Behavior:
    """Many responses. The call is over when grpcio says so: a cancelled stream leaves its iterator where it stands."""
    if getattr(behavior, "experimental_non_blocking", False):
        return behavior  # grpcio's private protocol of its health service: it answers through a third argument

    def counted(request: Any, context: grpc.ServicerContext) -> Any:
        call = ThreadCall(context, activity)
        activity.enter(call)
        if not context.add_callback(partial(activity.leave, call)):
            activity.leave(call)  # cancelled before the handler ran
        try:
            responses = behavior(request, context)
        finally:
            if activity.draining:
                _mark(context)
        return _relay(responses, context, activity)

    return _like(behavior, counted)


def _relay(responses: Iterator[Any], context: grpc.ServicerContext, activity: ServerActivity) -> Iterator[Any]:
    try:
        yield from responses
    finally:
        if activity.draining:
            _mark(context)


def _mark(context: grpc.ServicerContext) -> None:
    # Last, so that whatever the handler set or abort_with_status brought is kept beside it.
    context.set_trailing_metadata(with_draining(context.trailing_metadata()))


def _like(behavior: Behavior, counted: Behavior) -> Behavior:
    pool = getattr(behavior, "experimental_thread_pool", None)
    if pool is not None:  # grpcio picks a handler's own pool by this attribute
        counted.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return counted


def _method_not_found() -> Handler:
    """Answers as grpcio does for a method nobody serves, and tells of the drain."""

    def refuse(_requests: Any, context: grpc.ServicerContext) -> Any:
        _mark(context)
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    return grpc.stream_stream_rpc_method_handler(refuse)
