"""Histograms that are appended to by calls and sorted by readers."""

from __future__ import annotations

import threading
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.telemetry.accumulating import Accumulator
from meshsdk.telemetry.families import LATENCY_BOUNDS

BOUNDS = (0.0, 1.0, 5.0)


def test_bounds_are_inclusive():
    """A value that equals a bound counts in that bound's bucket, as OpenTelemetry says."""
    held = Accumulator(BOUNDS)
    for value in (0.0, 0.5, 1.0, 1.5, 5.0, 5.1):
        held.add(value)
    assert held.read().counts == (1, 2, 2, 1)
    assert held.read().total == pytest.approx(13.1)


@given(st.lists(st.floats(0, 200), max_size=1500))
def test_every_value_is_counted_once(values):
    """Whatever the batches, the buckets are those of counting one by one."""
    held = Accumulator(LATENCY_BOUNDS)
    expected = [0] * (len(LATENCY_BOUNDS) + 1)
    for value in values:
        held.add(value)
        expected[bisect_left(LATENCY_BOUNDS, value)] += 1
    assert held.read().counts == tuple(expected)


def test_threads_lose_nothing():
    """Values added by many threads while another reads are all there in the end."""
    held = Accumulator(LATENCY_BOUNDS)
    threads = [threading.Thread(target=lambda: [held.add(1.0) for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    seen = [held.read().count for _ in range(50)]
    for thread in threads:
        thread.join()
    assert held.read().count == 20_000
    assert seen == sorted(seen)


def test_memory_is_bounded_by_the_batch():
    """Values that nobody reads do not pile up."""
    held = Accumulator(BOUNDS)
    for _ in range(10_000):
        held.add(0.5)
    assert len(held._fresh) < 1000
