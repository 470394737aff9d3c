"""The interceptor of a `grpc.server` that shows its calls to the process's observer: spans, metrics.

Part of `meshsdk.server_interceptors()` where telemetry is on when that is called. It looks and changes nothing; what is
seen is `meshsdk.telemetry`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc

from meshsdk.interceptors.handler_wrapping import Behavior, Handler, HandlerWrapping
from meshsdk.interceptors.served_status import ended
from meshsdk.telemetry.port import ServedCall, ServerObserver

_Continuation = Callable[[grpc.HandlerCallDetails], "Handler | None"]
_MAX_REMEMBERED = 4096  # methods; see `handler_wrapping`


class ObservingInterceptor(grpc.ServerInterceptor):
    """Wraps handlers of all four shapes. Thread rule: `_wrappings` is added to by any thread, which is atomic."""

    def __init__(self, observer: ServerObserver) -> None:
        self._observer = observer
        self._wrappings: dict[str, HandlerWrapping] = {}

    def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Returns the method's handler, wrapped; grpcio calls this for every call."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        wrapping = self._wrappings.get(method)
        if wrapping is None:
            seen = partial(_began, self._observer, method)
            wrapping = HandlerWrapping(partial(_unary, began=seen), partial(_streaming, began=seen))
            if len(self._wrappings) < _MAX_REMEMBERED:
                self._wrappings[method] = wrapping
        return wrapping.twin(method, handler)


_Began = Callable[[Any], ServedCall]


def _began(observer: ServerObserver, method: str, context: Any) -> ServedCall:
    return observer.began(method, context.invocation_metadata(), context.peer())


def _unary(behavior: Behavior, began: _Began) -> Behavior:
    def observed(request: Any, context: grpc.ServicerContext) -> Any:
        served = began(context)
        entered = served.enter()
        try:
            answer = behavior(request, context)
        except BaseException as error:
            ended(served, context, error)
            raise
        finally:
            served.leave(entered)
        ended(served, context, None)
        return answer

    return _like(behavior, observed)


def _streaming(behavior: Behavior, began: _Began) -> Behavior:
    if getattr(behavior, "experimental_non_blocking", False):
        return behavior  # grpcio's private protocol of its health service: it answers through a third argument

    def observed(request: Any, context: grpc.ServicerContext) -> Any:
        served = began(context)
        # A cancelled stream leaves its iterator where it stands; grpcio says when the call is over.
        if not context.add_callback(partial(served.ended, "CANCELLED", "")):
            served.ended("CANCELLED", "")
        entered = served.enter()
        try:
            responses = behavior(request, context)
        except BaseException as error:
            ended(served, context, error)
            raise
        finally:
            served.leave(entered)
        return _relay(responses, context, served)

    return _like(behavior, observed)


def _relay(responses: Iterator[Any], context: grpc.ServicerContext, served: ServedCall) -> Iterator[Any]:
    """Runs every step of the handler in its call's context; the thread's own is back before an answer is sent."""
    problem: BaseException | None = None
    try:
        while True:
            entered = served.enter()
            try:
                response = next(responses)
            except StopIteration:
                return
            except BaseException as error:
                problem = error
                raise
            finally:
                served.leave(entered)
            yield response
    except GeneratorExit:
        served.ended("CANCELLED", "")
        raise
    finally:
        ended(served, context, problem)


def _like(behavior: Behavior, observed: Behavior) -> Behavior:
    pool = getattr(behavior, "experimental_thread_pool", None)
    if pool is not None:  # grpcio picks a handler's own pool by this attribute
        observed.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return observed
