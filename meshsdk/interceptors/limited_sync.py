"""Handlers of a `grpc.server` for calls that limits let in, or refuse.

Called by `server_sync` for methods with limits only: a handler made for this one call. A refusal is answered from a
thread of its own pool: those of the server may all be busy, which is why it is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from meshsdk.interceptors.handler_wrapping import Behavior, Handler, rewrapped
from meshsdk.interceptors.permit import Permit
from meshsdk.interceptors.policies.steps import Reject

_REFUSING_THREADS = 2


class Refusing:
    """The threads of one server that answer refused calls; they begin with the first refusal."""

    __slots__ = ("_lock", "_pool")

    def __init__(self) -> None:
        """Starts nothing."""
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None  # guarded by _lock

    def behavior(self, reject: Reject) -> Behavior:
        """Returns the behaviour, of streams both ways, that answers a refused call."""

        def refuse(_requests: Any, context: grpc.ServicerContext) -> Any:
            from meshsdk.interceptors import rich_status  # noqa: PLC0415 - who refuses nobody needs no google.rpc

            context.set_trailing_metadata(rich_status.trailing(reject))
            context.abort(grpc.StatusCode[reject.code], reject.details)

        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_REFUSING_THREADS, "meshsdk-refusing")
            return pooled(refuse, self._pool)


def limited(handler: Handler, permit: Permit) -> Handler:
    """Returns the handler of a call that was let in: gives the permit back when the call is over."""

    def unary(behavior: Behavior) -> Behavior:
        def run(request: Any, context: grpc.ServicerContext) -> Any:
            permit.start()
            try:
                response = behavior(request, context)
            except BaseException:
                permit.end(_code(context, "UNKNOWN"))
                raise
            permit.end(_code(context, "OK"))
            return response

        return pooled(run, getattr(behavior, "experimental_thread_pool", None))

    def streaming(behavior: Behavior) -> Behavior:
        permit.streamed = True

        def run(request: Any, context: grpc.ServicerContext) -> Any:
            permit.start()
            if not context.add_callback(lambda: permit.end(_code(context, "OK"))):
                permit.end("CANCELLED")
            try:
                return _relay(behavior(request, context), context, permit)
            except BaseException:
                permit.failure = _code(context, "UNKNOWN")
                raise

        return pooled(run, getattr(behavior, "experimental_thread_pool", None))

    return rewrapped(handler, unary, streaming)


def pooled(behavior: Behavior, pool: object) -> Behavior:
    """grpcio picks a handler's own pool by this attribute."""
    if pool is not None:
        behavior.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return behavior


def _relay(responses: Iterator[Any], context: grpc.ServicerContext, permit: Permit) -> Iterator[Any]:
    try:
        yield from responses
    except BaseException:
        permit.failure = _code(context, "UNKNOWN")
        raise


def _code(context: Any, otherwise: str) -> str:
    code = context.code()
    return otherwise if code is None else str(code.name)
