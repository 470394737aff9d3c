"""The innermost interceptors of a `grpc.aio` channel in a woven program: each call takes the way that is in force."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from meshsdk.instrument.path import Path
from meshsdk.instrument.unsent import never_left
from meshsdk.interceptors.aio_shapes import of_every_shape
from meshsdk.interceptors.client_sync import less_time
from meshsdk.interceptors.continuation import of_aio

if TYPE_CHECKING:
    from meshsdk.instrument.aio_channel import WovenAioChannel


class _Router:
    """What the four interceptors share: the stubs of the path that is in force. Owned by the loop."""

    def __init__(self, woven: WovenAioChannel) -> None:
        self._woven = woven
        self._path: Path | None = None
        self._stubs: dict[tuple[Any, ...], Any] = {}

    async def route(self, shape: str, continuation: Callable[..., Any], details: Any, argument: Any) -> Any:
        began = time.monotonic()
        path = self._woven.path or await self._woven.decided(details.timeout)
        details = less_time(details, time.monotonic() - began)
        serializers = of_aio(continuation)
        if serializers is None:  # grpc.aio's inside looks different: its own channel is a direct path too
            return await continuation(details, argument)
        method = details.method.decode() if isinstance(details.method, bytes) else details.method
        key = shape, method, serializers.request, serializers.response
        path.begin(None)
        try:
            call = self._call(self._stub(path, key), details, argument)
        except Exception as error:
            channel = self._woven.detour(path, error) if never_left(error) else None
            if channel is None:
                raise
            call = self._call(getattr(channel, shape)(*key[1:]), details, argument)
        finally:
            path.end()
        path.follow(call)
        return call

    def _stub(self, path: Path, key: tuple[Any, ...]) -> Any:
        if path is not self._path:
            self._path, self._stubs = path, {}
        stub = self._stubs.get(key)
        if stub is None:
            stub = self._stubs[key] = getattr(path.channel, key[0])(*key[1:])
        return stub

    @staticmethod
    def _call(stub: Any, details: Any, argument: Any) -> Any:
        return stub(
            argument,
            timeout=details.timeout,
            metadata=details.metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
        )


def routing_interceptors(woven: WovenAioChannel) -> Sequence[Any]:
    """Returns the interceptors, to be put after the application's own."""
    return of_every_shape(_Router(woven))
