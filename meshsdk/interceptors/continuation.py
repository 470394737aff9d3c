"""Reads a method's serializers from the continuation that grpc hands to a client interceptor.

An interceptor that sends a call over another channel needs them, and grpc gives them to nobody; they stand in the
closure (sync) or the partial arguments (asyncio) of the continuation. This is the one place that knows. Called by
the client interceptors; where grpc's inside looks different, it returns None and the call stays on its channel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Serializers:
    """How requests and answers of a method become bytes and back; None: they are bytes."""

    request: Callable[[Any], bytes] | None
    response: Callable[[bytes], Any] | None


def of_sync(continuation: Any) -> Serializers | None:
    """Reads them from grpc's `_interceptor` continuation: its multi-callable's thunk closes over both."""
    thunk = getattr(_free(continuation).get("self"), "_thunk", None)
    found = _free(thunk)
    if "request_serializer" not in found or "response_deserializer" not in found:
        return None
    return Serializers(found["request_serializer"], found["response_deserializer"])


def of_aio(continuation: Any) -> Serializers | None:
    """Reads them from grpc.aio's continuation: a partial of `_run_interceptor(interceptors, method, ser, deser)`."""
    if not isinstance(continuation, functools.partial) or len(continuation.args) != _AIO_ARGUMENTS:
        return None
    return Serializers(continuation.args[2], continuation.args[3])


_AIO_ARGUMENTS = 4


def _free(function: Any) -> dict[str, Any]:
    """The free variables of a function by name."""
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    if code is None or not cells:
        return {}
    return {name: cell.cell_contents for name, cell in zip(code.co_freevars, cells, strict=True)}
