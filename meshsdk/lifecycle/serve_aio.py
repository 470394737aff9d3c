"""`meshsdk.aio.serve`: puts a `grpc.aio.server` online and takes it offline without losing a call.

The shell of `drain` for asyncio: one task sleeps until someone asks (a signal, `drain`, `stop`), then looks, sleeps and
acts as `going_offline` says. It decides nothing; the registry is talked to by the keeper's thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import final

import grpc.aio

from meshsdk.bootstrap import Bootstrap
from meshsdk.discovery.registry import Registry
from meshsdk.errors import LifecycleError
from meshsdk.lifecycle import signals
from meshsdk.lifecycle.drain import Drain, DrainTiming, Stop
from meshsdk.lifecycle.health_aio import health_handler
from meshsdk.lifecycle.offer import Identity, Sources, make_offer
from meshsdk.lifecycle.presence import Asked, Presence, going_offline
from meshsdk.lifecycle.serve_sync import LEASE_SECONDS
from meshsdk.lifecycle.server_parts import aio_parts
from meshsdk.model.instance import Instance, InstanceState

_LOG = logging.getLogger("meshsdk.lifecycle")
_HOUR = 3600.0


def serve(  # noqa: PLR0913 - the public entry: everything but the server is given by name
    server: grpc.aio.Server,
    *,
    app: str,
    address: str,
    metadata: Mapping[str, str] | None = None,
    unit: str = "",
    zone: str = "",
    weight: int = 1,
    drain: DrainTiming | None = None,
    handle_signals: bool = True,
    bootstrap: Bootstrap | None = None,
    registry: Registry | None = None,
    services: Mapping[str, object] | None = None,
    interceptors: Iterable[object] = (),
) -> AioService:
    """Makes the service of `server`, to be entered by `async with`; `await service.wait()` inside.

    Entering adds `grpc.health.v1`, starts the server (unless it is) and registers it as an instance of `app`; leaving
    drains. The arguments and the drain are those of `meshsdk.serve`.

    Raises ConfigurationError for arguments that cannot be used.
    """
    identity = Identity(app, address, metadata, unit, zone, weight)
    offer = make_offer(identity, aio_parts(server), Sources(bootstrap, registry, services, interceptors))
    return AioService(server, Presence(offer, LEASE_SECONDS), drain or DrainTiming(), handle_signals=handle_signals)


@final
class AioService:
    """A served `grpc.aio.server`. Made by `serve`; everything happens on the loop that enters it."""

    def __init__(
        self, server: grpc.aio.Server, presence: Presence, timing: DrainTiming, *, handle_signals: bool
    ) -> None:
        self._server = server
        self._presence = presence
        self._drain = Drain(timing)
        self._handle_signals = handle_signals
        self._requests: deque[Asked] = deque()
        self._news = asyncio.Event()
        self._unlisten: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def instance(self) -> Instance:
        """The instance as it was first registered."""
        return self._presence.instance

    @property
    def state(self) -> InstanceState | None:
        """The state that the registry holds; None while it holds nothing (not registered yet, or it is away)."""
        return self._presence.state

    async def wait_online(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for the registry to hold the instance ONLINE; returns whether it does."""
        return await asyncio.to_thread(self._presence.wait_online, timeout)

    async def wait(self) -> None:
        """Waits until the service has drained and stopped. Cancelling the wait changes nothing."""
        await asyncio.shield(self._running())

    async def drain(self, *, wait: bool = True) -> None:
        """Takes the service offline without losing a call and, unless `wait` is False, waits until it has stopped."""
        self._ask(Asked.DRAIN)
        if wait:
            await self.wait()

    async def stop(self) -> None:
        """Deregisters and stops at once: calls in flight are cancelled."""
        self._ask(Asked.STOP)
        await self.wait()

    async def __aenter__(self) -> AioService:
        if self._task is not None:
            raise LifecycleError("a service is entered once; call serve() again for another server")
        if self._presence.has_own_health:
            self._server.add_generic_rpc_handlers((health_handler(self._presence.health),))
        if self._handle_signals:
            self._unlisten = self._listen(asyncio.get_running_loop())
        try:
            self._presence.start()
            await self._server.start()
        except BaseException:
            self._presence.close()
            self._end_listening()
            raise
        self._presence.health.set_serving(serving=True)
        self._presence.online()
        self._task = asyncio.create_task(self._run(), name=f"meshsdk-drain-{self.instance.app}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.drain()

    def _running(self) -> asyncio.Task[None]:
        if self._task is None:
            raise LifecycleError("the service has not started: enter it first (`async with meshsdk.aio.serve(...)`)")
        return self._task

    def _ask(self, what: Asked) -> None:
        self._requests.append(what)
        self._news.set()

    async def _run(self) -> None:
        terminated = asyncio.ensure_future(self._terminated())
        try:
            await self._serve(terminated)
        except Exception:  # noqa: BLE001 - whatever it was, the server must not stay up half offline
            _LOG.exception("%s: the drain failed; stopping the server", self.instance.app)
            await self._server.stop(None)
        finally:
            terminated.cancel()
            self._end_listening()
            await asyncio.to_thread(self._presence.close)

    async def _serve(self, terminated: asyncio.Future[None]) -> None:
        terminated.add_done_callback(lambda _done: self._news.set())
        asked = await self._next(None)
        if asked in (Asked.STOP, None):  # None: someone else stopped the server, so there is nothing to wait for
            self._drain.hurry()
        steps = going_offline(self._drain, self._presence, time.monotonic)
        decision = next(steps)
        self._presence.health.set_serving(serving=False)
        while not isinstance(decision, Stop):
            decision = steps.send(await self._next(max(0.0, decision.at - time.monotonic())))
        self._presence.health.end()
        await self._server.stop(decision.grace)

    async def _terminated(self) -> None:
        # With a timeout: without one, cancelling this would cancel grpc.aio's own future of the shutdown.
        while await self._server.wait_for_termination(timeout=_HOUR):
            pass

    async def _next(self, timeout: float | None) -> Asked | None:
        if not self._requests:
            self._news.clear()
            waiting = asyncio.ensure_future(self._news.wait())
            await asyncio.wait({waiting}, timeout=timeout)
            waiting.cancel()
        return self._requests.popleft() if self._requests else None

    def _listen(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None] | None:
        def listener() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._ask, Asked.SIGNAL)

        return signals.listen_if_possible(listener)

    def _end_listening(self) -> None:
        if self._unlisten is not None:
            self._unlisten()
