"""A server in virtual time: arrivals, a gate, a queue, a number of workers. What overload tests run on. No clock."""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field

from meshsdk.interceptors.policies.gate import CallEnd, Gate, GateCall, Passed
from meshsdk.interceptors.policies.steps import Reject


def decision(gate: Gate, call: GateCall) -> Reject | Passed:
    """Runs a gate that neither waits nor asks."""
    try:
        next(gate.enter(call))
    except StopIteration as ended:
        return ended.value
    raise AssertionError("the gate waits")


@dataclass
class Overload:
    """`workers` serve calls of `service` seconds each; a caller gives up after `patience` seconds.

    Work on a call whose caller has gone is work all the same, and no goodput.
    """

    gate: Gate | None
    workers: int
    service: float
    patience: float
    seed: int = 7
    now: float = 0.0
    good: list[float] = field(default_factory=list)  # when calls ended well
    refused: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    _queue: deque = field(default_factory=deque)
    _busy: list = field(default_factory=list)  # heap of (end, number, arrival, passed)
    _number: int = 0

    @property
    def capacity(self) -> float:
        """Calls a second."""
        return self.workers / self.service

    def run(self, rate: float, until: float) -> None:
        """Lets calls arrive at random, `rate` a second on average."""
        draw = random.Random(self.seed)
        arrival = self.now + draw.expovariate(rate)
        while min(arrival, self._next_end()) < until:
            if arrival <= self._next_end():
                self.now = arrival
                self._arrive()
                arrival += draw.expovariate(rate)
            else:
                self._finish()
        self.now = until

    def _next_end(self) -> float:
        return self._busy[0][0] if self._busy else float("inf")

    def _arrive(self) -> None:
        passed = None
        if self.gate is not None:
            passed = decision(self.gate, GateCall("/s/m", (), self.now))
            if isinstance(passed, Reject):
                self.refused.append(self.now)
                return
        self._queue.append((self.now, passed))
        self._serve()

    def _serve(self) -> None:
        while self._queue and len(self._busy) < self.workers:
            arrived, passed = self._queue.popleft()
            self._number += 1
            heapq.heappush(self._busy, (self.now + self.service, self._number, arrived, passed))

    def _finish(self) -> None:
        self.now, _, arrived, passed = heapq.heappop(self._busy)
        taken = self.now - arrived
        (self.good if taken <= self.patience else self.late).append(self.now)
        if passed is not None:
            passed(CallEnd("OK", self.now, taken))
        self._serve()


def rate(times: list[float], begin: float, end: float) -> float:
    """Returns how many of `times` fell into a second between `begin` and `end`."""
    return sum(begin <= at < end for at in times) / (end - begin)
