"""The course of a service, from STARTING to its end: decided once, for threads and for asyncio alike.

A generator that is driven by `service` (a thread) and `serve_aio` (a task): it yields what to wait for or to do, and is
sent what was asked meanwhile. It reads the clock it is given, and neither waits nor stops anything itself.

    STARTING --ready and resolved--> ONLINE --drain, signal--> DRAINING --quiet--> gone, Stop
        `--overdue--> gone, Stop       `--cycle--> DRAINING --quiet--> Perform --> ONLINE
"""

from __future__ import annotations

import enum
import logging
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

from meshsdk.errors import LifecycleError
from meshsdk.lifecycle.cycle import Cycle
from meshsdk.lifecycle.drain import Drain, Leave, Look, Stop
from meshsdk.lifecycle.drain_counts import DRAINS
from meshsdk.lifecycle.plan import Plan
from meshsdk.lifecycle.presence import Presence
from meshsdk.model.instance import InstanceState

_LOG = logging.getLogger("meshsdk.lifecycle")
_REMINDER = 10.0  # seconds between log lines on what is waited for
_FAREWELL = 0.5  # seconds for the status of calls that are cut off to be sent
_CUT_OFF = "the server is going offline and this call outlasted its drain; it may have been executed"


class Asked(enum.Enum):
    """What a service can be asked."""

    DRAIN = "drain"
    SIGNAL = "signal"  # the first drains, the second stops
    STOP = "stop"
    ENDED = "ended"  # someone else stopped the server
    OFFLINE = "offline"  # as DRAIN, but the server runs on until it is asked for an end
    LOOK = "look"  # its readiness may have changed


Ask = Asked | Cycle


