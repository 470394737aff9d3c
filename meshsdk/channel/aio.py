"""`grpc.aio.Channel` over a target of the mesh: the four multi-callables, connectivity, close.

Made by `meshsdk.channel.mesh`. The request path itself is in `stack`; this page carries calls to connections.
"""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from meshsdk.channel.aio_call import MeshCall
from meshsdk.channel.aio_methods import StreamStream, StreamUnary, UnaryStream, UnaryUnary
from meshsdk.channel.connectivity import STATES
from meshsdk.channel.loops import LoopScope
from meshsdk.channel.stack import UNCONFIGURED, Target
from meshsdk.errors import LifecycleError
from meshsdk.telemetry.port import OBSERVING

if TYPE_CHECKING:
    from typing_extensions import Self

_channel_ids = itertools.count(1)
_CLOSED = "Channel is closed."  # grpcio's words


class MeshAioChannel(grpc.aio.Channel):
    """A drop-in `grpc.aio.Channel`. It belongs to the loop of its first use, as a native one does; all fields too."""

    scope: LoopScope
    scope_loop: asyncio.AbstractEventLoop

    def __init__(
        self,
        scope_of_loop: Callable[[], LoopScope],
        name: str,
        authority: str,
        compression: grpc.Compression | None = None,
    ) -> None:
        """`scope_of_loop` gives the scope of the running loop; nothing is watched or connected before the first use."""
        self.name = name
        self.target: Target | None = None
        self.id = next(_channel_ids)
        self.compression = compression
        self._scope_of_loop = scope_of_loop
        self._authority = authority
        self._closed = False
        self._calls: weakref.WeakSet[MeshCall] = weakref.WeakSet()
        self._held: set[MeshCall] = set()

    def __del__(self) -> None:
        """A channel that is dropped without `close` lets go of its target at the scope's next look."""
        if self.target is not None:
            self.scope.dropped.append(self.name)

    def open(self) -> Target:
        """Returns the target, watched from the first use on. Raises `grpc.aio.UsageError` on a closed channel."""
        if self._closed:
            raise grpc.aio.UsageError(_CLOSED)
        if self.target is None:
            self.scope = self._scope_of_loop()
            self.scope_loop = self.scope.loop
            self.target = self.scope.open(self.name, self._authority)
        return self.target

    async def configured(self, timeout: float) -> bool:
        """Tells whether there is a configuration; waits for the first one, `timeout` seconds at most."""
        try:
            target = self.target or self.open()
        except (grpc.aio.UsageError, LifecycleError):  # the channel or its mesh was closed
            return False
        end = self.scope_loop.time() + timeout
        while target.routes is None and target.hold is UNCONFIGURED and (left := end - self.scope_loop.time()) > 0:
            await self.scope.wait(left)
        return target.routes is not None

    def after_fork_in_child(self) -> None:
        """Starts anew at the next call, on the child's loop."""
        self.target = None
        self._calls = weakref.WeakSet()
        self._held = set()

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnary:
        """See `grpc.aio.Channel.unary_unary`."""
        OBSERVING.register(method, _registered_method)
        return UnaryUnary(self, "unary_unary", method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> UnaryStream:
        """See `grpc.aio.Channel.unary_stream`."""
        OBSERVING.register(method, _registered_method)
        return UnaryStream(self, "unary_stream", method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> StreamUnary:
        """See `grpc.aio.Channel.stream_unary`."""
        OBSERVING.register(method, _registered_method)
        return StreamUnary(self, "stream_unary", method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> StreamStream:
        """See `grpc.aio.Channel.stream_stream`."""
        OBSERVING.register(method, _registered_method)
        return StreamStream(self, "stream_stream", method, request_serializer, response_deserializer)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See `grpc.aio.Channel.get_state`: READY if a call could go out at once."""
        if self._closed:
            return grpc.ChannelConnectivity.SHUTDOWN
        if self.target is None:
            if not try_to_connect:
                return grpc.ChannelConnectivity.IDLE
            self.open()
        if self.target is None:
            return grpc.ChannelConnectivity.IDLE
        return STATES[self.target.connectivity()]

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See `grpc.aio.Channel.wait_for_state_change`."""
        if self._closed:
            raise grpc.aio.UsageError(_CLOSED)
        while self.get_state() is last_observed_state:
            if self.target is None:
                self.open()
            await self.scope.wait(None)

    async def channel_ready(self) -> None:
        """See `grpc.aio.Channel.channel_ready`."""
        while (state := self.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            await self.wait_for_state_change(state)

    def track(self, call: MeshCall) -> None:
        """Remembers, weakly, a call that `close` must cancel."""
        self._calls.add(call)

    def hold(self, call: MeshCall) -> None:
        """Remembers a call that `close` must cancel, and keeps it alive to its end."""
        self._held.add(call)

    def untrack(self, call: MeshCall) -> None:
        """Forgets a call that has ended."""
        self._held.discard(call)

    async def close(self, grace: float | None = None) -> None:
        """Takes no further calls, lets running ones finish within `grace` seconds, then cancels them."""
        if self._closed:
            return
        self._closed = True
        target, self.target = self.target, None
        calls = {*self._calls, *self._held}
        if grace and calls:
            over = [asyncio.ensure_future(call.over()) for call in calls]
            _, late = await asyncio.wait(over, timeout=grace)
            for waiting in late:
                waiting.cancel()
        for call in (*self._calls, *self._held):
            call.cancel()
        if target is not None:
            self.scope.release(self.name)
            await self.scope.closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
