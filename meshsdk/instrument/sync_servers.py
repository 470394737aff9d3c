"""`grpc.server` of a woven program: counted and registered without the program knowing.

Made by `weaving` in place of `grpc.server`. It is the program's own server with the mesh's interceptor first, entered
into the registry when the program starts it, and taken out before the program stops it.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import wrapt

from meshsdk.engine import start_telemetry
from meshsdk.errors import MeshError
from meshsdk.instrument import weaving
from meshsdk.instrument.enrolment import DESK, LABEL, OFF, Enrolment
from meshsdk.instrument.instance import Bound
from meshsdk.instrument.termination import TERMINATION
from meshsdk.instrument.unmarked import UnmarkedActivity
from meshsdk.interceptors.server_sync import ActivityInterceptor, server_interceptors
from meshsdk.lifecycle.server_parts import activity_of

if TYPE_CHECKING:
    from meshsdk.lifecycle.service import Service

_LOG = logging.getLogger("meshsdk.instrument")
LEAVING = 25.0  # seconds; a drain takes 15 at most, and telling a registry that does not answer a few more


class SwitchedInterceptor(grpc.ServerInterceptor):
    """The interceptor of meshsdk; while interception is off it only counts, so that a drain waits for those calls too.

    `on` is published by one assignment; a call that reads it late is served as before.
    """

    def __init__(self, inner: ActivityInterceptor, *, on: bool) -> None:
        self.activity = inner.activity  # where `serve` looks for it
        self.on = on
        self._inner = inner
        self._counting = ActivityInterceptor(UnmarkedActivity(inner.activity))

    def intercept_service(self, continuation: Callable[..., Any], handler_call_details: Any) -> Any:
        """See grpc.ServerInterceptor."""
        chosen = self._inner if self.on else self._counting
        return chosen.intercept_service(continuation, handler_call_details)


_NAMES = ("thread_pool", "handlers", "interceptors", "options", "maximum_concurrent_rpcs", "compression", "xds")


def make(wrapped: Callable[..., grpc.Server], _instance: Any, args: Any, kwargs: Any) -> Any:
    """Makes the server. One that has the mesh's interceptors already is served by the program itself."""
    given = {**dict(zip(_NAMES, args, strict=False)), **kwargs}
    own = tuple(given.get("interceptors") or ())
    if len(args) > len(_NAMES) or given.get("xds") or activity_of(own) is not None:
        return wrapped(*args, **kwargs)
    start_telemetry()
    made = server_interceptors()
    inner = next(one for one in made if isinstance(one, ActivityInterceptor))
    first = SwitchedInterceptor(inner, on=weaving.switch().traffic.server)
    return WovenServer(
        wrapped(**{**given, "interceptors": [first, *(one for one in made if one is not inner), *own]}), first
    )


class _Held:
    """The server as `serve` has it: `stop` takes it offline only, ending it is the program's business."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def stop(self, grace: float | None) -> threading.Event:  # noqa: ARG002 - grpc.Server's signature
        """Stops nothing."""
        stopped = threading.Event()
        stopped.set()
        return stopped


class WovenServer(wrapt.ObjectProxy):  # type: ignore[type-arg]  # subscriptable in stubs only
    """A `grpc.server` that is registered while it runs.

    Thread rules: `_self_service` is set by `start` and cleared by whoever takes the server offline, under `_self_lock`.
    """

    def __init__(self, server: Any, interceptor: SwitchedInterceptor) -> None:
        super().__init__(server)
        self._self_interceptor = interceptor
        self._self_bound: list[Bound] = []
        self._self_service: Service | None = None
        self._self_lock = threading.Lock()
        self._self_turning = threading.Lock()

    def add_insecure_port(self, address: str) -> int:
        """See grpc.Server."""
        return self._self_note(address, self.__wrapped__.add_insecure_port(address))

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """See grpc.Server."""
        return self._self_note(address, self.__wrapped__.add_secure_port(address, server_credentials))

    def start(self) -> None:
        """See grpc.Server; the server is registered as soon as it takes calls."""
        caller = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001 - see below
        enrolment = None
        if not caller.startswith("meshsdk."):  # the program's own `meshsdk.serve` registers by itself
            enrolment = DESK.enrol(self._self_bound)
        if enrolment is None:
            self.__wrapped__.start()
            return
        try:
            self._self_online(enrolment)
        except MeshError as error:
            DESK.release()
            _LOG.warning("%s: this server is not registered: %s", enrolment.app, error)
            self.__wrapped__.start()

    def stop(self, grace: float | None) -> threading.Event:
        """See grpc.Server; within `grace` the server goes offline first, and calls that still come are served."""
        service = self._self_leaving()
        if service is None:
            stopped: threading.Event = self.__wrapped__.stop(grace)
            return stopped
        over = threading.Event()
        if not grace:
            self.__wrapped__.stop(grace)
        action = threading.Thread(target=self._self_stop, args=(service, grace, over), name="meshsdk-stop", daemon=True)
        action.start()
        return over

    def leave(self) -> None:
        """See `termination.Leaves`."""
        service = self._self_leaving()
        if service is not None:
            service.drain(wait=False)
            service.wait(LEAVING)

    def poke(self) -> None:
        """See `termination.Leaves`: the server waits on no loop."""

    def _self_note(self, address: str, port: int) -> int:
        self._self_bound.append(Bound(address, port))
        return port

    def _self_online(self, enrolment: Enrolment) -> None:
        from meshsdk.lifecycle.serve_sync import serve  # noqa: PLC0415 - a client does not pay for the server side

        interceptor = self._self_interceptor
        interceptor.on = enrolment.intercepted
        service = serve(_Held(self.__wrapped__), interceptors=(interceptor,), **enrolment.arguments())  # type: ignore[arg-type]  # a server but for `stop`
        with self._self_lock:
            self._self_service = service
        TERMINATION.add(self)
        weaving.switch().listen(self._self_switched)
        self._self_switched()

    def _self_leaving(self) -> Service | None:
        """Hands the service out once, to whoever takes it offline."""
        with self._self_lock:
            service, self._self_service = self._self_service, None
        if service is not None:
            TERMINATION.remove(self)
            DESK.release()
        return service

    def _self_stop(self, service: Service, grace: float | None, over: threading.Event) -> None:
        began = time.monotonic()
        try:
            if grace:
                service.drain(wait=False)
                service.wait(grace)
                left = max(0.0, grace - (time.monotonic() - began))
                self.__wrapped__.stop(left).wait()
            else:
                service.stop()
        finally:
            over.set()

    def _self_switched(self) -> None:
        """The switch has another state: turns in the background, for that takes as long as a drain."""
        if self._self_interceptor.on is not weaving.switch().traffic.server:
            threading.Thread(target=self._self_turn, name="meshsdk-interception", daemon=True).start()

    def _self_turn(self) -> None:
        with self._self_turning:
            while (on := weaving.switch().traffic.server) is not self._self_interceptor.on:
                service = self._self_service
                if service is None:
                    return
                try:
                    service.cycle(functools.partial(self._self_set, on=on), {LABEL: None if on else OFF})
                except MeshError as error:  # it goes offline for good meanwhile
                    _LOG.info("interception stays as it is: %s", error)
                    return

    def _self_set(self, *, on: bool) -> None:
        self._self_interceptor.on = on
