"""A running shim: its parts put together, started in order, and ended in the order that loses no call.

Made by `command`. Start: ADS, Envoy, control socket, registration; ONLINE when the way in and out is there. End:
the application is drained while the way out stays open, then Envoy, then the rest.
"""

from __future__ import annotations

import importlib
import logging
import queue
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from meshsdk.bootstrap import Bootstrap
from meshsdk.discovery.default_registry import open_default_registry
from meshsdk.discovery.feeds import RegistryFeeds
from meshsdk.discovery.registry import Registry
from meshsdk.errors import LifecycleError
from meshsdk.lifecycle.keeper import Keeper
from meshsdk.model.instance import Instance
from meshsdk.model.resources import RuntimeLayer
from meshsdk.shim import identity
from meshsdk.shim.control import Answer, ControlSocket
from meshsdk.shim.desired import Desired
from meshsdk.shim.enrolment import Enrolment
from meshsdk.shim.envoy.admin import EnvoyUnreachable
from meshsdk.shim.envoy.bootstrap import envoy_bootstrap
from meshsdk.shim.envoy.executable import default_executable
from meshsdk.shim.envoy.process import Place
from meshsdk.shim.envoy.socket_keeper import SocketKeeper
from meshsdk.shim.envoy.supervision import Supervision
from meshsdk.shim.presence import Presence, Traffic
from meshsdk.shim.probe import look_at
from meshsdk.shim.settings import Settings
from meshsdk.shim.upgrade.versions import full_version
from meshsdk.shim.xds.server import AdsServer
from meshsdk.xds_client.client import XdsClient
from meshsdk.xds_client.direct import read_target

_LOG = logging.getLogger("meshsdk.shim")
_START = 30.0  # seconds for the first Envoy
_LISTENING = 60.0  # seconds for its listeners: the xDS client gives up on a target after 15 s and says why
_LOOK = 0.05
_SHOWN = 5  # targets that are not resolved, in the ready line; `status` has all
_TTL = 15.0  # seconds, as of `meshsdk.serve`
_ACTIVE = "downstream_rq_active"
OPERATIONS = {"upgrade": "meshsdk.shim.upgrade.operation", "intercept": "meshsdk.shim.intercept.operation"}
_LAYERS = {"meshsdk.shim": "upgrade", "meshsdk.traffic_switch": "intercept"}


