"""Counts of calls by place, and what each report tells of them."""

from __future__ import annotations

import threading

from meshsdk.model.resources import Locality
from meshsdk.xds_client.load_counts import LoadCounts, Place

SERVER = "plane:1"
ORDERS = Place((SERVER,), "orders", "", Locality("r", "z"))


def end(tally, status="OK", **flags):
    """Counts a call that did not simply succeed."""
    tally.end(status, **{"cancelled": False, "retried": False, "moved": False, "doubled": False} | flags)


def test_a_report_tells_what_is_new():
    """Each report has the calls since the one before, by cluster and locality; nothing new is no entry."""
    loads = LoadCounts()
    tally = loads.acquire(ORDERS)
    for _ in range(3):
        tally.begin(None)
        tally.succeed()
        tally.leave()
    end(tally, "UNAVAILABLE", retried=True, doubled=True)
    end(tally, moved=True)
    end(tally, "CANCELLED", cancelled=True)
    (load,) = loads.take(SERVER, None)
    assert (load.place, load.succeeded, load.errors, load.issued, load.running) == (ORDERS, 4, 2, 6, 0)
    assert load.named == (
        ("meshsdk.cancelled", 1),
        ("meshsdk.retried", 1),
        ("meshsdk.moved", 1),
        ("meshsdk.doubled", 1),
        ("meshsdk.status.UNAVAILABLE", 1),
    )
    assert loads.take(SERVER, None) == []
    tally.succeed()
    (load,) = loads.take(SERVER, None)
    assert (load.succeeded, load.errors, load.issued, load.named) == (1, 0, 1, ())
    assert (loads.taken(SERVER), loads.taken("other:1")) == (2, 0)  # one of the three had nothing


def test_calls_that_run():
    """A call counts as issued when it begins, as running until it ends; one that went elsewhere stays issued."""
    loads = LoadCounts()
    tally = loads.acquire(ORDERS)
    tally.begin(None)
    (load,) = loads.take(SERVER, None)
    assert (load.issued, load.running, load.succeeded) == (1, 1, 0)
    (load,) = loads.take(SERVER, None)
    assert (load.issued, load.running) == (0, 1)
    tally.moved_away()
    tally.leave()
    (load,) = loads.take(SERVER, None)
    assert (load.issued, load.running, load.succeeded, load.errors) == (0, 0, 0, 0)
    assert loads.take(SERVER, None) == []


def test_end_between_two_reports():
    """A call seen between its last moment as running and its count is not taken back, and not told twice."""
    loads = LoadCounts()
    tally = loads.acquire(ORDERS)
    tally.begin(None)
    assert [load.issued for load in loads.take(SERVER, None)] == [1]
    tally.leave()
    assert [(load.issued, load.running) for load in loads.take(SERVER, None)] == [(0, 0)]
    tally.succeed()
    assert [(load.issued, load.succeeded) for load in loads.take(SERVER, None)] == [(0, 1)]


def test_only_clusters_that_are_asked_for():
    """A server gets its own clusters, and of these only those that it listed; the others wait for their turn."""
    loads = LoadCounts()
    loads.acquire(ORDERS).succeed()
    loads.acquire(Place(("other:1",), "users")).succeed()
    assert loads.take(SERVER, frozenset({"users"})) == []
    assert [load.place.cluster for load in loads.take(SERVER, frozenset({"orders"}))] == ["orders"]
    assert [load.place.cluster for load in loads.take("other:1", None)] == ["users"]


def test_wanted():
    """Only a cluster whose server asked for it makes a report worth opening; calls without an endpoint go along."""
    woken: list[bool] = []
    loads = LoadCounts(lambda target: (SERVER,) if target == "xds:///orders" else ())
    loads.listen(lambda: woken.append(True))
    loads.acquire(Place((), "quiet")).succeed()
    unplaced = loads.of_target("xds:///orders", "orders")
    end(unplaced, "UNAVAILABLE")
    assert not loads.wanted(SERVER)
    assert woken == []
    loads.acquire(ORDERS)
    assert loads.wanted(SERVER)
    assert woken == [True]
    (load,) = loads.take(SERVER, None)
    assert (load.place.unplaced, load.place.cluster, load.errors) == (True, "orders", 1)


def test_released_tallies_go_once_they_were_told():
    """What was counted is told after its cluster has gone, by calls that still ran too; then the tally is forgotten."""
    loads = LoadCounts()
    tally = loads.acquire(ORDERS)
    assert loads.acquire(ORDERS) is tally
    tally.begin(None)
    loads.release(tally)
    loads.release(tally)
    for _ in range(5):
        assert [load.running for load in loads.take(SERVER, None)] == [1]
    tally.succeed()
    tally.leave()
    assert [load.succeeded for load in loads.take(SERVER, None)] == [1]
    for _ in range(3):
        assert loads.take(SERVER, None) == []
    assert not loads.wanted(SERVER)
    assert loads.acquire(ORDERS) is not tally


def test_threads_lose_no_count():
    """Calls of many threads, and reports at the same time, add up to what was called."""
    loads = LoadCounts()
    tally = loads.acquire(ORDERS)
    done = threading.Event()
    told = [0, 0, 0]

    def call():
        for number in range(2_000):
            tally.begin(None)
            if number % 10:
                tally.succeed()
            else:
                end(tally, "ABORTED")
            tally.leave()

    def report():
        while True:
            last = done.is_set()
            for load in loads.take(SERVER, None):
                told[:] = told[0] + load.succeeded, told[1] + load.errors, told[2] + load.issued
            if last:
                return

    threads = [threading.Thread(target=call) for _ in range(4)]
    reporting = threading.Thread(target=report)
    for thread in (*threads, reporting):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    reporting.join()
    assert told == [7_200, 800, 8_000]
