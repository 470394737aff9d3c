"""`meshsdk.aio.serve`: puts a `grpc.aio.server` online and takes it offline without losing a call.

The shell of `course` for asyncio: one task sleeps until someone asks (a signal, `drain`, `stop`, `ready`, `cycle`) and
does as the course says. It decides nothing; the registry is talked to by the keeper's thread.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, final

import grpc.aio

from meshsdk.bootstrap import Bootstrap
from meshsdk.discovery.registry import Registry
from meshsdk.errors import LifecycleError
from meshsdk.lifecycle import signals
from meshsdk.lifecycle.course import Ask, Asked, Course, Perform, Step
from meshsdk.lifecycle.cycle import make_cycle
from meshsdk.lifecycle.drain import Look, Stop
from meshsdk.lifecycle.health_aio import health_handler
from meshsdk.lifecycle.local_access import LocalAccess
from meshsdk.lifecycle.offer import Identity, Sources, make_offer
from meshsdk.lifecycle.plan import Plan, PlanOptions, make_plan
from meshsdk.lifecycle.presence import Presence
from meshsdk.lifecycle.same_port import leave_shared_port
from meshsdk.lifecycle.serve_sync import LEASE_SECONDS
from meshsdk.lifecycle.server_parts import aio_parts
from meshsdk.model.instance import Instance, InstanceState

if TYPE_CHECKING:
    from typing_extensions import Unpack

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
    bootstrap: Bootstrap | None = None,
    registry: Registry | None = None,
    services: Mapping[str, object] | None = None,
    interceptors: Iterable[object] = (),
    **options: Unpack[PlanOptions],
) -> AioService:
    """Makes the service of `server`, to be entered by `async with`; `await service.wait()` inside.

    Entering adds `grpc.health.v1`, starts the server (unless it is) and registers it as an instance of `app`; leaving
    drains. The arguments and the drain are those of `meshsdk.serve`.

    Raises ConfigurationError for arguments that cannot be used.
    """
    identity = Identity(app, address, metadata, unit, zone, weight)
    plan = make_plan(options)
    offer = make_offer(identity, aio_parts(server), Sources(bootstrap, registry, services, interceptors))
    return AioService(server, Presence(offer, LEASE_SECONDS), plan)


@final
class AioService:
    """A served `grpc.aio.server`. Made by `serve`; everything happens on the loop that enters it."""

    def __init__(self, server: grpc.aio.Server, presence: Presence, plan: Plan) -> None:
        self._server = server
        self._presence = presence
        self._readiness = plan.readiness
        self._handle_signals = plan.handle_signals
        self._health_port = plan.health_port
        self._course = Course(presence, plan, time.monotonic, self._step_aside)
        self._access = LocalAccess(self._course.report, self._offline_from_outside)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._steps = self._course.run()
        self._requests: deque[Ask] = deque()
        self._news = asyncio.Event()
        self._unlisten: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._changing: asyncio.Task[BaseException | None] | None = None  # the change of a cycle, while one runs

    @property
    def instance(self) -> Instance:
        """The instance as it was first registered."""
        return self._presence.instance

    @property
    def state(self) -> InstanceState | None:
        """The state that the registry holds; None while it holds nothing (not registered yet, or it is away)."""
        return self._presence.state

    def ready(self) -> None:
        """Says that the application is ready, which `serve(ready=False)` waits for. On the loop; once is enough."""
        self._readiness.say()
        self._ask(Asked.LOOK)

    async def wait_online(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for the registry to hold the instance ONLINE; returns whether it does."""
        return await asyncio.to_thread(self._presence.wait_online, timeout)

    async def wait(self) -> None:
        """Waits until the service has drained and stopped. Cancelling the wait changes nothing.

        Raises LifecycleError when it stopped because what it depends on was not resolved in time.
        """
        await asyncio.shield(self._running())
        if self._course.problem:
            raise LifecycleError(f"{self.instance.app}: {self._course.problem}")

    async def drain(self, *, wait: bool = True) -> None:
        """Takes the service offline without losing a call and, unless `wait` is False, waits until it has stopped."""
        self._ask(Asked.DRAIN)
        if wait:
            await asyncio.shield(self._running())

    async def stop(self) -> None:
        """Deregisters and stops at once: calls in flight are cancelled."""
        self._ask(Asked.STOP)
        await asyncio.shield(self._running())

    def offline(self) -> None:
        """Goes offline as `drain` does, and keeps the server running until it is asked for its end. Does not wait."""
        self._ask(Asked.OFFLINE)

    @property
    def health_address(self) -> str | None:
        """`host:port` of /readyz and /livez, None without `health_port`."""
        return self._access.probe_address

    async def cycle(self, change: Callable[[], object], labels: Mapping[str, str | None] | None = None) -> bool:
        """Goes offline, calls `change` (awaits what it returns, if it can be), and goes online with `labels` changed.

        As `Service.cycle`: `change` runs in a task of its own. Cancelling the wait changes nothing.
        """
        task = self._running()
        if asyncio.current_task() in (task, self._changing):
            raise LifecycleError("cycle() inside the change of a cycle would wait for itself")
        cycle = make_cycle(change, labels, self.instance)
        self._ask(cycle)
        result = asyncio.wrap_future(cycle.result)
        both: set[asyncio.Future[Any]] = {result, task}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise LifecycleError(f"{self.instance.app}: the service has stopped")
        return result.result()

    async def __aenter__(self) -> AioService:
        if self._task is not None:
            raise LifecycleError("a service is entered once; call serve() again for another server")
        if self._presence.has_own_health:
            self._server.add_generic_rpc_handlers((health_handler(self._presence.health),))
        self._loop = asyncio.get_running_loop()
        if self._handle_signals:
            self._unlisten = signals.listen_if_possible(lambda: self._ask_from_outside(Asked.SIGNAL), holds=True)
        try:
            self._access.open(self._health_port)
            self._readiness.start(lambda: self._ask_from_outside(Asked.LOOK))
            self._presence.start()
            await self._server.start()
        except BaseException:
            self._close()
            raise
        step = await self._act(next(self._steps))
        self._task = asyncio.create_task(self._run(step), name=f"meshsdk-drain-{self.instance.app}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.drain()

    def _running(self) -> asyncio.Task[None]:
        if self._task is None:
            raise LifecycleError("the service has not started: enter it first (`async with meshsdk.aio.serve(...)`)")
        return self._task

    def _ask(self, what: Ask) -> None:
        self._requests.append(what)
        self._news.set()

    def _ask_from_outside(self, what: Ask) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ask, what)

    def _step_aside(self) -> object:
        return asyncio.to_thread(leave_shared_port, self.instance.address)

    def _offline_from_outside(self) -> None:
        self._ask_from_outside(Asked.OFFLINE)

    async def _run(self, step: Look | Stop) -> None:
        terminated = asyncio.ensure_future(self._terminated())
        terminated.add_done_callback(lambda _done: self._ask(Asked.ENDED))
        try:
            while isinstance(step, Look):
                step = await self._act(self._steps.send(await self._next(step.at)))
            self._presence.health.end()
            await self._server.stop(step.grace)
        except Exception:  # noqa: BLE001 - whatever it was, the server must not stay up half offline
            _LOG.exception("%s: the drain failed; stopping the server", self.instance.app)
            await self._server.stop(None)
        finally:
            terminated.cancel()
            await asyncio.to_thread(self._close)

    async def _act(self, step: Step) -> Look | Stop:
        """Does what the course says, up to its next wait."""
        while not isinstance(step, Look | Stop):
            if isinstance(step, Perform):
                step = self._steps.send(await self._perform(step.change))
            else:
                self._presence.health.set_serving(serving=step.serving)
                self._presence.health.tell()
                step = self._steps.send(None)
        return step

    async def _perform(self, change: Callable[[], object]) -> BaseException | None:
        """Calls in a task of its own: a CancelledError of the change is told from one of the service's task."""
        changing = self._changing = asyncio.create_task(_outcome(change))
        try:
            await asyncio.wait({changing})
            return changing.result() if not changing.cancelled() else asyncio.CancelledError()
        finally:
            changing.cancel()
            self._changing = None

    async def _terminated(self) -> None:
        # With a timeout: without one, cancelling this would cancel grpc.aio's own future of the shutdown.
        while await self._server.wait_for_termination(timeout=_HOUR):
            pass

    async def _next(self, at: float) -> Ask | None:
        """Waits until something is asked or the time is `at` (monotonic)."""
        if not self._requests:
            self._news.clear()
            waiting = asyncio.ensure_future(self._news.wait())
            await asyncio.wait({waiting}, timeout=None if math.isinf(at) else max(0.0, at - time.monotonic()))
            waiting.cancel()
        return self._requests.popleft() if self._requests else None

    def _close(self) -> None:
        self._access.close()
        self._readiness.close()
        self._presence.close()
        if self._unlisten is not None:
            self._unlisten()


async def _outcome(change: Callable[[], object]) -> BaseException | None:
    try:
        result = change()
        if inspect.isawaitable(result):
            await result
    except BaseException as error:  # noqa: BLE001 - it is the caller of `cycle` who is told; the service goes on
        return error
    return None
