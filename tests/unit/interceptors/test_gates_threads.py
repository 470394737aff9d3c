"""Gates are shared by all calls: what they count is right whatever threads come at once."""

from __future__ import annotations

import random
import threading
from concurrent import futures

import pytest

from meshsdk.interceptors.policies import gates
from meshsdk.interceptors.policies.adaptive_concurrency import AdaptiveConcurrencyGate
from meshsdk.interceptors.policies.concurrency import ConcurrencyGate
from meshsdk.interceptors.policies.gate import CallEnd, Gate, GateCall
from meshsdk.interceptors.policies.steps import Reject
from meshsdk.model.filters import AdaptiveConcurrency, LocalRateLimit, TokenBucket
from tests.unit.interceptors.overload import decision

THREADS = 8
CALLS = 400  # of each thread


def hammer(gate: Gate, *, end: bool) -> tuple[int, int]:
    """Calls from all threads at once; returns how many went on, and how many at most at one time."""
    running: list[None] = []
    most = [0]
    start = threading.Barrier(THREADS)

    def caller() -> int:
        allowed = 0
        start.wait(20)
        for number in range(CALLS):
            passed = decision(gate, GateCall("/s/m", (), number / 1000))
            if isinstance(passed, Reject):
                continue
            allowed += 1
            running.append(None)
            most[0] = max(most[0], len(running))
            running.pop()
            if end and passed is not None:
                passed(CallEnd("OK", number / 1000 + 0.001, 0.001))
        return allowed

    with futures.ThreadPoolExecutor(THREADS) as pool:
        asked = [pool.submit(caller) for _ in range(THREADS)]
        return sum(one.result(20) for one in asked), most[0]


def test_tokens_are_given_once():
    """A bucket of a thousand tokens that fills in no time of the test lets a thousand calls go on."""
    bucket = TokenBucket(1000, 1, 1e9)
    gate = gates.make(LocalRateLimit(bucket), (), random.random, threading.Lock)
    assert gate is not None
    assert hammer(gate, end=False)[0] == 1000


@pytest.mark.parametrize("limit", [1, 3])
def test_places_are_never_more_than_there_are(limit):
    """At no time do more calls run than may, and all places are free in the end."""
    gate = ConcurrencyGate(limit, "m")
    allowed, most = hammer(gate, end=True)
    assert allowed > 0
    assert most <= limit
    held = [decision(gate, GateCall("/s/m", (), 9.0)) for _ in range(limit + 1)]
    assert [isinstance(one, Reject) for one in held] == [False] * limit + [True]


def test_an_adaptive_limit_counts_right():
    """After all calls have ended none is counted as running."""
    gate = AdaptiveConcurrencyGate(AdaptiveConcurrency(max_limit=4), random.random, threading.Lock)
    allowed, most = hammer(gate, end=True)
    assert allowed > 0
    assert most <= 4
    assert gate.running == 0
