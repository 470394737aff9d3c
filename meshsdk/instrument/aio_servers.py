"""`grpc.aio.server` of a woven program: counted and registered without the program knowing; see `sync_servers`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc.aio
import wrapt

from meshsdk.engine import start_telemetry
from meshsdk.errors import MeshError
from meshsdk.instrument import weaving
from meshsdk.instrument.enrolment import DESK, LABEL, OFF, Enrolment
from meshsdk.instrument.instance import Bound
from meshsdk.instrument.sync_servers import LEAVING
from meshsdk.instrument.termination import TERMINATION
from meshsdk.instrument.unmarked import UnmarkedActivity
from meshsdk.interceptors.server_aio import ActivityInterceptor, server_interceptors
from meshsdk.lifecycle.server_parts import activity_of

if TYPE_CHECKING:
    from meshsdk.lifecycle.serve_aio import AioService

_LOG = logging.getLogger("meshsdk.instrument")
_NAMES = ("migration_thread_pool", "handlers", "interceptors", "options", "maximum_concurrent_rpcs", "compression")


class SwitchedInterceptor(grpc.aio.ServerInterceptor):
    """The interceptor of meshsdk; while interception is off it only counts, so that a drain waits for those calls too.

    `on` is published by one assignment; a call that reads it late is served as before.
    """

    def __init__(self, inner: ActivityInterceptor, *, on: bool) -> None:
        self.activity = inner.activity  # where `serve` looks for it
        self.on = on
        self._inner = inner
        self._counting = ActivityInterceptor(UnmarkedActivity(inner.activity))

    async def intercept_service(self, continuation: Callable[..., Any], handler_call_details: Any) -> Any:
        """See grpc.aio.ServerInterceptor."""
        chosen = self._inner if self.on else self._counting
        return await chosen.intercept_service(continuation, handler_call_details)


def make(wrapped: Callable[..., grpc.aio.Server], _instance: Any, args: Any, kwargs: Any) -> Any:
    """Makes the server. One that has the mesh's interceptors already is served by the program itself."""
    given = {**dict(zip(_NAMES, args, strict=False)), **kwargs}
    own = tuple(given.get("interceptors") or ())
    if len(args) > len(_NAMES) or activity_of(own) is not None:
        return wrapped(*args, **kwargs)
    start_telemetry()
    made = server_interceptors()
    inner = next(one for one in made if isinstance(one, ActivityInterceptor))
    first = SwitchedInterceptor(inner, on=weaving.switch().traffic.server)
    return WovenAioServer(
        wrapped(**{**given, "interceptors": [first, *(one for one in made if one is not inner), *own]}), first
    )


class _Held:
    """The server as `serve` has it: `stop` takes it offline only, ending it is the program's business."""

    def __init__(self, server: Any) -> None:
        self._held = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._held, name)

    async def stop(self, grace: float | None) -> None:
        """Stops nothing."""


class WovenAioServer(wrapt.ObjectProxy):  # type: ignore[type-arg]  # subscriptable in stubs only
    """A `grpc.aio.server` that is registered while it runs. All fields belong to the loop that starts it."""

    def __init__(self, server: Any, interceptor: SwitchedInterceptor) -> None:
        super().__init__(server)
        self._self_interceptor = interceptor
        self._self_bound: list[Bound] = []
        self._self_service: AioService | None = None
        self._self_loop: asyncio.AbstractEventLoop | None = None
        self._self_turning: asyncio.Task[None] | None = None

    def add_insecure_port(self, address: str) -> int:
        """See grpc.aio.Server."""
        return self._self_note(address, self.__wrapped__.add_insecure_port(address))

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """See grpc.aio.Server."""
        return self._self_note(address, self.__wrapped__.add_secure_port(address, server_credentials))

    async def start(self) -> None:
        """See grpc.aio.Server; the server is registered as soon as it takes calls."""
        # While a coroutine runs, the frame below is that of whoever awaits it; a task's is asyncio's own.
        caller = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001 - see above
        enrolment = None
        if not caller.startswith("meshsdk."):  # the program's own `meshsdk.aio.serve` registers by itself
            enrolment = DESK.enrol(self._self_bound)
        if enrolment is None:
            await self.__wrapped__.start()
            return
        try:
            await self._self_online(enrolment)
        except MeshError as error:
            DESK.release()
            _LOG.warning("%s: this server is not registered: %s", enrolment.app, error)
            await self.__wrapped__.start()

    async def stop(self, grace: float | None) -> None:
        """See grpc.aio.Server; within `grace` the server goes offline first, and calls that still come are served."""
        service = self._self_leaving()
        if service is None:
            await self.__wrapped__.stop(grace)
            return
        if not grace:
            await self.__wrapped__.stop(grace)
            await service.stop()
            return
        began = time.monotonic()
        await service.drain(wait=False)
        await asyncio.wait({asyncio.ensure_future(service.wait())}, timeout=grace)
        await self.__wrapped__.stop(max(0.0, grace - (time.monotonic() - began)))

    def leave(self) -> None:
        """See `termination.Leaves`; called on another thread than the loop's."""
        loop = self._self_loop
        if loop is not None and loop.is_running():
            asyncio.run_coroutine_threadsafe(self._self_leave(), loop).result(LEAVING)

    def poke(self) -> None:
        """See `termination.Leaves`."""
        loop = self._self_loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(lambda: None)

    async def _self_leave(self) -> None:
        service = self._self_leaving()
        if service is not None:
            await service.drain()

    def _self_note(self, address: str, port: int) -> int:
        self._self_bound.append(Bound(address, port))
        return port

    async def _self_online(self, enrolment: Enrolment) -> None:
        from meshsdk.lifecycle.serve_aio import serve  # noqa: PLC0415 - a client does not pay for the server side

        interceptor = self._self_interceptor
        interceptor.on = enrolment.intercepted
        self._self_loop = asyncio.get_running_loop()
        service = serve(_Held(self.__wrapped__), interceptors=(interceptor,), **enrolment.arguments())  # type: ignore[arg-type]  # a server but for `stop`
        await service.__aenter__()
        self._self_service = service
        TERMINATION.add(self)
        weaving.switch().listen(self._self_switched)
        self._self_turn_if_needed()

    def _self_leaving(self) -> AioService | None:
        """Hands the service out once, to whoever takes it offline."""
        service, self._self_service = self._self_service, None
        if service is not None:
            TERMINATION.remove(self)
            DESK.release()
        return service

    def _self_switched(self) -> None:
        """The switch has another state. Called on any thread."""
        loop = self._self_loop
        if loop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(self._self_turn_if_needed)
            except RuntimeError:  # closed between the check and the call
                return

    def _self_turn_if_needed(self) -> None:
        if self._self_turning is None or self._self_turning.done():
            self._self_turning = asyncio.get_running_loop().create_task(self._self_turn())

    async def _self_turn(self) -> None:
        while (on := weaving.switch().traffic.server) is not self._self_interceptor.on:
            service = self._self_service
            if service is None:
                return
            try:
                await service.cycle(functools.partial(self._self_set, on=on), {LABEL: None if on else OFF})
            except MeshError as error:  # it goes offline for good meanwhile
                _LOG.info("interception stays as it is: %s", error)
                return

    def _self_set(self, *, on: bool) -> None:
        self._self_interceptor.on = on
