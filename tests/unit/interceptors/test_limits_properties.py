"""What holds for limits whatever comes: never more tokens than were filled in, never a limit out of its bounds."""

from __future__ import annotations

from contextlib import nullcontext

from hypothesis import given, settings
from hypothesis import strategies as st

from meshsdk.interceptors.policies.adaptive_concurrency import AdaptiveConcurrencyGate
from meshsdk.interceptors.policies.gate import CallEnd, GateCall
from meshsdk.interceptors.policies.steps import Reject
from meshsdk.interceptors.policies.token_bucket import full
from meshsdk.model.filters import AdaptiveConcurrency, TokenBucket
from tests.unit.interceptors.overload import decision

STEPS = st.lists(st.floats(-1.0, 5.0, allow_nan=False), max_size=60)


@settings(max_examples=60, deadline=None)
@given(most=st.integers(1, 20), fill=st.integers(1, 5), interval=st.floats(0.05, 10.0), steps=STEPS)
def test_a_bucket_never_gives_more_than_it_got(most, fill, interval, steps):
    """Over any times that calls come at, forwards or back: at most what it held and what came since."""
    bucket, now, latest, taken = full(TokenBucket(most, fill, interval), 0.0), 0.0, 0.0, 0
    for step in steps:
        now += step
        latest = max(latest, now)
        taken += bucket.take(now)
        assert taken <= most + latest * fill / interval + 1e-6
        assert bucket.wait() <= interval / fill + 1e-6


@settings(max_examples=60, deadline=None)
@given(
    lowest=st.integers(1, 10),
    most=st.integers(1, 50),
    calls=st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(1e-6, 3.0), st.booleans()), max_size=120),
)
def test_an_adaptive_limit_stays_in_its_bounds(lowest, most, calls):
    """Whatever the latencies: the limit is in its bounds, no more calls run than it says, and each is counted out."""
    config = AdaptiveConcurrency(min_concurrency=lowest, max_limit=most, min_rtt_requests=3, min_rtt_interval=2.0)
    gate = AdaptiveConcurrencyGate(config, lambda: 0.5, nullcontext)
    now, running = 0.0, []
    for wait, taken, end in calls:
        now += wait
        passed = decision(gate, GateCall("/s/m", (), now))
        if not isinstance(passed, Reject):
            running.append(passed)
        if end and running:
            running.pop(0)(CallEnd("OK", now + taken, taken))
        assert min(lowest, most) <= gate.limit <= most
        assert gate.running == len(running)
