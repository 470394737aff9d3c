"""The traffic table of `meshctl status`."""

from __future__ import annotations

from controlplane.loads.book import Page
from controlplane.loads.buckets import Counted
from controlplane.loads.traffic import traffic


def page(counted, seconds=60.0):
    """A page of some seconds."""
    return Page(0.0, seconds, 0.0, counted, (), ())


def test_sums_by_service():
    """Subsets and clients of one service are one row; the busiest comes first; cancelled calls are no failures."""
    rows = traffic(
        page(
            {
                ("web-1", "orders|v1"): Counted(succeeded=80, failed=10, cancelled=5, retried=3),
                ("web-2", "orders|v2"): Counted(succeeded=10, moved=2),
                ("web-1", "carts"): Counted(cancelled=1),
            }
        )
    )
    assert [(row["service"], row["clients"], row["calls"], row["success"]) for row in rows] == [
        ("orders", 2, 105, 0.9),
        ("carts", 1, 1, 1.0),
    ]
    assert (rows[0]["per_second"], rows[0]["failed"], rows[0]["retried"], rows[0]["moved"]) == (1.8, 10, 3, 2)


def test_more_services_than_are_listed():
    """Beyond a hundred the others are summed up in a row, and no call is lost in it."""
    rows = traffic(page({("web", f"s{number:03}"): Counted(succeeded=2, failed=1) for number in range(130)}))
    assert len(rows) == 101
    assert rows[-1]["service"] == "(30 more)"
    assert (rows[-1]["calls"], rows[-1]["failed"]) == (90, 30)
    assert sum(row["calls"] for row in rows) == 390
