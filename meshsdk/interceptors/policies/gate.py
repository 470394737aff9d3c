"""Gates: what a call passes before its first attempt, in the order of the listener's filters.

A gate is a filter as calls meet it (fault injection, rate limits, adaptive concurrency, admission control). The channel
compiles the gates of a route from its filters; servers have gates too. Gates keep no clock and do no I/O: `now` comes
with the call, and who needs an answer from elsewhere yields a `Consult`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from meshsdk.interceptors.policies.steps import Reject, Sleep

Metadata = Sequence[tuple[str, str | bytes]]
Descriptor = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class GateCall:
    """What a gate knows of a call. `now`: monotonic seconds. `left`: seconds to the deadline, None without one.

    `metadata`: lower-case names. `cluster`: that the route chose ("" at a server). `app`: the caller's application.
    `streamed`: its answer is a stream, which runs as long as both sides like.
    """

    method: str
    metadata: Metadata
    now: float
    left: float | None = None
    cluster: str = ""
    app: str = ""
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class Consult:
    """Ask a rate limit service (`envoy.service.ratelimit.v3.RateLimitService.ShouldRateLimit`), then go on.

    The driver sends a `Verdict`. `cluster` or `target` says where, as in `model.filters.RateLimitService`.
    """

    domain: str
    descriptors: tuple[Descriptor, ...]
    timeout: float
    cluster: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The service's answer: `allowed`, or None where there was none, and `problem` says why.

    `retry_after` seconds until the limit that refused has room again, None if it did not say. `limit`: in words.
    """

    allowed: bool | None
    problem: str = ""
    retry_after: float | None = None
    limit: str = ""


@dataclass(frozen=True, slots=True)
class CallEnd:
    """How a call that passed a gate ended: gRPC status name, monotonic seconds now, seconds since it passed.

    `code` "": it was given up before it began, and says nothing; then no gate takes its guard.
    `streamed`: its answer was a stream, of which the length says nothing about the server's latency.
    """

    code: str
    now: float
    seconds: float
    streamed: bool = False


NewGuard = Callable[[], AbstractContextManager[object]]
"""Makes a mutex (`threading.Lock`): policies import no threads. Held for a few instructions, never while waiting."""

Passed = Callable[[CallEnd], None] | None
"""What a gate wants to be told at the call's end, if anything. Called once, on any thread; must not block."""

Passing = Generator[Sleep | Consult, Verdict | None, "Reject | Passed"]
"""Yields waits and questions, is sent None after a wait and the verdict after a question; returns the decision."""


class Gate(Protocol):
    """One filter of one route. Safe from any thread; shared by all calls that meet the same configuration."""

    def enter(self, call: GateCall) -> Passing:
        """Decides whether a call goes on."""
        ...
