"""The application in the registry, on its behalf: registered, healthy or not, taken offline without losing a call.

Driven by `running` and by those who switch interception. A thread looks at the application's health; everything that
the registry is told goes through `lifecycle.keeper`.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from meshsdk.lifecycle.drain import Drain, DrainPhase, DrainTiming, Leave, Look, Stop
from meshsdk.lifecycle.keeper import Keeper
from meshsdk.model.instance import Instance, InstanceState
from meshsdk.shim.settings import Probe

_LOG = logging.getLogger("meshsdk.shim")
_GLANCE = 0.01  # seconds between looks at whether the registry has let go of the instance


@dataclass(frozen=True, slots=True)
class Traffic:
    """What Envoy's inbound listeners see. `known`: False while Envoy does not answer."""

    arrived: int
    in_flight: int
    known: bool = True


class Away(enum.Enum):
    """Why an application is not to be ONLINE. Each reason ends by the hand of those who gave it, and by no other."""

    STARTING = "starting"  # the way in is not there yet
    ASKED = "asked"  # `meshsdk shim offline`; never ends, for it comes before the end of the application
    SWITCHING = "switching"  # interception changes
    ENDING = "ending"  # the final drain; never ends


class Front(Protocol):
    """The inbound listeners in front of the application. Methods are for any thread."""

    def traffic(self) -> Traffic:
        """Returns what they see."""

    def draining(self, *, draining: bool) -> None:
        """Whether answers are to tell peers of the SDK to leave."""


@dataclass(frozen=True, slots=True)
class Health:
    """What looks at the application say so far. Pure; a step returns a new one."""

    healthy: bool = False
    failures: int = 0
    problem: str = "not looked at yet"

    def after(self, problem: str, limit: int) -> Health:
        """One more look: "" for well."""
        if not problem:
            return Health(healthy=True, problem="")
        failures = self.failures + 1
        return Health(self.healthy and failures < limit, failures, problem)


class Presence:
    """Methods are for any thread; drains are one at a time.

    `_lock` guards `_health`, `_closed`, `_labels` and `_away`: while that holds any reason, nothing makes it ONLINE.
    """

    def __init__(
        self,
        keeper: Keeper,
        instance: Instance,
        probe: Probe,
        look: Callable[[], str],
        timing: DrainTiming,
        front: Front,
    ) -> None:
        self._keeper = keeper
        self._instance = instance
        self._probe = probe
        self._look = look
        self._timing = timing
        self._front = front
        self._lock = threading.Condition()
        self._draining_one = threading.Lock()
        self._health = Health()
        self._away = {Away.STARTING}
        self._closed = False
        self._labels: Mapping[str, str] = instance.labels
        self._hurried = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meshsdk-shim-probe", daemon=True)

    @property
    def state(self) -> InstanceState | None:
        """The state that the registry holds; None while it holds nothing."""
        return self._keeper.told

    @property
    def health(self) -> Health:
        """What looks at the application say."""
        with self._lock:
            return self._health

    def start(self) -> None:
        """Begins to look and to register (STARTING)."""
        self._keeper.start()
        self._thread.start()

    @property
    def away(self) -> frozenset[Away]:
        """Why the application is not to be ONLINE; empty: it is, while it is well."""
        with self._lock:
            return frozenset(self._away)

    @property
    def ending(self) -> bool:
        """Whether the final drain has begun."""
        return Away.ENDING in self.away

    def bring_online(self, reason: Away = Away.STARTING) -> None:
        """Ends a reason to be away: without any other, ONLINE as soon as, and as long as, the application is well."""
        with self._lock:
            self._away.discard(reason)
            self._follow()

    def label(self, labels: Mapping[str, str]) -> None:
        """Adds `labels` to the application's own, in place of those added before."""
        with self._lock:
            if Away.ENDING not in self._away:
                self._relabel({**self._instance.labels, **labels})

    def take_offline(self, *, final: bool = False, reason: Away = Away.ASKED) -> bool:
        """DRAINING, a wait for quiet, then OFFLINE, or out of the registry if `final`; returns whether it got quiet.

        Takes at most the drain's timeout and the registry's patience; no time where it is away for another reason.
        """
        with self._draining_one:
            with self._lock:
                there = not self._away
                self._away.add(Away.ENDING if final else reason)
                if there or final:
                    self._keeper.want(InstanceState.DRAINING)
            if not there and not final:
                return self._front.traffic().in_flight == 0
            self._front.draining(draining=True)
            quiet = self._wait(final=final)
            if not final:
                self._front.draining(draining=False)
            return quiet

    def hurry(self) -> None:
        """Ends the waits of drains, now and from now on."""
        self._hurried.set()

    def close(self) -> None:
        """Ends the threads; what is registered stays until its lease ends."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        self._keeper.close()

    def _wait(self, *, final: bool) -> bool:
        drain = Drain(self._timing)
        drain.begin(time.monotonic())
        quiet = False
        last = Traffic(0, 0)
        while True:
            if self._hurried.is_set():
                drain.hurry()
            seen = self._front.traffic()
            last = seen if seen.known else last
            told = self._keeper.told is InstanceState.DRAINING
            left = self._keeper.gone if final else self._keeper.told is InstanceState.OFFLINE
            now = time.monotonic()
            match drain.look(now, arrived=last.arrived, in_flight=last.in_flight, told=told, left=left):
                case Leave():
                    quiet = last.in_flight == 0
                    self._leave(final=final)
                case Look(at=at):
                    self._pause(at - now, left_soon=drain.phase is DrainPhase.LEAVING)
                case Stop():
                    return quiet

    def _pause(self, seconds: float, *, left_soon: bool) -> None:
        if left_soon:  # the registry answers in milliseconds, and a hurry changes nothing any more
            time.sleep(_GLANCE)
        else:
            self._hurried.wait(max(0.0, seconds))

    def _leave(self, *, final: bool) -> None:
        if final:
            self._keeper.leave()
        else:
            self._keeper.want(InstanceState.OFFLINE)

    def _relabel(self, labels: Mapping[str, str]) -> None:
        if labels != self._labels:
            self._labels = labels
            self._keeper.amend(labels, self._instance.started_at)

    def _follow(self) -> None:
        """Tells the registry what follows from health. Called with the lock held."""
        if not self._away:
            online = self._health.healthy
            up = InstanceState.ONLINE if online else InstanceState.OFFLINE
            self._keeper.want(up)

    def _run(self) -> None:
        while True:
            problem = self._look()
            with self._lock:
                before, self._health = self._health, self._health.after(problem, self._probe.failures)
                _report(self._instance.app, before, self._health)
                self._follow()
                if self._lock.wait_for(lambda: self._closed, self._probe.interval):
                    return


def _report(app: str, before: Health, after: Health) -> None:
    if after.healthy and not before.healthy:
        _LOG.info("%s is well", app)
    elif before.healthy and not after.healthy:
        _LOG.warning("%s is not well: %s; no calls come to it until it is", app, after.problem)