class RunningShim:
    """Made and ended by one thread; the properties are read-only after `start`."""

    def __init__(self, settings: Settings, bootstrap: Bootstrap, folder: Path) -> None:
        """`folder` is held. Raises ConfigurationError; nothing is started yet."""
        self.settings = settings
        bootstrap = identity.identified(bootstrap, settings)
        node = bootstrap.node
        self._stopping: queue.SimpleQueue[None] = queue.SimpleQueue()  # put() may interrupt itself: fit for signals
        self._asked = False  # to stop; set by whoever asks
        self._ads = AdsServer(folder / "ads.sock")
        feeds = RegistryFeeds(bootstrap) if bootstrap.mesh.registries else None
        self._client = XdsClient(bootstrap, feeds=feeds)
        targets = tuple(read_target(text, bootstrap) for text in settings.targets)
        self._targets = targets
        self._desired = Desired(settings, targets, self._client, self._ads.publish)
        zone = settings.zone or node.locality.zone
        place = Place(
            folder,
            partial(envoy_bootstrap, node.id, settings.app, zone, ads=folder / "ads.sock"),
            SocketKeeper(folder),
            settings.drain.timeout,
            settings.concurrency,
            settings.log_level,
        )
        self.supervision = Supervision(settings.executable or default_executable(), place)
        self._registry: Registry = open_default_registry(bootstrap)
        own = identity.itself(settings, node)
        self.enrolment = Enrolment(self._keeper(own), own)
        self.supervision.trouble = self.enrolment.trouble
        self.presence = self._presence(identity.application(settings, node)) if settings.inbound else None
        self._control = ControlSocket(folder / "control.sock", {})
        self._operations: dict[str, Any] = {}

    def _keeper(self, instance: Instance) -> Keeper:
        return Keeper(self._registry, instance, None, _TTL)

    def _presence(self, instance: Instance) -> Presence:
        look = look_at(self.settings.probe, self.settings.inbound[0].target)
        return Presence(self._keeper(instance), instance, self.settings.probe, look, self.settings.drain, self)

    # -- the way in, as `presence` sees it ----------------------------------------------------------------------------

    def traffic(self) -> Traffic:
        """Returns what the inbound listeners see."""
        try:
            seen = self.supervision.current.admin.counters("http.inbound.downstream_rq_")
        except EnvoyUnreachable:
            return Traffic(0, 0, known=False)
        arrived = seen.get("http.inbound.downstream_rq_total", 0)
        return Traffic(arrived, seen.get(f"http.inbound.{_ACTIVE}", 0))

    def draining(self, *, draining: bool) -> None:
        """Whether answers of the application tell peers of the SDK to leave."""
        self._desired.draining(draining=draining)

    # -- start and end ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts everything. Raises MeshError with one clear line; `stop` is to be called then too."""
        self._ads.start()
        self._desired.begin()
        for target in self._targets:
            self._client.watch(target.text, partial(self._desired.resolved, target))
        self.supervision.start(_START)
        self._control = ControlSocket(self.supervision.place().folder / "control.sock", self._handlers())
        self._control.start()
        self.enrolment.start()
        current = self.supervision.current
        self.enrolment.say(version=full_version(current.launch.executable, current.admin.version()))
        if self.presence is not None:
            self.presence.start()
        self._wait_listening()
        if not self._stopping.empty():
            return  # asked to stop before it serves
        for module in self._operations.values():
            if hasattr(module, "opening"):
                module.opening(self)
        if self.presence is not None:
            self.presence.bring_online()
        for name, operation in _LAYERS.items():
            if operation in self._operations:
                self._client.watch_runtime(name, self._wanted(operation))

    def _wait_listening(self) -> None:
        """Waits until Envoy has all listeners: the application may call, and be called. Raises LifecycleError."""
        wanted = len(self.settings.inbound) + (1 if self.settings.outbound else 0)
        deadline = time.monotonic() + _LISTENING
        while time.monotonic() < deadline and self._stopping.empty():
            try:
                if self._desired.known.is_set() and len(self.supervision.current.admin.listeners()) == wanted:
                    return
            except EnvoyUnreachable as error:
                _LOG.debug("%s", error)
            time.sleep(_LOOK)
            if refusals := [words for words in self._ads.refusals if words.startswith("Listener: ")]:
                raise LifecycleError(f"Envoy refuses to listen: {'; '.join(refusals)}")
        if self._stopping.empty():
            problems = [*self._ads.refusals, *self._desired.problems, self.supervision.current.words()]
            raise LifecycleError(f"Envoy has not all its listeners after {_LISTENING:g} s: {'; '.join(problems)}")

    def run(self, announce: Callable[[str], None]) -> None:
        """Says that it is ready, and serves until `ask_to_stop`; then drains."""
        if self._stopping.empty():
            announce(self._words())
        self._stopping.get()
        self._drain()

    def ask_to_stop(self) -> None:
        """Ends `run`; a second time ends the drain. Fit for a signal handler."""
        again, self._asked = self._asked, True
        if again and self.presence is not None:
            self.presence.hurry()
        self._stopping.put(None)

    def stop(self) -> None:
        """Ends all parts."""
        for module in self._operations.values():
            if hasattr(module, "closing"):
                module.closing(self)
        self._control.stop()
        self.enrolment.leave()
        self.supervision.stop()
        if self.presence is not None:
            self.presence.close()
        self.enrolment.close()
        self._client.close()
        self._ads.stop()
        self._registry.close()

    def _drain(self) -> None:
        self.enrolment.drain()
        if self.presence is not None and not self.presence.take_offline(final=True):
            _LOG.warning("calls to %s are still running at the end of the drain", self.settings.app)
        try:
            admin = self.supervision.current.admin
            admin.drain_listeners(inbound_only=True)
            deadline = time.monotonic() + self.settings.drain.timeout
            outbound = f"http.outbound.{_ACTIVE}"
            while admin.counters(outbound).get(outbound) and time.monotonic() < deadline and self._stopping.empty():
                time.sleep(_LOOK)
        except EnvoyUnreachable as error:
            _LOG.warning("Envoy is ended without a drain: %s", error)

    # -- commands -----------------------------------------------------------------------------------------------------

    def _handlers(self) -> Mapping[str, Callable[[Mapping[str, object]], Answer]]:
        handlers: dict[str, Callable[[Mapping[str, object]], Answer]] = {
            "status": self._status,
            "offline": self._offline,
            "stop": self._stop,
        }
        for name, path in OPERATIONS.items():
            module = self._operations[name] = importlib.import_module(path)
            handlers[name] = module.handler(self)
        return handlers

    def _wanted(self, operation: str) -> Callable[[RuntimeLayer | None], None]:
        wanted = self._operations[operation].wanted(self)
        return lambda layer: wanted(None if layer is None else layer.values)

    def _stop(self, _asked: Mapping[str, object]) -> Answer:
        self.ask_to_stop()
        return {}

    def _offline(self, _asked: Mapping[str, object]) -> Answer:
        """Calls in end, calls out do not: for an orchestrator, before it ends the application."""
        return {"quiet": self.presence is None or self.presence.take_offline()}

    def _status(self, _asked: Mapping[str, object]) -> Answer:
        current = self.supervision.current
        said = self.enrolment.labels
        status: dict[str, object] = {
            "app": self.settings.app,
            "envoy": {
                "pid": current.pid,
                "epoch": current.launch.epoch,
                "executable": str(current.launch.executable),
                "version": said.get("meshsdk.io/version", ""),
                "ready": current.admin.ready(),
            },
            "phase": said.get("meshsdk.io/phase", ""),
            "targets": list(self.settings.targets),
            "problems": [*self._ads.refusals, *self._desired.problems],
        }
        if self.presence is not None:
            state, health = self.presence.state, self.presence.health
            status["application"] = {
                "address": self.settings.address,
                "state": state.value if state else "not registered",
                "problem": health.problem,
            }
        return status

    def _words(self) -> str:
        ways = [f"{one.listen} -> {one.target}" for one in self.settings.inbound]
        if self.settings.outbound:
            count, lost = len(self.settings.targets), self._desired.unresolved
            more = f", {len(lost)} of {count} targets not resolved: {'; '.join(lost[:_SHOWN])}" if lost else ""
            ways.append(f"{self.settings.outbound} -> {count - len(lost)} targets{more}")
        version = self.enrolment.labels.get("meshsdk.io/version", "")
        return f"meshsdk shim {self.settings.app}: ready with Envoy {version}: {', '.join(ways)}"
