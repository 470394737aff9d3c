"""The interceptor of a `grpc.server`: counts calls in flight, tells peers of a drain, and keeps the server's limits.

Given to applications as `meshsdk.server_interceptors()`. grpcio asks it once per call, on the thread that takes calls
in, so it wraps each method's handler once and remembers it. It refuses only what a limit says: calls that still arrive
while the server drains are served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc

from meshsdk.interceptors import deadline
from meshsdk.interceptors.activity import ServerActivity, with_draining
from meshsdk.interceptors.handler_wrapping import Behavior, Handler, HandlerWrapping
from meshsdk.interceptors.limited_sync import Refusing, limited
from meshsdk.interceptors.observed_sync import ObservingInterceptor
from meshsdk.interceptors.policies.steps import Reject
from meshsdk.interceptors.server_admission import Admissions
from meshsdk.interceptors.thread_call import ThreadCall
from meshsdk.model.server_limits import ServerLimits
from meshsdk.telemetry.port import OBSERVING

_Continuation = Callable[[grpc.HandlerCallDetails], "Handler | None"]


def server_interceptors(limits: ServerLimits | None = None) -> list[grpc.ServerInterceptor]:
    """Returns new interceptors for one `grpc.server(pool, interceptors=...)`; put them first, so that they see all.

    They work by themselves: without `meshsdk.serve` they count and never drain. Telemetry that is on is among them.
    `limits`: of this server, beside what its handlers say with `@meshsdk.rpc(limit=...)`. Raises ConfigurationError for
    limits that cannot be meant.
    """
    observer = OBSERVING.servers
    observing = [] if observer is None else [ObservingInterceptor(observer)]
    return [*observing, ActivityInterceptor(ServerActivity(), Admissions(limits))]  # what limits refuse is seen too


class ActivityInterceptor(grpc.ServerInterceptor):
    """Wraps handlers of all four shapes. `activity` is the server's, read by `meshsdk.serve`.

    Without `admissions` nothing is limited, whatever handlers say.
    """

    def __init__(self, activity: ServerActivity, admissions: Admissions | None = None) -> None:
        self.activity = activity
        self.admissions = admissions or Admissions(None)
        self._refusing = Refusing()
        self._wrapping = HandlerWrapping(
            partial(_unary, activity=activity),
            partial(_streaming, activity=activity),
            None if admissions is None else admissions.met,
        )

    def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Returns the method's handler, wrapped; grpcio calls this for every call."""
        handler = continuation(handler_call_details)
        if handler is None:
            return _method_not_found() if self.activity.draining else None
        twin = self._wrapping.twin(handler_call_details.method, handler)
        return self._admit(handler_call_details, twin) if self.admissions.active else twin

    def _admit(self, call: Any, twin: Handler) -> Handler:
        """Decides now, and not when a thread is free: what waits for one counts."""
        streamed = twin.response_streaming
        permit = self.admissions.enter(call.method, call.invocation_metadata or (), streamed=streamed)
        if permit is None:
            return twin
        if isinstance(permit, Reject):
            refusal = _streaming(self._refusing.behavior(permit), self.activity)
            return grpc.stream_stream_rpc_method_handler(refusal)
        return limited(twin, permit)


def _unary(behavior: Behavior, activity: ServerActivity) -> Behavior:
    """One response. However the handler ends (return, abort, error), grpcio sends the status after this returned."""

    def counted(request: Any, context: grpc.ServicerContext) -> Any:
        call = ThreadCall(context, activity)
        activity.enter(call)
        held = deadline.hold(deadline.inbound(context))
        try:
            return behavior(request, context)
        finally:
            deadline.release(held)
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
        until = deadline.inbound(context)
        held = deadline.hold(until)
        try:
            responses = behavior(request, context)
        finally:
            deadline.release(held)
            if activity.draining:
                _mark(context)
        return _relay(deadline.within(until, responses), context, activity)

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
