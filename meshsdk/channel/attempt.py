"""What a façade knows of one call besides its bytes, and how it reads the end of an attempt.

Shared by `sync` and `aio`; holds no I/O.
"""

from __future__ import annotations

import re
import time
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import grpc

from meshsdk.channel.breakers import Breaker
from meshsdk.channel.course import Course
from meshsdk.channel.failure import never_sent, not_by_server
from meshsdk.channel.pool import PooledBackend
from meshsdk.channel.stack import Metadata
from meshsdk.interceptors.policies.steps import Attempt, Outcome, Sleep
from meshsdk.model.resources import Forward

_PUSHBACK = "grpc-retry-pushback-ms"  # gRFC A6: a signed 32-bit integer
_INTEGER = re.compile("-?[0-9]{1,10}")
_I32 = 2**31
_FORBIDDEN = -1000  # ms; what is no such integer forbids the retry, and so does any negative one
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

    def ended(self, inner: Any, backend: PooledBackend) -> None:
        """Decides what follows an attempt."""


class Counted:
    """An attempt that runs, where it is counted as that. Owned by whoever makes the attempt; ended once."""

    __slots__ = ("_breaker", "_running", "backend", "connection", "tally")

    def __init__(self, backend: PooledBackend, breaker: Breaker | None) -> None:
        """The attempt begins, at `breaker` it has begun."""
        self.backend = backend
        self.connection = backend.connection
        self.tally = backend.tally
        self._breaker = breaker
        self._running = True
        self.connection.begin(None)
        self.tally.begin(None)

    def end(self) -> None:
        """The attempt has ended; only the first end counts."""
        if self._running:
            self._running = False
            self.tally.leave()
            self.connection.end()
            if self._breaker is not None:
                self._breaker.leave()


class AttemptEnd:
    """Told by grpc when an attempt has ended. Holds the call weakly: a call that the application drops is cancelled.

    grpc.aio tells it twice where a write failed before the status came: INTERNAL first, then the status.
    """

    __slots__ = ("_call", "_counted", "_course")

    def __init__(self, call: EndsAttempts, counted: Counted, course: Course) -> None:
        """Made as the attempt begins."""
        self._call = weakref.ref(call)
        self._counted = counted
        self._course = course

    def __call__(self, inner: Any) -> None:
        """Ends the attempt's counts as running, then asks the call what follows."""
        self._counted.end()
        call = self._call()
        if call is not None:
            call.ended(inner, self._counted.backend)
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


class Ended(NamedTuple):
    """What an attempt ended with. `initial`: metadata, only where the policy asks for it.

    `timed_out`: the attempt had a timeout of its own, which is what DEADLINE_EXCEEDED means then.
    """

    code: grpc.StatusCode
    details: str | None
    trailing: Sequence[Any]
    initial: Sequence[Any] = ()
    timed_out: bool = False


def ended_with(ended: Any, *, initial: bool, timed_out: bool) -> Ended:
    """Reads a call, or an error, of grpcio's synchronous side that is over."""
    headers = _arrived_headers(ended) if initial else ()
    return Ended(ended.code(), ended.details(), ended.trailing_metadata() or (), headers, timed_out)


def _arrived_headers(ended: Any) -> Sequence[Any]:
    """Returns the initial metadata of a call that is over, as far as it has come.

    `initial_metadata()` would wait for it, on the very thread of grpc's that brings it; where grpc's inside looks
    different, policies judge by the trailing metadata alone.
    """
    try:
        return ended._state.initial_metadata or ()  # noqa: SLF001 - see above
    except AttributeError:
        return ()


def outcome(ended: Ended, backend: PooledBackend, *, committed: bool, told: bool = False) -> Outcome:
    """Reads the end of an attempt into the policies' words, and tells the endpoint's watch, unless it was told."""
    code = ended.code
    timed_out = ended.timed_out and code is grpc.StatusCode.DEADLINE_EXCEEDED
    unsent = never_sent(code, ended.details, backend.connection.where)
    if not told:
        tell(backend, code.name, ended.trailing, local_origin=unsent or not_by_server(code, ended.details))
    return Outcome(
        code.name,
        unsent=unsent,
        committed=committed,
        pushback=_pushback(ended.trailing),
        address=backend.endpoint.address,
        timed_out=timed_out,
        headers=(*ended.initial, *ended.trailing) if ended.initial or ended.trailing else (),
    )


def tell(backend: PooledBackend, code: str, trailing: Sequence[Any], *, local_origin: bool = False) -> None:
    """Tells the watch of an endpoint, if it has one, how an attempt ended (outlier ejection, load by ORCA)."""
    watch = backend.watch
    if watch is None:
        return
    if code == "OK":
        watch.succeeded()
    else:
        watch.failed(code, local_origin=local_origin)
    if trailing:
        watch.reported(trailing)


def _pushback(trailing: Sequence[Any] | None) -> float | None:
    for key, value in trailing or ():
        if key == _PUSHBACK:
            milliseconds = int(value) if _INTEGER.fullmatch(value) else _FORBIDDEN
            return (milliseconds if -_I32 <= milliseconds < _I32 else _FORBIDDEN) / 1000
    return None


def too_late(step: Attempt | Sleep, deadline: float | None) -> bool:
    """Tells whether a wait would outlast the call's `deadline` (monotonic): then the error that it has is its end."""
    return isinstance(step, Sleep) and deadline is not None and time.monotonic() + step.seconds >= deadline


def with_previous(metadata: Metadata | None, attempt: Attempt) -> Metadata | None:
    """Adds the count of attempts made before (A6), if there were any."""
    if not attempt.previous:
        return metadata
    return (*(metadata or ()), (_PREVIOUS, str(attempt.previous)))
