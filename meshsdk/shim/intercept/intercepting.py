"""Switches interception of one shim on and off, in the order that loses no call (mission.md S6).

On:  offline in the registry -> rules -> online. Connections that peers make from then on lead through Envoy.
Off: offline in the registry, by which peers leave -> rules away -> online, labelled `meshsdk.io/interception: off` ->
     another Envoy takes over, so that connections that still lead through the old one are drained and closed.

Made by `intercept`, one for a shim; one switch at a time.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import final

from meshsdk.errors import ConfigurationError, MeshError
from meshsdk.private_file import replace_file
from meshsdk.shim.intercept import rules as intercept_rules
from meshsdk.shim.intercept.netfilter import Backend, backend, put
from meshsdk.shim.port import Shim

_LOG = logging.getLogger("meshsdk.shim")
_FILE = "intercept.json"
_OFF = {"meshsdk.io/interception": "off"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What `on` was asked to intercept. `client`, `server`: which of the two directions is to be on."""

    ports: tuple[int, ...] = ()
    networks: tuple[str, ...] = ()
    way: str = "auto"
    client: bool = True
    server: bool = True


@final
class Intercepting:
    """Methods are for any thread. `_lock` is held for the time of a switch and guards all fields but `_shim`."""

    def __init__(self, shim: Shim, renew: Callable[[], object]) -> None:
        """`renew` puts another Envoy in place of the current one and returns when that one is gone."""
        self._shim = shim
        self._renew = renew
        self._lock = threading.RLock()
        self._plan: Plan | None = None
        self._way: Backend | None = None
        self._name = intercept_rules.table_name(shim.settings.app)
        self._recall()

    def on(self, plan: Plan) -> dict[str, object]:
        """Intercepts as planned, in place of what was intercepted. Raises MeshError, with everything as it was."""
        with self._lock:
            rules = self._rules(plan)
            if not rules.outbound and not rules.inbound:
                raise ConfigurationError(
                    "intercept: there is nothing to intercept: --port names the ports of the services that the "
                    "application calls, and a shim with --inbound intercepts calls to its application"
                )
            way = backend(plan.way)
            self._switch(way, rules, inbound=bool(rules.inbound))
            self._plan, self._way = plan, way
            self._remember()
            return self.status()

    def off(self) -> dict[str, object]:
        """Intercepts nothing; returns when the connections that led through Envoy are closed. Raises MeshError."""
        with self._lock:
            if self._plan is None or self._way is None:
                return self.status()
            self._turn(replace(self._plan, client=False, server=False))
            return self.status()

    def follow(self, *, client: bool, server: bool) -> None:
        """Turns the directions of what `on` set up as the control plane says. Raises MeshError."""
        with self._lock:
            if self._plan is not None and (self._plan.client, self._plan.server) != (client, server):
                self._turn(replace(self._plan, client=client, server=server))

    def status(self) -> dict[str, object]:
        """Returns what is in force, as the kernel says."""
        with self._lock:
            plan = self._plan or Plan(client=False, server=False)
            redirects = self._way.count(self._name) if self._way is not None else 0
            rules = self._rules(plan)
            words = {"client": redirects > 0 and bool(rules.outbound), "server": redirects > 0 and bool(rules.inbound)}
            return {**words, "redirects": redirects, "way": self._way.name if self._way else ""}

    def end(self) -> None:
        """The shim ends: new connections take the direct way."""
        with self._lock:
            if self._way is not None:
                try:
                    self._way.remove(self._name)
                except MeshError as error:
                    _LOG.error("connections are still led to a shim that has ended: %s", error)
            self._plan = self._way = None
            self._remember()

    def _turn(self, plan: Plan) -> None:
        if self._way is None:
            self._way = backend(plan.way)
        before = self._rules(self._plan or plan)
        rules = self._rules(plan)
        self._switch(self._way, rules, inbound=before.inbound != rules.inbound)
        self._plan = plan
        self._remember()
        if len(rules.outbound) + len(rules.inbound) < len(before.outbound) + len(before.inbound):
            self._renew()
            if not rules.outbound and not rules.inbound:  # no connection is redirected any more
                self._way.remove(self._name)

    def _switch(self, way: Backend, rules: intercept_rules.Rules, *, inbound: bool) -> None:
        """The order of S6; only a switch of the way in takes the application offline meanwhile."""
        presence = self._shim.presence if inbound else None
        if presence is not None and not presence.take_offline():
            _LOG.warning("calls are still running; they stay on the connections that they are on")
        labels = {} if self._plan is None or self._plan.server else _OFF  # as they are
        try:
            put(way, rules)
            labels = {} if rules.inbound else _OFF
        finally:
            if presence is not None:
                presence.bring_online(labels)

    def _rules(self, plan: Plan) -> intercept_rules.Rules:
        settings = self._shim.settings
        outbound = intercept_rules.outbound_redirects(settings, plan.ports, plan.networks) if plan.client else ()
        inbound = intercept_rules.inbound_redirects(settings) if plan.server else ()
        return intercept_rules.Rules(self._name, os.getuid(), outbound, inbound)

    # -- what outlives a shim that was killed: rules stay in the kernel, and this says what they were meant to be -----

    @property
    def _file(self) -> Path:
        return self._shim.settings.folder / _FILE

    def _remember(self) -> None:
        try:
            if self._plan is None:
                self._file.unlink(missing_ok=True)
            else:
                replace_file(self._file, [json.dumps(asdict(self._plan)).encode()])
        except OSError as error:
            _LOG.warning("what is intercepted cannot be kept in %s: %s", self._file, error.strerror or error)

    def _recall(self) -> None:
        """Puts the rules of a killed shim in force again: its listeners are back. Unreadable: takes all out."""
        try:
            kept = json.loads(self._file.read_bytes())
            plan = Plan(
                intercept_rules.read_ports(kept["ports"]),
                intercept_rules.read_networks(kept["networks"]),
                str(kept["way"]),
                bool(kept["client"]),
                bool(kept["server"]),
            )
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, MeshError) as error:
            _LOG.warning("%s cannot be read (%s): nothing is intercepted", self._file, error)
            plan = Plan(client=False, server=False)
        try:
            self._way = backend(plan.way)
            put(self._way, self._rules(plan))
            self._plan = plan
        except MeshError as error:
            _LOG.error("what was intercepted before is not any more: %s", error)
