"""`@meshsdk.rpc`: says things about a handler that callers should know, and leaves the handler as it is.

Applied by applications to methods of servicer classes and to plain functions: sync, coroutine, generator and async
generator alike. It wraps with wrapt, so that signature, kind and binding stay those of the handler
(grpc.aio tells handlers apart by `inspect`), and nothing is written onto the function itself. It never runs code
around the call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import wrapt

from meshsdk.errors import ConfigurationError
from meshsdk.interceptors.rpc_options import RpcOptions, options_of, read_options

__all__ = ["options_of", "rpc"]

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


def rpc(
    *handlers: object, idempotent: bool = False, timeout: object = None, retry: object = None, limit: object = None
) -> Callable[[_Decorated], _Decorated]:
    """Declares options of an RPC handler. They are published to callers in the revision of the instance.

    They reach callers whose cluster comes straight from a registry (`mesh:///`); xDS cannot say them, so callers of EDS
    clusters need them on the route.

    `idempotent`: running the call twice does no harm, so callers may retry it. `timeout`: seconds, a timedelta or text
    ("2s"): what a caller should wait at most if it set no deadline; published to callers in the revision, the server
    does not cut calls off. `retry` (needs `idempotent`): a number of retries, or a `RetryPolicy`. `limit`: calls in
    flight (64), a rate ("100/s"), both ({"concurrent": 64, "rate": "100/s"}) or a `Limit`: what one instance takes;
    published likewise, and enforced by a server with `server_interceptors()`: RESOURCE_EXHAUSTED beyond it.

    Raises ConfigurationError at decoration when an argument cannot be used.
    """
    if handlers:
        raise ConfigurationError("@meshsdk.rpc takes options by name: write @meshsdk.rpc(idempotent=True, ...)")
    options = read_options(idempotent=idempotent, timeout=timeout, retry=retry, limit=limit)

    def decorate(handler: _Decorated) -> _Decorated:
        function = getattr(handler, "__func__", handler)  # a classmethod object is not callable itself
        if inspect.isclass(handler) or not callable(function):
            raise ConfigurationError(
                f"@meshsdk.rpc decorates one RPC handler (a method or a function), not {handler!r}"
            )
        return cast("_Decorated", _Described(handler, options))

    return decorate


def _pass_on(wrapped: Callable[..., Any], _instance: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return wrapped(*args, **kwargs)


class _DescribedMethod(wrapt.BoundFunctionWrapper):  # type: ignore[type-arg]
    """A described handler looked up on its servicer."""

    @property
    def __meshsdk_rpc__(self) -> RpcOptions:
        return cast("_Described", self._self_parent).__meshsdk_rpc__


class _Described(wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """A handler with its options; wrapt keeps attributes that begin with `_self_` on the wrapper."""

    __bound_function_wrapper__ = _DescribedMethod

    def __init__(self, handler: Callable[..., Any], options: RpcOptions) -> None:
        super().__init__(handler, _pass_on)
        self._self_options = options

    @property
    def __meshsdk_rpc__(self) -> RpcOptions:
        return self._self_options
