"""The four multi-callables of an asyncio woven channel. Made by `aio_channel.WovenAioChannel`; owned by its loop.

A call compares the way it knows with the way that is in force; only where they differ it asks the channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc.aio

from meshsdk.instrument.path import Path
from meshsdk.instrument.unsent import never_left

if TYPE_CHECKING:
    from meshsdk.instrument.aio_channel import WovenAioChannel


class _Method:
    """A method of the channel, with the stub of the path that its last call took."""

    def __init__(self, woven: WovenAioChannel, shape: str, arguments: tuple[Any, ...]) -> None:
        """`shape` names the method of grpc.aio.Channel that makes the stub from `arguments`."""
        self._woven = woven
        self._shape = shape
        self._arguments = arguments
        self._path: Path | None = None
        self._stub: Any = None

    def _make(self, channel: Any) -> Any:
        return getattr(channel, self._shape)(*self._arguments)

    def _take(self) -> Path | None:
        """Asks the channel for the path; None: it is not known yet, and the call goes where it can wait."""
        path = self._path = self._woven.enter()
        self._stub = self._make(self._woven.through if path is None else path.channel)
        return path

    def __call__(self, *request: Any, **options: Any) -> Any:
        """See grpc.aio's multi-callables; what is given is passed on as it is."""
        path = self._path
        if path is None or path is not self._woven.path:
            path = self._take()
            if path is None:
                return self._stub(*request, **options)
        path.begin(None)
        try:
            call = self._stub(*request, **options)
        except Exception as error:
            channel = self._woven.detour(path, error) if never_left(error) else None
            if channel is None:
                raise
            call = self._make(channel)(*request, **options)
        finally:
            path.end()
        path.follow(call)
        return call


class UnaryUnary(_Method, grpc.aio.UnaryUnaryMultiCallable):  # type: ignore[type-arg]  # subscriptable in stubs only
    """One request, one answer."""


class UnaryStream(_Method, grpc.aio.UnaryStreamMultiCallable):  # type: ignore[type-arg]  # subscriptable in stubs only
    """One request, a stream of answers."""


class StreamUnary(_Method, grpc.aio.StreamUnaryMultiCallable):  # type: ignore[type-arg]  # subscriptable in stubs only
    """A stream of requests, one answer."""


class StreamStream(_Method, grpc.aio.StreamStreamMultiCallable):  # type: ignore[type-arg]  # subscriptable in stubs only
    """Streams both ways."""
