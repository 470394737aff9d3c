"""`grpc.aio.Channel` of a woven program: each call takes the mesh's way or the application's own, as the gate says.

Made by `weaving` in place of grpc.aio's own channels. A channel with interceptors of the application's stays grpc.aio's
own, so that they see every call; its innermost interceptors (`aio_routing`) choose the way. A call that is made before
the way is known goes over such a channel too: it can wait without blocking.
"""

# ruff: noqa: FBT001, FBT002 - grpc's API has positional booleans
from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from meshsdk.instrument.aio_methods import StreamStream, StreamUnary, UnaryStream, UnaryUnary
from meshsdk.instrument.aio_routing import routing_interceptors
from meshsdk.instrument.fallback import Reason
from meshsdk.instrument.gate import Gate
from meshsdk.instrument.path import Path, Retirement
from meshsdk.instrument.way import Way

if TYPE_CHECKING:
    from typing_extensions import Self

_CLOSED = "Channel is closed."  # grpcio's words
_LOOK = 0.2  # seconds between looks at a path that was left

MakeDirect = Callable[[Sequence[Any] | None], grpc.aio.Channel]  # takes the interceptors


class WovenAioChannel(grpc.aio.Channel):
    """A channel with two ways. It belongs to the loop of its first use, and so do its fields.

    `path` is the way that calls take now (None: ask). `moved` alone comes from other threads: it hops to the loop.
    """

    def __init__(
        self, gate: Gate, direct: MakeDirect, mesh: Callable[[], grpc.aio.Channel], interceptors: Sequence[Any]
    ) -> None:
        """`direct` makes the application's own channel, at once and again if it was left; `mesh` that of the mesh."""
        self.gate = gate
        self.path: Path | None = None
        self._moving = threading.Lock()  # held to compare `path` with the gate's way and change it
        self.intercepted = bool(interceptors)
        self._make: dict[Way, Callable[[], grpc.aio.Channel]] = {Way.DIRECT: lambda: direct(None), Way.MESH: mesh}
        self._interceptors = interceptors
        self._direct = direct
        self._through: grpc.aio.Channel | None = self._routed() if interceptors else None
        self._paths: dict[Way, Path] = {}
        if not interceptors:
            self._paths[Way.DIRECT] = Path(Way.DIRECT, direct(None))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        gate.owned(self)

    # The way of a call

    def enter(self) -> Path | None:
        """Returns the path of a call that cannot wait, None while it should: then it goes `through`."""
        if self._closed:
            raise grpc.aio.UsageError(_CLOSED)
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        way = self.gate.open()
        return None if way is Way.UNDECIDED else self._enter(way)

    async def decided(self, timeout: float | None) -> Path:
        """Returns the path of a call with this timeout, after waiting for the mesh's first word if need be."""
        path = self.enter()
        if path is not None:
            return path
        end = time.monotonic() + self.gate.patience(timeout)
        while self.gate.way is Way.UNDECIDED and (left := end - time.monotonic()) > 0:
            await self.changed(left)
        return self._enter(self.gate.settled())

    async def changed(self, seconds: float | None) -> None:
        """Waits for another way, at most `seconds`."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await asyncio.wait((waiter,), timeout=seconds)
        finally:
            self._waiting.discard(waiter)

    @property
    def through(self) -> grpc.aio.Channel:
        """The channel whose calls find their way by interceptors."""
        if self._closed:
            raise grpc.aio.UsageError(_CLOSED)
        if self._through is None:
            self._through = self._routed()
        return self._through

    def _routed(self) -> grpc.aio.Channel:
        return self._direct([*self._interceptors, *routing_interceptors(self)])

    def _enter(self, way: Way) -> Path:
        if self._closed:
            raise grpc.aio.UsageError(_CLOSED)
        path = self._path(way)
        with self._moving:
            stays = self.gate.way is way
            if stays:
                self.path = path
        if stays:
            for one in self._paths.values():
                if one.channel is path.channel:
                    one.retirement = None
        else:  # the gate has moved on meanwhile: nobody else would leave what this one call takes
            self._leave(path)
        return path

    def _path(self, way: Way) -> Path:
        known = self._paths.get(way)
        if known is not None:
            return known
        if way is Way.FALLBACK:
            channel = self._path(Way.DIRECT).channel
            path = Path(way, channel, lambda: self.gate.fallbacks.count(Reason.NO_CONFIGURATION))
        else:
            try:
                path = Path(way, self._make[way]())
            except Exception as error:  # whatever the engine has: calls must go on
                if way is Way.DIRECT:
                    raise
                self.gate.failed(error)
                return self._path(Way.FALLBACK)
        self._paths[way] = path
        return path

    def detour(self, path: Path, error: Exception) -> Any:
        """The engine raised before anything was sent: returns the direct channel for this one call."""
        if path.way is not Way.MESH or self._closed:
            return None
        if self.gate.way is Way.MESH:
            self.gate.fallbacks.count(Reason.ENGINE)
            self.gate.fallbacks.raised(error)
        return self._path(Way.DIRECT).channel

    # Another way

    def moved(self) -> None:
        """See `gate.Owner`. New calls ask at once; what follows on the loop is only tidying up."""
        with self._moving:
            left, self.path = self.path, None
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            loop.call_soon_threadsafe(self._left, left)
        except RuntimeError:  # closed between the check and the call: nobody is left to tell
            return

    def _left(self, path: Path | None) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        if path is not None and path is not self.path and not self._closed:
            self._leave(path)

    def _leave(self, path: Path) -> None:
        """A fallback is an exception that may end at any moment: neither side of it is closed."""
        if path.way is Way.FALLBACK or self.gate.way is Way.FALLBACK:
            return
        task = asyncio.get_running_loop().create_task(self._retire(path.leave(time.monotonic())))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _retire(self, retirement: Retirement) -> None:
        path = retirement.path
        # Calls come and go without telling anybody.
        while not (retirement.void or retirement.due(time.monotonic())):  # noqa: ASYNC110 - see above
            await asyncio.sleep(_LOOK)
        if retirement.void or self._closed or path.channel not in [one.channel for one in self._paths.values()]:
            return
        for way in [way for way, one in self._paths.items() if one.channel is path.channel]:
            del self._paths[way]
        await path.channel.close()

    def after_fork_in_child(self) -> None:
        """The parent's calls do not run here."""
        self._paths = {way: Path(way, path.channel) for way, path in self._paths.items() if way is not Way.FALLBACK}
        self._moving = threading.Lock()
        self.path = None
        self._loop = None
        self._waiting = set()
        self._tasks = set()

    # grpc.aio.Channel

    def _stub(self, kind: Any, shape: str, arguments: tuple[Any, ...]) -> Any:
        if self.intercepted:
            return getattr(self.through, shape)(*arguments)
        return kind(self, shape, arguments)

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """See `grpc.aio.Channel.unary_unary`."""
        arguments = (method, request_serializer, response_deserializer, _registered_method)
        return self._stub(UnaryUnary, "unary_unary", arguments)

    def unary_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """See `grpc.aio.Channel.unary_stream`."""
        arguments = (method, request_serializer, response_deserializer, _registered_method)
        return self._stub(UnaryStream, "unary_stream", arguments)

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """See `grpc.aio.Channel.stream_unary`."""
        arguments = (method, request_serializer, response_deserializer, _registered_method)
        return self._stub(StreamUnary, "stream_unary", arguments)

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """See `grpc.aio.Channel.stream_stream`."""
        arguments = (method, request_serializer, response_deserializer, _registered_method)
        return self._stub(StreamStream, "stream_stream", arguments)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See `grpc.aio.Channel.get_state`: of the way that calls take; IDLE while it is not known."""
        if self._closed:
            return grpc.ChannelConnectivity.SHUTDOWN
        path = self.path
        if path is None and try_to_connect:
            path = self.enter()
        return grpc.ChannelConnectivity.IDLE if path is None else path.channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See `grpc.aio.Channel.wait_for_state_change`."""
        path = await self.decided(None)
        while self.get_state() is last_observed_state:
            moves = asyncio.ensure_future(self.changed(None))
            changes = asyncio.ensure_future(path.channel.wait_for_state_change(last_observed_state))
            try:
                await asyncio.wait((moves, changes), return_when=asyncio.FIRST_COMPLETED)
            finally:
                moves.cancel()
                changes.cancel()
            path = await self.decided(None)

    async def channel_ready(self) -> None:
        """See `grpc.aio.Channel.channel_ready`."""
        await self.decided(None)
        while (state := self.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            await self.wait_for_state_change(state)

    async def close(self, grace: float | None = None) -> None:
        """Closes both ways; running calls have `grace` seconds."""
        if self._closed:
            return
        self._closed = True
        self.path = None
        self.gate.close()
        channels = [path.channel for path in self._paths.values() if path.way is not Way.FALLBACK]
        if self._through is not None:
            await self._through.close(grace)
            grace = None
        await asyncio.gather(*(channel.close(grace) for channel in channels))
        for task in self._tasks:
            task.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
