"""What metrics tell of drains."""

from __future__ import annotations

from meshsdk.lifecycle.drain_counts import DrainCounts


def told(counts):
    """Name and labels of every point, with its value."""
    return {(one.name, *point.labels.values()): point.value for one in counts.families() for point in one.points}


def test_a_drain_that_is_under_way():
    """Of several of one application the longest counts."""
    now = [100.0]
    counts = DrainCounts(lambda: now[0])
    counts.began("orders")
    now[0] = 107.0
    counts.began("orders")
    counts.began("carts")
    now[0] = 110.0
    found = told(counts)
    assert {key: value for key, value in found.items() if value} == {
        ("meshsdk.server.draining", "orders"): 10.0,
        ("meshsdk.server.draining", "carts"): 3.0,
    }
    assert found["meshsdk.server.drains", "carts", "timeout"] == 0, "a counter is there before it rises"


def test_how_drains_ended():
    """Quiet ones and those whose timeout came first are counted apart, and are no longer under way."""
    counts = DrainCounts(lambda: 0.0)
    for quiet in (True, False, True):
        counts.ended(counts.began("orders"), quiet=quiet)
    assert told(counts) == {
        ("meshsdk.server.drains", "orders", "quiet"): 2,
        ("meshsdk.server.drains", "orders", "timeout"): 1,
    }
