"""The asyncio scope: links over `grpc.aio.Channel`, a monitor of loop timers, and calls that wait on futures.

One scope per event loop, because a grpc.aio channel belongs to the loop it was made in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from meshsdk.channel.load_asking import Asked, aask_all
from meshsdk.channel.pool import endpoint_target
from meshsdk.channel.scope import Scope, Source
from meshsdk.channel.stack import Target
from meshsdk.channel.threads import Options, endpoint_options
from meshsdk.lb.backend import Connectivity
from meshsdk.model.resources import Locality
from meshsdk.model.snapshot import Snapshot, Unresolvable

if TYPE_CHECKING:
    from meshsdk.channel.rate_limit_client import LoopRateLimitClient

_STATES = {
    grpc.ChannelConnectivity.IDLE: Connectivity.IDLE,
    grpc.ChannelConnectivity.CONNECTING: Connectivity.CONNECTING,
    grpc.ChannelConnectivity.READY: Connectivity.READY,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE: Connectivity.FAILED,
    grpc.ChannelConnectivity.SHUTDOWN: Connectivity.FAILED,
}


class AioLink:
    """A `grpc.aio.Channel` to one address."""

    def __init__(
        self, channel: grpc.aio.Channel, loop: asyncio.AbstractEventLoop, on_close: Callable[[asyncio.Task[None]], None]
    ) -> None:
        """Takes ownership of the channel; `loop` is the one it was made in; `on_close` keeps the closing task."""
        self.channel = channel
        self._loop = loop
        self._on_close = on_close
        get_state, ready = channel.get_state, grpc.ChannelConnectivity.READY
        self.ready: Callable[[], bool] = lambda: get_state() is ready

    def probe(self) -> Connectivity:
        """Tells the state now; wakes an idle channel."""
        return _STATES[self.channel.get_state(try_to_connect=True)]

    def close(self) -> None:
        """Closes the channel, in a task of the loop: grpc.aio has no other way."""
        if not self._loop.is_closed():
            self._on_close(self._loop.create_task(self.channel.close()))


class LoopScope(Scope):
    """The scope of one event loop. Everything runs on the loop; only `_deliver` comes from the client's thread."""

    def __init__(
        self, source: Source, local: Locality, seed: int, credentials: grpc.ChannelCredentials | None, options: Options
    ) -> None:
        """Made on the running loop, which it belongs to. `credentials` None: plaintext."""
        self.loop = loop = asyncio.get_running_loop()

        def dial(address: str, authority: str) -> AioLink:
            arguments = endpoint_options(authority, options)
            where = endpoint_target(address)
            if credentials is None:
                return AioLink(grpc.aio.insecure_channel(where, arguments), loop, self._keep)
            return AioLink(grpc.aio.secure_channel(where, credentials, arguments), loop, self._keep)

        super().__init__(source, dial, local, seed)
        self.rate_limits: LoopRateLimitClient | None = None  # set once by the mesh, before any target is opened
        self._waiting: set[asyncio.Future[None]] = set()
        self._timer: asyncio.Handle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def open(self, name: str, authority: str) -> Target:
        """See `Scope.open`; starts to look."""
        target = super().open(name, authority)
        if self._timer is None:
            self.hurry()
        return target

    async def closed(self) -> None:
        """Waits until every connection that was closed so far is gone."""
        if self._closing:
            await asyncio.wait(tuple(self._closing))

    def _keep(self, closing: asyncio.Task[None]) -> None:
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def wait(self, seconds: float | None) -> None:
        """Waits for the next change of any target, at most `seconds`."""
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._waiting.add(waiter)
        try:
            await asyncio.wait((waiter,), timeout=seconds)
        finally:
            self._waiting.discard(waiter)

    def hurry(self) -> None:
        """A call waits: look again now, and quickly from here on."""
        self._hurry()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_soon(self._look)

    def close(self) -> None:
        """See `Scope.close`. On the loop."""
        if self._timer is not None:
            self._timer.cancel()
        if self.rate_limits is not None:
            self._keep(self.loop.create_task(self.rate_limits.close()))
        super().close()

    def close_from_any_thread(self) -> None:
        """Closes on the loop; a loop that no longer runs has nothing to close."""
        if self.loop.is_running():
            self.loop.call_soon_threadsafe(self.close)
        else:
            self.abandon()

    def abandon(self) -> None:
        """The loop is gone: stops watching; its connections went with it."""
        with self.lock:
            for watched in self._watched.values():
                watched.watch.cancel()
            self._watched.clear()
            self.pool.abandon()

    def _look(self) -> None:
        self._timer = self.loop.call_later(self.look(), self._look)

    def _ask(self, asked: Sequence[Asked], period: float) -> bool:
        self._keep(self.loop.create_task(aask_all(asked, period)))
        return True

    def _deliver(self, target: Target, resolution: Snapshot | Unresolvable) -> None:
        if self.loop.is_closed():
            return

        def adopt() -> None:
            target.adopt(resolution)
            self.hurry()

        try:
            self.loop.call_soon_threadsafe(adopt)
        except RuntimeError:  # closed between the check and the call: nobody is left to tell
            return

    def _changed(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
