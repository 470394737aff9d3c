"""Gives every method's handler a wrapped twin, made once: grpcio asks server interceptors anew for every call.

Called by `server_sync` and `server_aio`, which bring the two functions that wrap a handler with one and with many
responses. Knows the four shapes, nothing of what the wrapping does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import grpc

Behavior = Callable[..., Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

# grpc.health.v1 is asked by probes for as long as the process lives: a Watch would keep a drain waiting for ever.
_UNWRAPPED_PREFIX = "/grpc.health.v1.Health/"
_MAX_REMEMBERED = 4096  # methods; a generic handler that makes up names must not grow the process


class HandlerWrapping:
    """Wraps handlers by `unary(behavior)` (one response) and `streaming(behavior)` (many), whatever the request is."""

    def __init__(
        self,
        unary: Callable[[Behavior], Behavior],
        streaming: Callable[[Behavior], Behavior],
        met: Callable[[str, Handler], None] | None = None,
    ) -> None:
        """`met` is told of each handler before it is wrapped."""
        self._unary = unary
        self._streaming = streaming
        self._met = met
        # Benign race, on free-threaded builds too: two threads may wrap one handler twice, and either result serves.
        self._twins: dict[str, tuple[Handler, Handler]] = {}

    def twin(self, method: str, handler: Handler) -> Handler:
        """Returns the wrapped handler of `/pkg.Service/Method`; health is left as it is."""
        known = self._twins.get(method)
        if known is not None and known[0] is handler:
            return known[1]
        if self._met is not None:
            self._met(method, handler)
        unwrapped = method.startswith(_UNWRAPPED_PREFIX)
        twin = handler if unwrapped else rewrapped(handler, self._unary, self._streaming)
        if len(self._twins) < _MAX_REMEMBERED:
            self._twins[method] = (handler, twin)
        return twin


def rewrapped(
    handler: Any, unary: Callable[[Behavior], Behavior], streaming: Callable[[Behavior], Behavior]
) -> Handler:
    """Returns a handler of the same shape with its behaviour wrapped."""
    read, write = handler.request_deserializer, handler.response_serializer
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(streaming(handler.stream_stream), read, write)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(unary(handler.stream_unary), read, write)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(streaming(handler.unary_stream), read, write)
    return grpc.unary_unary_rpc_method_handler(unary(handler.unary_unary), read, write)
