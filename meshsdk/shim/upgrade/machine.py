"""One upgrade in place as a state machine: time and what is seen come in, decisions go out. No clock.

Driven by `upgrading`, which starts, drains and ends the Envoys. The shim holds the listening sockets, so that old and
new accept from the same queue while both run, and the old one is untouched until the new one has proved itself.

    RUNNING -begin-> STARTING_NEW --serves--> HANDING_OVER --probation over--> DRAINING_OLD --empty | late--> DONE
                            |                       |                               |
                            +-- ended | late        +-- ended | serves no more      +-- the new one ended: ROLLED_BACK

A roll-back before DRAINING_OLD ends the new one: nothing else had changed. In DRAINING_OLD the old one no longer
accepts, so its program is started again; meanwhile connections wait in the queue.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class UpgradePhase(enum.Enum):
    """See the table above."""

    RUNNING = "running"
    STARTING_NEW = "starting the new one"
    HANDING_OVER = "handing over"
    DRAINING_OLD = "draining the old one"
    DONE = "done"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True, slots=True)
class UpgradeTiming:
    """Seconds. `start`: until the new one serves. `probation`: both serve, and the new one is watched.

    `drain`: until the old one is ended with what still runs on it. `watch`: from the hand-over, how long a death of the
    new one brings the old program back; the old one may have gone by then.
    """

    start: float = 30.0
    probation: float = 1.0
    drain: float = 15.0
    watch: float = 5.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What is to be seen. `serves`: the new one answers LIVE, with every listener the old one has.

    `open_connections`: of the old one's listeners; None: it cannot be asked.
    """

    new_runs: bool
    serves: bool
    old_runs: bool
    open_connections: int | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """Look again not later than `at`, in the clock of `now`."""

    at: float


@dataclass(frozen=True, slots=True)
class HandOver:
    """The new one is current; the old one stops accepting and asks its callers to leave. Look again at once."""


@dataclass(frozen=True, slots=True)
class End:
    """All is decided: end the old one (it was upgraded) or the new one (`problem` says why it was rolled back).

    `restore`: the old one has no listeners any more, so its program has to be started again.
    """

    problem: str = ""
    restore: bool = False


Decision = Look | HandOver | End

_TICK = 0.05  # seconds between looks
_EMPTY = 0.5  # seconds without a connection: its workers may just have taken one that is not counted yet


class UpgradeMachine:
    """One upgrade. Used by one thread."""

    def __init__(self, timing: UpgradeTiming) -> None:
        self.phase = UpgradePhase.RUNNING
        self._timing = timing
        self._since = 0.0  # when the phase began
        self._empty_since: float | None = None  # since when the old one has had no connection

    def begin(self, now: float) -> None:
        """The new one has been started."""
        self._enter(UpgradePhase.STARTING_NEW, now)

    def look(self, now: float, sight: Sight) -> Decision:
        """Decides at `now`; not to be called in RUNNING, DONE and ROLLED_BACK."""
        if self.phase is UpgradePhase.STARTING_NEW:
            return self._starting(now, sight)
        if self.phase is UpgradePhase.HANDING_OVER:
            return self._handing_over(now, sight)
        return self._draining(now, sight)

    def _starting(self, now: float, sight: Sight) -> Decision:
        if not sight.new_runs:
            return self._roll_back("it ended before it served")
        if sight.serves:
            self._enter(UpgradePhase.HANDING_OVER, now)
            return self._handing_over(now, sight)
        deadline = self._since + self._timing.start
        if now >= deadline:
            return self._roll_back(f"it did not serve within {self._timing.start:g} s")
        return Look(min(now + _TICK, deadline))

    def _handing_over(self, now: float, sight: Sight) -> Decision:
        if not sight.new_runs:
            return self._roll_back("it ended while it was taking over")
        if not sight.serves:
            return self._roll_back("it stopped serving while it was taking over")
        over = self._since + self._timing.probation
        if now >= over or not sight.old_runs:  # an old one that died cannot wait for the probation to end
            self._enter(UpgradePhase.DRAINING_OLD, now)
            return HandOver()
        return Look(min(now + _TICK, over))

    def _draining(self, now: float, sight: Sight) -> Decision:
        if not sight.new_runs:
            return self._roll_back("it ended after it had taken over", restore=True)
        deadline = self._since + self._timing.drain
        watched = now >= self._since + min(self._timing.watch, self._timing.drain)
        if sight.open_connections != 0:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now
        gone = not sight.old_runs or (self._empty_since is not None and now >= self._empty_since + _EMPTY)
        if now >= deadline or (gone and watched):
            self._enter(UpgradePhase.DONE, now)
            return End()
        return Look(min(now + _TICK, deadline))

    def _roll_back(self, problem: str, *, restore: bool = False) -> End:
        self.phase = UpgradePhase.ROLLED_BACK
        return End(problem, restore)

    def _enter(self, phase: UpgradePhase, now: float) -> None:
        self.phase = phase
        self._since = now
