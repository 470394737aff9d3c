"""Handlers of a `grpc.aio.server` for calls that limits let in, or refuse.

Called by `server_aio` for methods with limits only: a handler made for this one call, in the form that grpc.aio
recognises it by. It decides nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from meshsdk.interceptors.handler_wrapping import Behavior, Handler, rewrapped
from meshsdk.interceptors.permit import Permit
from meshsdk.interceptors.policies.steps import Reject

_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


def limited(handler: Handler, permit: Permit) -> Handler:
    """Returns the handler of a call that was let in: gives the permit back when the call is over."""

    def streaming(behavior: Behavior) -> Behavior:
        permit.streamed = True
        if inspect.isasyncgenfunction(behavior):
            return _async_generator(behavior, permit)
        return _coroutine(behavior, permit) if inspect.iscoroutinefunction(behavior) else _relayed(behavior, permit)

    def unary(behavior: Behavior) -> Behavior:
        return _coroutine(behavior, permit) if inspect.iscoroutinefunction(behavior) else _threaded(behavior, permit)

    return rewrapped(handler, unary, streaming)


def refusing(reject: Reject) -> Behavior:
    """Returns the behaviour, of streams both ways, that answers a refused call."""

    async def refuse(_requests: Any, context: Any) -> None:
        from meshsdk.interceptors import rich_status  # noqa: PLC0415 - who refuses nobody needs no google.rpc

        await context.abort(grpc.StatusCode[reject.code], reject.details, rich_status.trailing(reject))

    return refuse


def _coroutine(behavior: Behavior, permit: Permit) -> Behavior:
    async def run(request: Any, context: Any) -> Any:
        _begin(context, permit)
        try:
            return await behavior(request, context)
        except BaseException:
            permit.failure = _code(context, "UNKNOWN")
            raise

    return run


def _async_generator(behavior: Behavior, permit: Permit) -> Behavior:
    async def run(request: Any, context: Any) -> AsyncIterator[Any]:
        _begin(context, permit)
        responses = behavior(request, context)
        try:
            async for response in responses:
                yield response
        except Exception:
            permit.failure = _code(context, "UNKNOWN")
            raise
        finally:
            await responses.aclose()

    return run


def _begin(context: Any, permit: Permit) -> None:
    permit.start()
    context.add_done_callback(lambda held: permit.end("CANCELLED" if held.cancelled() else _code(held, "OK")))


def _code(context: Any, otherwise: str) -> str:
    number = context.code()
    if isinstance(number, grpc.StatusCode):
        return otherwise if number is grpc.StatusCode.OK else number.name
    return _NAMES.get(number, "UNKNOWN") if number else otherwise


class _Coded:
    """The context of a handler in a thread: grpc.aio's own does not tell the code it was given."""

    __slots__ = ("_context", "code")

    def __init__(self, context: Any) -> None:
        self._context = context
        self.code = "OK"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def set_code(self, code: grpc.StatusCode) -> None:
        """As grpc's."""
        self.code = code.name
        self._context.set_code(code)

    def abort(self, code: grpc.StatusCode, *said: Any) -> None:
        """As grpc's. Always raises."""
        self.code = code.name
        self._context.abort(code, *said)


def _threaded(behavior: Behavior, permit: Permit) -> Behavior:
    def run(request: Any, context: Any) -> Any:
        permit.start()
        own = _Coded(context)
        try:
            response = behavior(request, own)
        except BaseException:
            permit.end("UNKNOWN" if own.code == "OK" else own.code)
            raise
        permit.end(own.code)
        return response

    return run


def _relayed(behavior: Behavior, permit: Permit) -> Behavior:
    def run(request: Any, context: Any) -> Iterator[Any]:
        permit.start()
        own = _Coded(context)
        try:
            yield from behavior(request, own)
        except Exception:
            own.code = "UNKNOWN" if own.code == "OK" else own.code
            raise
        finally:
            permit.end(own.code)

    return run
