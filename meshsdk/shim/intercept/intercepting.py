"""Switches interception of one shim on and off, in the order that loses no call (mission.md S6).

On:  offline in the registry -> rules -> online. Connections that peers make from then on lead through Envoy.
Off: offline in the registry, by which peers leave -> rules away -> online, labelled `meshsdk.io/interception: off` ->
     another Envoy takes over, so that connections that still lead through the old one are drained and closed.

Made by `intercept`, one for a shim; one switch at a time.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import final

from meshsdk.errors import ConfigurationError, LifecycleError, MeshError
from meshsdk.shim.intercept import rules as intercept_rules
from meshsdk.shim.intercept.netfilter import Backend, backend, put, redirects
from meshsdk.shim.intercept.plan import Allowed, Plan, keep, recalled
from meshsdk.shim.port import Shim
from meshsdk.shim.presence import Away

_LOG = logging.getLogger("meshsdk.shim")
_START = 120.0  # seconds for a shim that starts
_OFF = {"meshsdk.io/interception": "off"}

Redirects = tuple[intercept_rules.Redirect, ...]


@final
class Intercepting:
    """In force is what was asked on this machine (`_plan`) and the control plane allows (`_allowed`).

    Methods are for any thread. `_lock` is held for the time of a switch and guards all fields but `_shim`, `_opened`.
    """

    def __init__(self, shim: Shim, renew: Callable[[], object]) -> None:
        """`renew` puts another Envoy in place of the current one and returns when that one is gone."""
        self._shim = shim
        self._renew = renew
        self._lock = threading.RLock()
        self._name = intercept_rules.table_name(shim.settings.app, shim.settings.folder)
        self._plan: Plan | None = None  # None: nothing is asked for
        self._allowed = Allowed()
        self._rules = self._none  # in force
        self._way: Backend | None = None  # by which they are
        self._opened = threading.Event()
        self._ended = False

    def begin(self) -> None:
        """The listeners are there: puts in force what a shim that was killed had, and lets `on` and `off` go on."""
        with self._lock:
            plan, allowed = recalled(self._shim.settings.folder)
            self._plan, self._allowed = plan, allowed
            try:
                if plan is not None:
                    self._switch(backend(plan.way), self._wanted(plan))
            except MeshError as error:
                self._plan = None
                _LOG.error("what was intercepted before is not any more: %s", error)
            self._opened.set()

    def on(self, plan: Plan) -> dict[str, object]:
        """Intercepts as planned, in place of what was intercepted, as far as the control plane allows.

        Waits for a shim that starts. Raises MeshError, with everything as it was.
        """
        self._await_begin()
        with self._lock:
            self._check()
            if not any(self._directions(plan, Allowed())):
                raise ConfigurationError(
                    "intercept: there is nothing to intercept: --port names the ports of the services that the "
                    "application calls, and a shim with --inbound intercepts calls to its application"
                )
            way = backend(plan.way)
            plan = replace(plan, way=way.name)
            self._turn(way, plan)
            return self.status()

    def off(self) -> dict[str, object]:
        """Intercepts nothing until `on`; returns when what led through Envoy is closed. Raises MeshError."""
        self._await_begin()
        with self._lock:
            self._check()
            if self._plan is not None:
                self._turn(self._way or backend(self._plan.way), None)
            return self.status()

    def follow(self, *, client: bool, server: bool) -> None:
        """Turns the directions of what `on` set up as the control plane says. Raises MeshError."""
        self._await_begin()
        with self._lock:
            self._allowed = Allowed(client, server)
            if self._plan is None or self._ended:
                return
            self._check()
            if self._wanted(self._plan) != self._rules:
                self._turn(self._way or backend(self._plan.way), self._plan)

    def status(self) -> dict[str, object]:
        """Returns what is in force, as the kernel says, and what of the plan the control plane does not allow."""
        with self._lock:
            found = self._way.count(self._name) if self._way is not None else (0, 0)
            wanted = redirects(self._way, self._rules) if self._way is not None else (0, 0)
            asked = self._directions(self._plan, Allowed()) if self._plan is not None else ((), ())
            allowed = (self._allowed.client, self._allowed.server)
            return {
                "client": found[0] == wanted[0] > 0,
                "server": found[1] == wanted[1] > 0,
                "redirects": sum(found),
                "way": self._way.name if self._way is not None else "",
                "withheld": [
                    side
                    for side, some, may in zip(("client", "server"), asked, allowed, strict=True)
                    if some and not may
                ],
            }

    def end(self) -> None:
        """The shim ends: new connections take the direct way."""
        with self._lock:
            self._ended = True
            if self._way is not None:
                try:
                    self._way.remove(self._name)
                except MeshError as error:
                    _LOG.error("connections are still led to a shim that has ended: %s", error)
            if self._opened.is_set():  # a start that failed leaves the plan to the next one
                self._plan = self._way = None
                self._rules = self._none
                self._remember(None)
            self._opened.set()

    def _await_begin(self) -> None:
        if not self._opened.wait(_START):
            raise LifecycleError("intercept: the shim has not started yet; ask again")

    def _check(self) -> None:
        presence = self._shim.presence
        if self._ended or (presence is not None and presence.ending):
            raise LifecycleError("intercept: the shim is ending")

    def _turn(self, way: Backend, plan: Plan | None) -> None:
        """The order of S6; only a switch of the way in takes the application offline meanwhile."""
        before, rules = self._rules, self._wanted(plan)
        presence = self._shim.presence if before.inbound != rules.inbound else None
        self._remember(plan)  # first: whoever finds this shim killed is to know that there may be rules
        try:
            if presence is not None and not presence.take_offline(reason=Away.SWITCHING):
                _LOG.warning("calls are still running; they stay on the connections that they are on")
            self._switch(way, rules)
            self._plan = plan
        finally:
            self._remember(self._plan)
            if presence is not None:
                presence.bring_online(Away.SWITCHING)
        if len(rules.outbound) + len(rules.inbound) < len(before.outbound) + len(before.inbound):
            self._renew()
            if rules == self._none:  # no connection is redirected any more
                way.remove(self._name)

    def _switch(self, way: Backend, rules: intercept_rules.Rules) -> None:
        """Puts rules in place of those in force. Raises MeshError with those as they were, or none and no plan."""
        before = self._way
        try:
            if rules != self._none or self._rules != self._none:
                put(way, rules)
        except MeshError:
            self._restore(way)
            raise
        if before is not None and before.name != way.name:
            before.remove(self._name)
        self._way, self._rules = way, rules
        if self._shim.presence is not None:
            self._shim.presence.label({} if rules.inbound else _OFF)

    def _restore(self, tried: Backend) -> None:
        way = self._way or tried
        try:
            if tried.name != way.name:
                tried.remove(self._name)
            if self._rules == self._none:
                way.remove(self._name)
            else:
                put(way, self._rules)
        except MeshError as error:
            self._rules, self._plan = self._none, None
            _LOG.error("what was intercepted before is not any more: %s", error)

    @property
    def _none(self) -> intercept_rules.Rules:
        return intercept_rules.Rules(self._name, os.getuid())

    def _wanted(self, plan: Plan | None) -> intercept_rules.Rules:
        outbound, inbound = self._directions(plan, self._allowed) if plan is not None else ((), ())
        return intercept_rules.Rules(self._name, os.getuid(), outbound, inbound)

    def _directions(self, plan: Plan, allowed: Allowed) -> tuple[Redirects, Redirects]:
        settings = self._shim.settings
        outbound = intercept_rules.outbound_redirects(settings, plan.ports, plan.networks) if allowed.client else ()
        inbound = intercept_rules.inbound_redirects(settings) if allowed.server else ()
        return outbound, inbound

    def _remember(self, plan: Plan | None) -> None:
        keep(self._shim.settings.folder, plan, self._allowed)