@dataclass(frozen=True, slots=True)
class Perform:
    """Call this (await what it returns, where that can be); send what it raised, None if it did not."""

    change: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell health probes; send anything."""

    serving: bool


Step = Look | Perform | Tell | Stop
Answer = Ask | BaseException | None
Steps = Generator[Step, Answer, Asked]

_ENDINGS = (Asked.DRAIN, Asked.SIGNAL, Asked.STOP, Asked.ENDED, Asked.OFFLINE)


class Course:
    """One service's course. `state` and `problem` are written by whoever drives it and read by any thread."""

    def __init__(
        self,
        presence: Presence,
        plan: Plan,
        now: Callable[[], float],
        step_aside: Callable[[], object] = bool,
    ) -> None:
        """`now`: monotonic seconds. `step_aside`: performed when peers have been told that it drains for good."""
        self._step_aside = step_aside
        self.state = InstanceState.STARTING
        self.problem = ""  # why it ended without having been asked to
        self._presence = presence
        self._readiness = plan.readiness
        self._timing = plan.drain
        self._patience = plan.patience
        self._now = now
        self._waiting: list[Cycle] = []  # asked for while another was under way

    def run(self) -> Generator[Step, Answer, None]:
        """Yields steps, the last of them `Stop`."""
        ending = yield from self._starting()
        if ending is None:
            yield from self._go_online()
            ending = yield from self._serving()
        for cycle in self._waiting:
            cycle.result.set_exception(_too_late())
        drain = Drain(self._timing)
        if ending is Asked.OFFLINE:
            ending = yield from self._held_offline(drain)
            drain = Drain(replace(self._timing, quiet=0.0, announce=0.0))  # for who came after all
        if ending in (Asked.STOP, Asked.ENDED):  # ENDED: there is nothing left to wait for
            drain.hurry()
        stop, _ = yield from self._leaving(drain)
        self.state = InstanceState.OFFLINE
        yield self._last_words(stop)
        drain.stopped()

    def report(self) -> dict[str, object]:
        """Describes the service for probes and for `meshsdk offline`. Any thread."""
        held, instance = self._presence.state, self._presence.instance
        return {
            "app": instance.app,
            "address": instance.address,
            "state": self.state.value,
            "ready": self.state is InstanceState.ONLINE,
            "registry": held.value if held is not None else None,
            "calls": self._presence.sight().in_flight,
            "waiting_for": self._readiness.unresolved() if self.state is InstanceState.STARTING else "",
        }

    def _starting(self) -> Generator[Step, Answer, Asked | None]:
        """Waits until nothing keeps it from going online (None), or an end is asked for."""
        begun = told = self._now()
        while (missing := self._readiness.unresolved()) or not self._readiness.said:
            now = self._now()
            if missing and now >= begun + self._patience:
                self.problem = f"after {self._patience:g} s it still depends on what is not resolved: {missing}"
                _LOG.error("%s: %s; stopping", self._presence.instance.app, self.problem)
                return Asked.STOP
            if missing and (told == begun or now >= told + _REMINDER):
                told = now
                _LOG.info("%s: not online yet, waiting for %s", self._presence.instance.app, missing)
            asked = yield Look(min(told + _REMINDER, begun + self._patience) if missing else math.inf)
            if isinstance(asked, Cycle):
                yield from self._change(asked, quiet=self._presence.sight().in_flight == 0)
            elif asked in _ENDINGS:
                return asked
        self._readiness.close()
        return None

    def _go_online(self) -> Generator[Step, Answer, None]:
        self.state = InstanceState.ONLINE
        yield Tell(serving=True)
        self._presence.online()

    def _serving(self) -> Steps:
        while True:
            asked = self._waiting.pop(0) if self._waiting else (yield Look(math.inf))
            if isinstance(asked, Cycle):
                asked = yield from self._cycle(asked)
            if asked in _ENDINGS:
                return asked

    def _held_offline(self, drain: Drain) -> Steps:
        """Drains, and keeps the server running until an end is asked for, which it returns."""
        _, ending = yield from self._leaving(drain, held=True)
        self.state = InstanceState.OFFLINE
        while ending is None:
            asked = yield Look(math.inf)
            if isinstance(asked, Cycle):
                asked.result.set_exception(_too_late())
            elif asked in _ENDINGS and asked is not Asked.OFFLINE:
                ending = asked
        return ending

    def _leaving(self, drain: Drain, *, held: bool = False) -> Generator[Step, Answer, tuple[Stop, Asked | None]]:
        """Drains. `held`: the first that asks for an end is heard afterwards, and returned; else it is in a hurry."""
        ending: Asked | None = None
        self.state = InstanceState.DRAINING
        drain.begin(self._now())
        counted = DRAINS.began(self._presence.instance.app)
        self._presence.draining()
        yield Tell(serving=False)
        yield Perform(self._step_aside)
        while not isinstance(decision := self._look(drain, left=self._presence.left), Stop):
            if isinstance(decision, Leave):
                self._presence.leave()
                continue
            asked = yield decision
            if isinstance(asked, Cycle):
                asked.result.set_exception(_too_late())
            elif held and ending is None and asked in (Asked.SIGNAL, Asked.DRAIN):
                ending = asked
            elif asked in (Asked.SIGNAL, Asked.STOP, Asked.ENDED):
                ending = asked
                drain.hurry()
        DRAINS.ended(counted, quiet=self._presence.sight().in_flight == 0)
        return decision, ending

    def _last_words(self, stop: Stop) -> Stop:
        """Ends what still runs with a status that says why, rather than the bare CANCELLED of a server that stops."""
        cut = self._presence.cut(_CUT_OFF)
        if cut:
            _LOG.warning(
                "%s: %d calls outlasted the drain and were ended UNAVAILABLE", self._presence.instance.app, cut
            )
        return Stop(max(stop.grace, _FAREWELL)) if cut else stop

    def _look(self, drain: Drain, *, left: bool) -> Look | Leave | Stop:
        sight, told = self._presence.sight(), self._presence.state is InstanceState.DRAINING
        return drain.look(self._now(), arrived=sight.arrived, in_flight=sight.in_flight, told=told, left=left)

    # -- off and on again ---------------------------------------------------------------------------------------------

    def _cycle(self, cycle: Cycle) -> Generator[Step, Answer, Asked | None]:
        """Goes offline, changes and goes online again; returns the end that was asked for meanwhile, if one was."""
        drain = Drain(self._timing)
        drain.begin(self._now())
        self.state = InstanceState.DRAINING
        self._presence.draining()
        yield Tell(serving=False)
        while not isinstance(decision := self._look(drain, left=False), Stop):
            if isinstance(decision, Leave):
                break  # it stays DRAINING while it changes: whoever has nobody else to call goes on calling
            asked = yield decision
            if isinstance(asked, Cycle):
                self._waiting.append(asked)
            elif asked in _ENDINGS:
                cycle.result.set_exception(_too_late())
                return asked
        yield from self._change(cycle, quiet=self._presence.sight().in_flight == 0)
        yield from self._go_online()
        return None

    def _change(self, cycle: Cycle, *, quiet: bool) -> Generator[Step, Answer, None]:
        raised = yield Perform(cycle.change)
        if isinstance(raised, BaseException):
            cycle.result.set_exception(_as_told(raised))
        else:
            self._presence.relabel(cycle.labels)
            cycle.result.set_result(quiet)


def _as_told(raised: BaseException) -> Exception:
    """What ends a thread, a task or a generator must not do so to the caller of `cycle`, whose end was not meant."""
    if isinstance(raised, Exception) and not isinstance(raised, StopIteration | StopAsyncIteration):
        return raised
    told = LifecycleError(f"the change of cycle() ended with {raised!r}")
    told.__cause__ = raised
    return told


def _too_late() -> LifecycleError:
    return LifecycleError("the service is going offline for good: it cannot be taken offline and online again")
