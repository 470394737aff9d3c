"""The drain of one server (design.md section 5) as a state machine: time and counts come in, decisions go out.

Driven by `serve_sync` and `serve_aio`, which tell the registry, count calls and stop the server. No clock, no threads.

    SERVING --begin--> QUIETING --quiet | deadline | hurry--> LEAVING --left | given up--> STOPPING --stopped--> STOPPED

QUIETING: peers are told (registry, trailing metadata, health); calls that still arrive are served. Quiet is: since the
registry took the news, or failed to within `announce`, or since the last arrival, whichever is latest, `quiet` seconds
went by, and nothing is in flight. LEAVING: the instance is taken out of the registry.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from meshsdk.errors import ConfigurationError


class DrainPhase(enum.Enum):
    """See the table above."""

    SERVING = "serving"
    QUIETING = "quieting"
    LEAVING = "leaving"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class DrainTiming:
    """Seconds. `timeout` bounds the whole wait for quiet; calls still running after it get `grace` and are cancelled.

    `quiet` must exceed the time that news of a drain takes to reach a peer that calls rarely: the control plane gathers
    changes for up to 0.5 s. `announce` and `deregister` bound the patience with a registry that does not answer.
    """

    quiet: float = 1.0
    timeout: float = 15.0
    announce: float = 2.0
    deregister: float = 2.0
    grace: float = 1.0

    def __post_init__(self) -> None:
        for name in ("quiet", "timeout", "announce", "deregister", "grace"):
            seconds = getattr(self, name)
            if not (isinstance(seconds, (int, float)) and math.isfinite(seconds) and seconds >= 0):
                raise ConfigurationError(f"DrainTiming: {name}={seconds!r} must be a number of seconds, 0 or more")
        if self.quiet > self.timeout:
            raise ConfigurationError(f"DrainTiming: quiet={self.quiet} can never be reached within {self.timeout} s")


@dataclass(frozen=True, slots=True)
class Look:
    """Look again not later than `at`, in the clock of `now`."""

    at: float


@dataclass(frozen=True, slots=True)
class Leave:
    """Deregister, then keep looking."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the server, letting what runs run for `grace` seconds; then say `stopped`."""

    grace: float


Decision = Look | Leave | Stop

_TICK = 0.05  # seconds between looks while waiting for quiet


class Drain:
    """One server's drain. Used by one thread or task at a time."""

    def __init__(self, timing: DrainTiming) -> None:
        self.phase = DrainPhase.SERVING
        self._timing = timing
        self._hurried = False
        self._begun = 0.0  # when `begin` came
        self._told_at: float | None = None  # when the registry took the news
        self._arrived = -1  # arrivals seen by the last look
        self._last_arrival = 0.0
        self._left_at = 0.0  # when `Leave` was decided

    def begin(self, now: float) -> None:
        """A drain was asked for; asking again changes nothing."""
        if self.phase is DrainPhase.SERVING:
            self.phase = DrainPhase.QUIETING
            self._begun = self._last_arrival = now

    def hurry(self) -> None:
        """Whoever asked will not wait (a second signal): no more waiting for quiet."""
        self._hurried = True

    def look(self, now: float, *, arrived: int, in_flight: int, told: bool, left: bool) -> Decision:
        """Decides at `now`; not to be called in SERVING and STOPPED.

        `arrived` counts calls since the server started. `told`: the registry took DRAINING; `left`: it took the
        deregistration.
        """
        if self.phase is DrainPhase.QUIETING:
            return self._quieting(now, arrived, in_flight, told=told)
        if self.phase is DrainPhase.LEAVING and not left and now < (give_up := self._left_at + self._timing.deregister):
            return Look(min(now + _TICK, give_up))
        self.phase = DrainPhase.STOPPING
        return Stop(0.0 if self._hurried else max(self._timing.grace, self._begun + self._timing.timeout - now))

    def stopped(self) -> None:
        """The server has stopped."""
        self.phase = DrainPhase.STOPPED

    def _quieting(self, now: float, arrived: int, in_flight: int, *, told: bool) -> Decision:
        if arrived != self._arrived:
            if self._arrived >= 0:
                self._last_arrival = now
            self._arrived = arrived
        if told and self._told_at is None:
            self._told_at = now
        known_at = self._begun + self._timing.announce if self._told_at is None else self._told_at
        quiet_at = max(known_at, self._last_arrival) + self._timing.quiet
        deadline = self._begun + self._timing.timeout
        if self._hurried or now >= deadline or (now >= quiet_at and in_flight == 0):
            self.phase = DrainPhase.LEAVING
            self._left_at = now
            return Leave()
        return Look(min(now + _TICK, deadline))
