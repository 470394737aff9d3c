"""Counts in buckets of time: sums of a span, merging with age, and the bound."""

from __future__ import annotations

from controlplane.loads.buckets import Buckets, Counted

A, B = ("web-1", "orders"), ("web-2", "orders|v1")
NOON = 1_000_000_200.0  # a multiple of 300


def test_sums_of_a_span():
    """A span sums up the buckets that it touches, and says where those begin and end."""
    buckets = Buckets(NOON)
    buckets.add(NOON + 1, A, Counted(succeeded=5))
    buckets.add(NOON + 9, A, Counted(succeeded=1, failed=2, statuses={"UNAVAILABLE": 2}))
    buckets.add(NOON + 12, A, Counted(failed=1, statuses={"ABORTED": 1}))
    buckets.add(NOON + 13, B, Counted(retried=1, moved=2, doubled=3, cancelled=4))
    found, begin, end = buckets.between(NOON + 5, NOON + 11)
    assert (begin, end) == (NOON, NOON + 20)
    assert found[A] == Counted(6, 3, statuses={"UNAVAILABLE": 2, "ABORTED": 1})
    assert found[B] == Counted(cancelled=4, retried=1, moved=2, doubled=3)
    assert buckets.between(NOON + 5, NOON + 9)[0] == {A: Counted(6, 2, statuses={"UNAVAILABLE": 2})}
    assert buckets.between(NOON + 20, NOON + 30)[0] == {}


def test_clock_that_is_set_back():
    """Counts that come in the past, because the clock was set, are booked all the same."""
    buckets = Buckets(NOON)
    buckets.add(NOON + 50, A, Counted(1))
    buckets.add(NOON + 5, A, Counted(1))
    assert buckets.between(NOON, NOON + 60)[0] == {A: Counted(2)}


def test_old_buckets_are_merged():
    """After an hour buckets are five minutes wide; nothing is lost by it."""
    buckets = Buckets(NOON)
    for number in range(0, 7_200, 10):
        buckets.add(NOON + number, A, Counted(1, failed=1, statuses={"INTERNAL": 1}))
    assert len(buckets) < 2 * (12 + 1 + 360 + 30)
    found, begin, end = buckets.between(NOON, NOON + 7_200)
    assert (found, begin, end) == ({A: Counted(720, 720, statuses={"INTERNAL": 720})}, NOON, NOON + 7_200)
    assert buckets.between(NOON + 310, NOON + 320) == (
        {A: Counted(30, 30, statuses={"INTERNAL": 30})},
        NOON + 300,
        NOON + 600,
    )
    assert buckets.between(NOON + 7_000, NOON + 7_010)[1:] == (NOON + 7_000, NOON + 7_010)
    assert buckets.kept_since == NOON


def test_a_day_is_kept():
    """What is older than a day goes, and the buckets say since when they know."""
    buckets = Buckets(NOON)
    buckets.add(NOON, A, Counted(1))
    buckets.add(NOON + 40_000, A, Counted(1))
    buckets.add(NOON + 86_400 + 300, B, Counted(1))
    assert buckets.kept_since == NOON + 300  # it had been merged into five minutes
    assert buckets.between(0, NOON + 100_000)[0] == {A: Counted(1), B: Counted(1)}


def test_bound():
    """Beyond the bound the oldest buckets go first, also where one bucket alone would be too much."""
    buckets = Buckets(NOON, max_rows=100)
    for number in range(250):
        buckets.add(NOON + number * 10, (f"node-{number}", "orders"), Counted(1))
    assert len(buckets) <= 101
    assert buckets.kept_since >= NOON + 1_490
    flood = Buckets(NOON, max_rows=100)
    for number in range(1_000):
        flood.add(NOON + 1, (f"node-{number}", "orders"), Counted(1))
        assert len(flood) <= 201
