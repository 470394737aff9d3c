"""A fixed limit of calls that run at one time.

Made for servers, from the limits of code (`@meshsdk.rpc(limit=64)`). No xDS filter says this: what limits a client's
calls to a cluster is its circuit breaker.
"""

from __future__ import annotations

from meshsdk.interceptors.policies.gate import CallEnd, GateCall, Passing
from meshsdk.interceptors.policies.steps import Reject, RejectionInfo


class ConcurrencyGate:
    """At most `limit` calls. `_running` has an entry per call: append, pop and len are atomic, so any thread may."""

    __slots__ = ("_code", "_limit", "_running", "_subject")

    def __init__(self, limit: int, subject: str, code: str = "RESOURCE_EXHAUSTED") -> None:
        """`subject`: what is limited, in words; `code`: the status of a refusal."""
        self._limit = limit
        self._subject = subject
        self._code = code
        self._running: list[None] = []

    def enter(self, _call: GateCall) -> Passing:
        """Refuses the call if as many run as may. Two that race for the last place may both be refused."""
        yield from ()
        self._running.append(None)
        if len(self._running) <= self._limit:
            return self._ended
        self._running.pop()
        details = f"concurrency limit: {self._limit} calls of {self._subject} run, as many as may"
        limit = f"{self._limit} calls at one time"
        return Reject(
            self._code, details, "concurrency", (), RejectionInfo("CONCURRENCY_LIMITED", None, self._subject, limit)
        )

    def _ended(self, _end: CallEnd) -> None:
        self._running.pop()
