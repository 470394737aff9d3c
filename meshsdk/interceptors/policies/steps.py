"""The words that policies and drivers exchange (ADR 003).

A policy is a generator: it yields `Attempt` or `Sleep`, is sent the `Outcome` of an attempt (None after a sleep), and
returns when the last outcome is the call's own. `meshsdk.interceptors.drivers` runs it for threads and for asyncio.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attempt:
    """Make an attempt. `previous`: attempts made before that reached a server (A6 `grpc-previous-rpc-attempts`)."""

    previous: int = 0


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait `seconds`, cut short by the call's deadline, then go on."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. `code` is the gRPC status name ("OK", "UNAVAILABLE").

    `unsent`: the request surely never left this process. `committed`: part of the answer has reached the application,
    so that nothing may be tried again. `pushback`: seconds the server asked to wait; negative: it forbade a retry.
    """

    code: str
    unsent: bool = False
    committed: bool = False
    pushback: float | None = None


Steps = Generator[Attempt | Sleep, Outcome | None, None]
