"""What a grpc server was built from: its handlers and interceptors. The only file that reads grpcio's private fields.

grpcio (seen: 1.85 on Python 3.11) gives no way to ask a server for these. A `grpc.server` keeps them in `_state`; a
`grpc.aio.server` keeps them in a C structure, whose references Python's garbage collector can list. Where a later
grpcio hides them elsewhere, the caller is told (None) and asks the application instead; nothing is guessed.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from meshsdk.errors import ConfigurationError
from meshsdk.interceptors.activity import Activity, ServerActivity


@dataclass(frozen=True, slots=True)
class ServerParts:
    """`handlers`: `/pkg.Service/Method` -> the function that serves it.

    `unlisted`: generic handlers that answer for methods without naming them, in words. `activity`: of
    `server_interceptors()`, None if the server was built without.
    """

    handlers: Mapping[str, object]
    unlisted: tuple[str, ...]
    activity: Activity | None


def sync_parts(server: grpc.Server) -> ServerParts | None:
    """Looks into a `grpc.server`; None where this grpcio keeps its fields differently."""
    state = getattr(server, "_state", None)
    generic = getattr(state, "generic_handlers", None)
    registered = getattr(state, "registered_method_handlers", {})
    pipeline = getattr(state, "interceptor_pipeline", state)
    if not isinstance(generic, list) or not isinstance(registered, dict) or pipeline is state:
        return None
    return _parts(generic, registered, getattr(pipeline, "interceptors", ()))


def aio_parts(server: object) -> ServerParts | None:
    """Looks into a `grpc.aio.server`; None where this grpcio keeps its fields differently."""
    core = getattr(server, "_server", None)
    if type(core).__name__ != "AioServer":
        return None
    held = gc.get_referents(core)
    generic = [item for item in held if isinstance(item, list)]
    registered = [item for item in held if isinstance(item, dict)]  # grpcio 1.80 has none
    interceptors = [item for item in held if isinstance(item, tuple)]
    if len(generic) != 1 or len(registered) > 1 or len(interceptors) > 1:
        return None
    return _parts(generic[0], registered[0] if registered else {}, interceptors[0] if interceptors else ())


def named_handlers(services: Mapping[str, object]) -> dict[str, object]:
    """Lists the methods of `{"pkg.Service": servicer}`: for servers whose own list cannot be read.

    Raises ConfigurationError for a servicer without public methods.
    """
    handlers: dict[str, object] = {}
    for service, servicer in services.items():
        names = [name for name, _ in inspect.getmembers(servicer, callable) if not name.startswith("_")]
        if not names:
            raise ConfigurationError(f"serve(services=...): the servicer of {service!r} has no public methods")
        handlers |= {f"/{service}/{name}": getattr(servicer, name) for name in names}
    return handlers


def activity_of(interceptors: Iterable[object]) -> ServerActivity | None:
    """Returns the activity that `server_interceptors()` counts, if one of `interceptors` is of them."""
    for interceptor in interceptors:
        activity = getattr(interceptor, "activity", None)
        if isinstance(activity, ServerActivity):
            return activity
    return None


def _parts(generic: Sequence[object], registered: Mapping[str, Any], interceptors: Sequence[object]) -> ServerParts:
    handlers: dict[str, object] = {}
    unlisted: list[str] = []
    for source in generic:
        methods = getattr(source, "_method_handlers", None)  # grpc.method_handlers_generic_handler's dictionary
        if isinstance(methods, dict):
            handlers |= {name: _behavior(handler) for name, handler in methods.items()}
        else:
            unlisted.append(type(source).__qualname__)
    handlers |= {name: _behavior(handler) for name, handler in registered.items()}
    return ServerParts(handlers, tuple(unlisted), activity_of(interceptors))


def _behavior(handler: Any) -> object:
    if handler.request_streaming:
        return handler.stream_stream if handler.response_streaming else handler.stream_unary
    return handler.unary_stream if handler.response_streaming else handler.unary_unary
