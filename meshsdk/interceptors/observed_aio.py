"""The interceptor of a `grpc.aio.server` that shows its calls to the process's observer: spans, metrics.

Part of `meshsdk.aio.server_interceptors()` where telemetry is on when that is called; see `observed_sync`. grpc.aio
runs each call in a task of its own, so that what a handler enters stays with that call.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import grpc
import grpc.aio

from meshsdk.interceptors.handler_wrapping import Behavior, Handler, HandlerWrapping
from meshsdk.interceptors.served_status import ended
from meshsdk.telemetry.port import ServedCall, ServerObserver

_Continuation = Callable[[grpc.HandlerCallDetails], "Awaitable[Handler | None]"]
_Began = Callable[[Any], ServedCall]
_MAX_REMEMBERED = 4096  # methods; see `handler_wrapping`


class ObservingInterceptor(grpc.aio.ServerInterceptor):
    """Wraps handlers of all four shapes. Owned by the server's loop."""

    def __init__(self, observer: ServerObserver) -> None:
        self._observer = observer
        self._wrappings: dict[str, HandlerWrapping] = {}

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Returns the method's handler, wrapped; grpc.aio calls this for every call."""
        handler = await continuation(handler_call_details)
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


def _began(observer: ServerObserver, method: str, context: Any) -> ServedCall:
    return observer.began(method, context.invocation_metadata(), context.peer())


def _unary(handler: Behavior, began: _Began) -> Behavior:
    return _coroutine(handler, began) if inspect.iscoroutinefunction(handler) else _threaded(handler, began)


def _streaming(handler: Behavior, began: _Began) -> Behavior:
    if inspect.isasyncgenfunction(handler):
        return _async_generator(handler, began)
    if inspect.iscoroutinefunction(handler):  # reader/writer form: answers through context.write
        return _coroutine(handler, began)
    return _threaded_generator(handler, began)


def _coroutine(handler: Behavior, began: _Began) -> Behavior:
    async def observed(request: Any, context: Any) -> Any:
        served = began(context)
        entered = served.enter()
        try:
            answer = await handler(request, context)
        except BaseException as error:
            ended(served, context, error)
            raise
        finally:
            served.leave(entered)
        ended(served, context, None)
        return answer

    return observed


def _async_generator(handler: Behavior, began: _Began) -> Behavior:
    async def observed(request: Any, context: Any) -> AsyncIterator[Any]:
        served = began(context)
        context.add_done_callback(lambda _context: served.ended("CANCELLED", ""))  # after all else: no effect then
        served.enter()  # for the rest of this call's own task; it may be finalized in another one, so nobody leaves
        responses = handler(request, context)
        problem: BaseException | None = None
        try:
            async for response in responses:
                yield response
        except BaseException as error:
            problem = error
            raise
        finally:
            ended(served, context, problem)
            await responses.aclose()

    return observed


def _threaded(handler: Behavior, began: _Began) -> Behavior:
    def observed(request: Any, context: Any) -> Any:
        served = began(context)
        entered = served.enter()
        try:
            answer = handler(request, context)
        except BaseException as error:
            ended(served, context, error)
            raise
        finally:
            served.leave(entered)
        ended(served, context, None)
        return answer

    return observed


def _threaded_generator(handler: Behavior, began: _Began) -> Behavior:
    def observed(request: Any, context: Any) -> Iterator[Any]:
        served = began(context)
        problem: BaseException | None = None
        responses = iter(handler(request, context))
        try:
            while True:
                entered = served.enter()
                try:
                    response = next(responses)
                except StopIteration:
                    return
                finally:
                    served.leave(entered)
                yield response
        except BaseException as error:
            problem = error
            raise
        finally:
            ended(served, context, problem)

    return observed
