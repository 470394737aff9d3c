"""What a façade knows of one call besides its bytes, and how it reads the end of an attempt.

Shared by `sync` and `aio`; holds no I/O.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import grpc

from meshsdk.channel.course import Course
from meshsdk.channel.failure import never_sent
from meshsdk.channel.pool import Connection
from meshsdk.channel.stack import Metadata
from meshsdk.interceptors.policies.steps import Attempt, Outcome, Sleep
from meshsdk.model.resources import Forward
from meshsdk.xds_client.load_counts import Tally

_PUSHBACK = "grpc-retry-pushback-ms"  # gRFC A6
_PREVIOUS = "grpc-previous-rpc-attempts"  # gRFC A6


class CallOptions(NamedTuple):
    """What the application passed beside the request, as grpc defines it; `timeout` in seconds. One is made a call."""

    timeout: float | None = None
    metadata: Metadata | None = None
    credentials: grpc.CallCredentials | None = None
    wait_for_ready: bool | None = None
    compression: grpc.Compression | None = None


class EndsAttempts(Protocol):
    """A call that outlives the method that made it: `MeshCall` of either façade."""

    def ended(self, inner: Any, connection: Connection) -> None:
        """Decides what follows an attempt."""


class AttemptEnd:
    """Told by grpc when an attempt has ended. Holds the call weakly: a call that the application drops is cancelled.

    grpc.aio tells it twice where a write failed before the status came: INTERNAL first, then the status.
    """

    __slots__ = ("_call", "_connection", "_counted", "_course", "_tally")

    def __init__(self, call: EndsAttempts, connection: Connection, tally: Tally, course: Course) -> None:
        """Made as the attempt begins on `connection`, counted in `tally`."""
        self._call = weakref.ref(call)
        self._connection = connection
        self._tally = tally
        self._course = course
        self._counted = True

    def __call__(self, inner: Any) -> None:
        """Ends the attempt's counts as running, then asks the call what follows."""
        if self._counted:
            self._counted = False
            self._connection.end()
            self._tally.leave()
        call = self._call()
        if call is not None:
            call.ended(inner, self._connection)
        else:
            self._course.end("CANCELLED", cancelled=True)


def shorter(timeout: float | None, forward: Forward) -> float | None:
    """Returns the call's timeout in seconds under the route's cap (gRFC A31); None: unlimited."""
    cap = forward.max_duration
    if forward.header_max_duration is not None and timeout is not None:
        cap = forward.header_max_duration
    if not cap:
        return timeout
    return cap if timeout is None else min(timeout, cap)


def outcome(
    code: grpc.StatusCode,
    details: str | None,
    trailing: Sequence[Any] | None,
    connection: Connection,
    *,
    committed: bool,
) -> Outcome:
    """Reads the end of an attempt on `connection` into the policies' words."""
    unsent = never_sent(code, details, connection.where)
    return Outcome(code.name, unsent=unsent, committed=committed, pushback=_pushback(trailing))


def _pushback(trailing: Sequence[Any] | None) -> float | None:
    for key, value in trailing or ():
        if key == _PUSHBACK:
            try:
                return int(value) / 1000
            except ValueError:
                return -1.0  # A6: a value that is not an integer forbids the retry
    return None


def too_late(step: Attempt | Sleep, deadline: float | None) -> bool:
    """Tells whether a wait would outlast the call's `deadline` (monotonic): then the error that it has is its end."""
    return isinstance(step, Sleep) and deadline is not None and time.monotonic() + step.seconds >= deadline


def with_previous(metadata: Metadata | None, attempt: Attempt) -> Metadata | None:
    """Adds the count of attempts made before (A6), if there were any."""
    if not attempt.previous:
        return metadata
    return (*(metadata or ()), (_PREVIOUS, str(attempt.previous)))
