"""Admission control: refuses a share of the calls that grows with the share of calls that fail.

Made by `gates` for clients, and for servers from the limits of code. Follows Envoy's `admission_control`: of `total`
calls in the window of which `good` went well, a call is refused with probability
`((total - good / threshold) / (total + 1)) ** (1 / aggression)`, at most `max_refused`. Refused calls are not counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from meshsdk.interceptors.policies.gate import CallEnd, GateCall, NewGuard, Passing
from meshsdk.interceptors.policies.steps import Reject, RejectionInfo
from meshsdk.model.filters import AdmissionControl


@dataclass(slots=True)
class _Second:
    began: float
    total: int = 0
    good: int = 0


class AdmissionGate:
    """One admission control filter. Thread rule: the history and its sums are guarded by `_guard`."""

    __slots__ = ("_config", "_draw", "_good", "_guard", "_history", "_total")

    def __init__(self, config: AdmissionControl, draw: Callable[[], float], guard: NewGuard) -> None:
        """`draw`: floats in [0, 1). Raises ValueError for numbers that cannot be used."""
        if not (config.window > 0 and config.threshold > 0 and config.aggression > 0):
            raise ValueError("admission control: window, threshold and aggression must be more than 0")
        self._config = config
        self._draw = draw
        self._guard = guard()
        self._history: deque[_Second] = deque()  # at most one entry a second of the window
        self._total = 0
        self._good = 0

    def enter(self, call: GateCall) -> Passing:
        """Refuses the call with the probability that the last calls give."""
        yield from ()
        with self._guard:
            probability = self._probability(call.now)
        if probability <= 0.0 or self._draw() >= probability:
            return self._ended
        details = f"admission control: {probability:.0%} of the calls are refused, as so many of the last ones failed"
        info = RejectionInfo("ADMISSION_DENIED", metadata=(("probability", f"{probability:.3f}"),))
        return Reject("UNAVAILABLE", details, "admission_control", (), info)

    def _ended(self, end: CallEnd) -> None:
        if not end.code:
            return
        with self._guard:
            self._forget(end.now)
            if not self._history or end.now - self._history[-1].began >= 1.0:
                self._history.append(_Second(end.now))
            newest = self._history[-1]
            newest.total += 1
            self._total += 1
            if end.code in self._config.good:
                newest.good += 1
                self._good += 1

    def _probability(self, now: float) -> float:
        config = self._config
        self._forget(now)
        if not self._history or self._total / max(1.0, now - self._history[0].began) < config.rps_threshold:
            return 0.0
        excess = (self._total - self._good / config.threshold) / (self._total + 1)
        if excess <= 0.0:
            return 0.0
        return float(min(excess ** (1.0 / config.aggression), config.max_refused))

    def _forget(self, now: float) -> None:
        while self._history and now - self._history[0].began >= self._config.window:
            oldest = self._history.popleft()
            self._total -= oldest.total
            self._good -= oldest.good
