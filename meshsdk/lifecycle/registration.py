"""Keeps one instance in a registry: a state machine that says what to ask of the registry next, and when.

Driven by `keeper` (a thread) with results and times; no clock, no threads, no I/O here. What the application wants (its
state, or to be gone) is kept through any outage and brought about as soon as the registry answers.

    ABSENT --registered--> HELD --lapsed--> ABSENT;   any --leave--> LEAVING --deregistered--> GONE
    The revision is published before the instance first points at it, and anew after a lapse: a registry that forgot
    the lease may have forgotten the revision. A failed publication does not keep the instance out.
    What changes beside the state (labels, the moment it came up) is told by registering again, under the same id.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from meshsdk.discovery.backoff import delay
from meshsdk.discovery.registry import Lease
from meshsdk.model.instance import Instance, InstanceState, Revision


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish the revision."""

    revision: Revision


@dataclass(frozen=True, slots=True)
class Register:
    """Register the instance, in the state it has here; answer with the lease."""

    instance: Instance
    ttl: float


@dataclass(frozen=True, slots=True)
class Renew:
    """Renew the lease; answer with the lease."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class SetState:
    """Tell the registry the state."""

    lease: Lease
    state: InstanceState


@dataclass(frozen=True, slots=True)
class Deregister:
    """Give the lease back."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing to do before `until`, unless `want` or `leave` is called."""

    until: float


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing is registered and nothing will be."""


Step = Publish | Register | Renew | SetState | Deregister
Action = Step | Pause | Gone


class Change(enum.Enum):
    """What a result changed, for the log: each outage is told once when it begins and once when it ends."""

    NONE = "none"
    REGISTERED = "registered"
    LAPSED = "lapsed"
    LOST = "lost"
    RECOVERED = "recovered"
    UNPUBLISHED = "unpublished"


class Registration:
    """One instance's registration. Guarded by the keeper's lock."""

    def __init__(self, instance: Instance, revision: Revision | None, ttl: float, draw: Callable[[], float]) -> None:
        """`instance.state` is what is wanted first; `ttl` in seconds; `draw` in [0, 1) spreads retries."""
        self._instance = instance
        self._revision = revision
        self._ttl = ttl
        self._draw = draw
        self._wanted = instance.state
        self._leaving = False
        self._published = revision is None
        self._lease: Lease | None = None
        self._told: InstanceState | None = None  # the state the registry holds under the lease
        self._held = instance  # what else it holds under the lease; its state is that of `_instance`
        self._renew_at = 0.0
        self._retry_at = 0.0
        self._failures = 0
        self._publish_at = 0.0
        self._publication_lost = False  # told already
        self._busy = False  # a step was given out and not answered

    @property
    def told(self) -> InstanceState | None:
        """The state that the registry holds; None while nothing is registered."""
        return self._told

    @property
    def gone(self) -> bool:
        """Whether `leave` is done."""
        return self._leaving and self._lease is None and not self._busy

    def want(self, state: InstanceState, now: float) -> None:
        """The application's state changed: tell the registry, at once even in the middle of a backoff."""
        if state is not self._wanted:
            self._wanted = state
            self._retry_at = now

    def amend(self, labels: Mapping[str, str], started_at: float, now: float) -> None:
        """The instance has other labels now, or came up at another moment (unix seconds); its state stays."""
        amended = replace(self._instance, labels=labels, started_at=started_at)
        if amended != self._instance:
            self._instance = amended
            self._retry_at = now

    def leave(self, now: float) -> None:
        """The instance ends: take it out."""
        self._leaving = True
        self._retry_at = now

    def next(self, now: float) -> Action:
        """Says what to do at `now`; a step's outcome is told by `done` or `failed` before the next is asked for."""
        action = self._choose(now)
        self._busy = not isinstance(action, (Pause, Gone))
        return action

    def _choose(self, now: float) -> Action:
        if self._leaving and self._lease is None:
            return Gone()
        if now < self._retry_at:
            return Pause(self._retry_at)
        if self._leaving and self._lease is not None:
            return Deregister(self._lease)
        if self._revision is not None and not self._published and now >= self._publish_at:
            return Publish(self._revision)
        if self._lease is None or self._held != self._instance:
            return Register(replace(self._instance, state=self._wanted), self._ttl)
        if self._told is not self._wanted:
            return SetState(self._lease, self._wanted)
        if now >= self._renew_at:
            return Renew(self._lease)
        return Pause(self._renew_at if self._published else min(self._renew_at, self._publish_at))

    def done(self, step: Step, lease: Lease | None, now: float) -> Change:
        """The registry did `step`; `lease` is its answer to Register and Renew."""
        recovered = self._failures > 0
        self._failures = 0
        self._busy = False
        match step:
            case Publish():
                self._published = True
                self._publication_lost = False
            case Register(instance=instance):
                again = self._lease is not None
                self._hold(lease, now)
                self._told = instance.state
                self._held = replace(instance, state=self._instance.state)
                if not again:
                    return Change.REGISTERED
            case Renew():
                self._hold(lease, now)
            case SetState(state=state):
                self._told = state
            case Deregister():
                self._lease = self._told = None
        return Change.RECOVERED if recovered else Change.NONE

    def failed(self, step: Step, *, lapsed: bool, now: float) -> Change:
        """`step` failed; `lapsed`: because the registry does not know the lease."""
        self._busy = False
        if lapsed:
            self._lease = self._told = None
            self._published = self._revision is None
            self._publish_at = self._retry_at = now
            return Change.LAPSED
        if isinstance(step, Publish):
            self._publish_at = now + self._ttl / 3
            told, self._publication_lost = self._publication_lost, True
            return Change.NONE if told else Change.UNPUBLISHED
        self._failures += 1
        self._retry_at = now + delay(self._failures, self._draw())
        return Change.LOST if self._failures == 1 else Change.NONE

    def _hold(self, lease: Lease | None, now: float) -> None:
        if lease is not None:
            self._lease = lease
        # A third of the lease: two renewals may fail before peers lose sight of the instance.
        self._renew_at = now + (self._lease.ttl if self._lease else self._ttl) / 3
