"""`meshsdk.serve`: puts a `grpc.server` online and takes it offline without losing a call.

The shell of `drain` for threads: one thread sleeps until someone asks (a signal, `drain`, `stop`), then looks, sleeps
and acts as `going_offline` says. It decides nothing.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import final

import grpc

from meshsdk.bootstrap import Bootstrap
from meshsdk.discovery.registry import Registry
from meshsdk.lifecycle import signals
from meshsdk.lifecycle.drain import Drain, DrainTiming, Stop
from meshsdk.lifecycle.health_sync import health_handler
from meshsdk.lifecycle.offer import Identity, Sources, make_offer
from meshsdk.lifecycle.presence import Asked, Presence, going_offline
from meshsdk.lifecycle.server_parts import sync_parts
from meshsdk.model.instance import Instance, InstanceState

_LOG = logging.getLogger("meshsdk.lifecycle")
_GLANCE = 1.0  # seconds between looks at whether someone else stopped the server
_OVERTIME = 5.0  # seconds past its grace that a stopping server may take

LEASE_SECONDS = 15.0  # a killed instance is gone from the registry after this


def serve(  # noqa: PLR0913 - the public entry: everything but the server is given by name
    server: grpc.Server,
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
) -> Service:
    """Adds `grpc.health.v1`, starts `server` (unless it is), and registers it as an instance of `app`.

    Call it when the server's own services are added. `address` is `host:port` as peers dial it (a name is resolved
    once, here); binding is the server's. `metadata` are the instance's labels (text for text), over those of the
    bootstrap's node. The registry is the one given, else the bootstrap's (given, or named by the environment); a
    registry that is away holds nothing up.

    On SIGTERM or SIGINT, and on `drain()`: DRAINING in the registry, `meshsdk-draining` in trailing metadata, a wait
    for quiet, deregistration, stop (`DrainTiming`; at most about 15 s). A second signal stops at once. Handlers
    that were there before are called too.

    `services` and `interceptors` are for servers whose own list cannot be read; see the error that asks for them.
    Raises ConfigurationError for arguments that cannot be used, before anything is started.
    """
    identity = Identity(app, address, metadata, unit, zone, weight)
    offer = make_offer(identity, sync_parts(server), Sources(bootstrap, registry, services, interceptors))
    service = Service(server, Presence(offer, LEASE_SECONDS), drain or DrainTiming())
    service._start(handle_signals=handle_signals)  # noqa: SLF001 - made here only
    return service


@final
class Service:
    """A served `grpc.server`. Made by `serve`; a context manager that drains at its end."""

    def __init__(self, server: grpc.Server, presence: Presence, timing: DrainTiming) -> None:
        self._server = server
        self._presence = presence
        self._drain = Drain(timing)  # owned by the thread
        self._asked: queue.SimpleQueue[Asked] = queue.SimpleQueue()  # put() may interrupt itself: fit for signals
        self._over = threading.Event()
        self._unlisten: Callable[[], None] | None = None  # set once, before the thread starts
        self._thread = threading.Thread(target=self._run, name=f"meshsdk-drain-{presence.instance.app}", daemon=True)

    @property
    def instance(self) -> Instance:
        """The instance as it was first registered."""
        return self._presence.instance

    @property
    def state(self) -> InstanceState | None:
        """The state that the registry holds; None while it holds nothing (not registered yet, or it is away)."""
        return self._presence.state

    def wait_online(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for the registry to hold the instance ONLINE; returns whether it does."""
        return self._presence.wait_online(timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the service has drained and stopped, at most `timeout` seconds; returns whether it has."""
        return self._over.wait(timeout)

    def drain(self, *, wait: bool = True) -> None:
        """Takes the service offline without losing a call and, unless `wait` is False, waits until it has stopped."""
        self._asked.put(Asked.DRAIN)
        if wait:
            self._over.wait()

    def stop(self) -> None:
        """Deregisters and stops at once: calls in flight are cancelled."""
        self._asked.put(Asked.STOP)
        self._over.wait()

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.drain()

    def _start(self, *, handle_signals: bool) -> None:
        if self._presence.has_own_health:
            self._server.add_generic_rpc_handlers((health_handler(self._presence.health),))
        if handle_signals:
            self._unlisten = signals.listen_if_possible(lambda: self._asked.put(Asked.SIGNAL))
        try:
            self._presence.start()
            _start_server(self._server)
        except BaseException:
            self._presence.close()
            self._end_listening()
            raise
        self._presence.health.set_serving(serving=True)
        self._presence.online()
        self._thread.start()

    def _run(self) -> None:
        try:
            self._serve()
        except Exception:  # noqa: BLE001 - whatever it was, the server must not stay up half offline
            _LOG.exception("%s: the drain failed; stopping the server", self.instance.app)
            self._server.stop(None).wait(_OVERTIME)
        finally:
            self._presence.close()
            self._end_listening()
            self._over.set()

    def _serve(self) -> None:
        asked = self._next(_GLANCE)
        while asked is None and self._server.wait_for_termination(timeout=0):
            asked = self._next(_GLANCE)
        if asked in (Asked.STOP, None):  # None: someone else stopped the server, so there is nothing to wait for
            self._drain.hurry()
        steps = going_offline(self._drain, self._presence, time.monotonic)
        decision = next(steps)
        # Telling watches may take as long as a peer does not read; the drain does not wait for that.
        _in_background(lambda: self._presence.health.set_serving(serving=False))
        while not isinstance(decision, Stop):
            decision = steps.send(self._next(max(0.0, decision.at - time.monotonic())))
        _in_background(self._presence.health.end)
        if not self._server.stop(decision.grace).wait(decision.grace + _OVERTIME):
            _LOG.warning("%s: the server has not stopped %s s after its grace", self.instance.app, _OVERTIME)

    def _next(self, timeout: float) -> Asked | None:
        try:
            return self._asked.get(timeout=timeout)
        except queue.Empty:
            return None

    def _end_listening(self) -> None:
        if self._unlisten is not None:
            self._unlisten()


def _start_server(server: grpc.Server) -> None:
    try:
        server.start()
    except ValueError as error:
        if "already-started" not in str(error):
            raise
        _LOG.debug("the server had been started before serve()")


def _in_background(action: Callable[[], None]) -> None:
    threading.Thread(target=action, name="meshsdk-health", daemon=True).start()
