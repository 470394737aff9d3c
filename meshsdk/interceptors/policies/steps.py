"""The words that policies and drivers exchange (ADR 003).

A policy is a generator: it yields what to do next, is sent what came of it, and returns when the last outcome is the
call's own. `meshsdk.interceptors.drivers` runs it for threads and for asyncio.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attempt:
    """Make an attempt. `previous`: attempts made before that reached a server (A6 `grpc-previous-rpc-attempts`).

    `timeout`: seconds for this attempt alone, None for what is left of the call. `avoid`: addresses not to pick as
    long as another one is connected.
    """

    previous: int = 0
    timeout: float | None = None
    avoid: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait `seconds`, cut short by the call's deadline, then go on."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RejectionInfo:
    """Why a call was refused, for programs: what becomes `google.rpc` details of the status (`rich_status.trailing`).

    `reason`: UPPER_SNAKE_CASE, of ErrorInfo. `retry_after`: seconds, of RetryInfo; None where no wait is known.
    `quota_subject`: what was limited, of QuotaFailure; "" where no quota is. `metadata`: of ErrorInfo.
    """

    reason: str
    retry_after: float | None = None
    quota_subject: str = ""
    quota_description: str = ""
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Reject:
    """End the call without an attempt: `code` is a gRPC status name, `trailing` what its trailing metadata shall be.

    `category`: what refused it, for metrics and `explain` ("fault", "local_rate_limit", "circuit_breaker" ...).
    `info`: the same for programs; whoever ends the call adds it to the trailing metadata.
    """

    code: str
    details: str
    category: str
    trailing: tuple[tuple[str, str | bytes], ...] = ()
    info: RejectionInfo | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. `code` is the gRPC status name ("OK", "UNAVAILABLE").

    `unsent`: the request surely never left this process. `committed`: part of the answer has reached the application,
    so that nothing may be tried again. `pushback`: seconds the server asked to wait; negative: it forbade a retry.
    `address`: of the endpoint, "" if there was none. `timed_out`: the attempt's own timeout ended it, not the call's.
    `headers`: what the server answered with, initial and trailing metadata.
    """

    code: str
    unsent: bool = False
    committed: bool = False
    pushback: float | None = None
    address: str = ""
    timed_out: bool = False
    headers: Sequence[tuple[str, str | bytes]] = ()


Steps = Generator[Attempt | Sleep, Outcome | None, None]
