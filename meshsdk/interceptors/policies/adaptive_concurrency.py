"""Adaptive concurrency: refuses calls beyond as many as can run without waiting for one another.

Made by `gates` for clients, and for servers from the limits of code. Counts the calls that run; what their number may
be is the `gradient`'s to learn. Calls whose answer is a stream pass: a watch that idles for an hour is no work, and its
length no latency, so streams that counted would take the places of calls for good. Keeps no clock, no thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from meshsdk.interceptors.policies.gate import CallEnd, GateCall, NewGuard, Passing
from meshsdk.interceptors.policies.gradient import Gradient
from meshsdk.interceptors.policies.steps import Reject, RejectionInfo
from meshsdk.model.filters import AdaptiveConcurrency

# These answers come without the work having been done, or tell of the caller: they are no sign of how fast work is.
_NO_SAMPLE = frozenset(("", "CANCELLED", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED", "UNAUTHENTICATED"))


class AdaptiveConcurrencyGate:
    """One adaptive limit. `_running` has an entry per call: append, pop and len are atomic, so any thread may."""

    __slots__ = ("_config", "_gradient", "_guard", "_pressure", "_running")

    def __init__(
        self,
        config: AdaptiveConcurrency,
        draw: Callable[[], float],
        guard: NewGuard,
        pressure: Callable[[], float] | None = None,
    ) -> None:
        """`pressure`: how overloaded the process is by its own signals; above 1, the limit is divided by it."""
        self._config = config
        self._gradient = Gradient(config, draw)
        self._guard = guard()
        self._pressure = pressure
        self._running: list[None] = []

    @property
    def limit(self) -> int:
        """How many calls may run now."""
        limit = self._gradient.limit
        if self._pressure is not None and (pressure := self._pressure()) > 1.0:
            return min(limit, max(self._config.min_concurrency, int(limit / pressure)))
        return limit

    @property
    def running(self) -> int:
        """How many of the calls that count run now."""
        return len(self._running)

    def enter(self, call: GateCall) -> Passing:
        """Refuses the call if as many run as may; never one whose answer is a stream."""
        yield from ()
        if call.streamed:
            return None
        gradient = self._gradient
        if call.now >= gradient.due:
            with self._guard:
                gradient.tick(call.now)
        self._running.append(None)
        count, limit = len(self._running), self.limit
        if count > limit:
            self._running.pop()
            gradient.peak = max(gradient.peak, limit)
            return self._refusal(limit)
        gradient.peak = max(gradient.peak, count)
        return partial(self._ended, call.now)

    def _ended(self, began: float, end: CallEnd) -> None:
        self._running.pop()
        if end.code in _NO_SAMPLE:
            return
        if self._gradient.sample(end.now - began, end.now):
            with self._guard:
                self._gradient.settle(end.now)

    def _refusal(self, limit: int) -> Reject:
        info = RejectionInfo("CONCURRENCY_LIMITED", metadata=(("limit", str(limit)),))
        details = f"adaptive concurrency: {limit} calls run, as many as can without waiting for one another"
        return Reject(self._config.status, details, "adaptive_concurrency", (), info)
