"""Load reports as clients send them, ours and stock ones."""

from __future__ import annotations

import pytest
from envoy.service.load_stats.v3 import lrs_pb2

from controlplane.loads.buckets import Counted
from controlplane.server import load_wire
from controlplane.server.wire import Refused


def message(**more) -> lrs_pb2.LoadStatsRequest:
    """A report of two localities of one cluster."""
    made = lrs_pb2.LoadStatsRequest(**more)
    stats = made.cluster_stats.add(cluster_name="orders")
    first = stats.upstream_locality_stats.add(total_successful_requests=5, total_error_requests=4)
    first.load_metric_stats.add(metric_name="meshsdk.cancelled", num_requests_finished_with_metric=1)
    first.load_metric_stats.add(metric_name="meshsdk.moved", num_requests_finished_with_metric=2)
    first.load_metric_stats.add(metric_name="meshsdk.status.ABORTED", num_requests_finished_with_metric=2)
    first.load_metric_stats.add(metric_name="meshsdk.status.MADE_UP", num_requests_finished_with_metric=1)
    first.load_metric_stats.add(metric_name="something.else", num_requests_finished_with_metric=9)
    stats.upstream_locality_stats.add(total_successful_requests=1)
    return made


def test_counts():
    """Localities are summed up; cancelled calls are no failures, and drops are; foreign metrics are left alone."""
    made = message()
    made.cluster_stats.add(cluster_name="users", total_dropped_requests=3)
    _, counted = load_wire.read(made.SerializeToString())
    assert counted == {
        "orders": Counted(6, 3, 1, moved=2, statuses={"ABORTED": 2, "UNKNOWN": 1}),
        "users": Counted(failed=3),
    }


def test_marks_of_our_own_client():
    """The process behind a stream, and the mark of its last report."""
    made = lrs_pb2.LoadStatsRequest()
    assert (load_wire.process_of(made.node), load_wire.is_last(made.node)) == ("", False)
    made.node.metadata.update({"meshsdk.process": "p", "meshsdk.last_report": True})
    node, _ = load_wire.read(made.SerializeToString())
    assert (load_wire.process_of(node), load_wire.is_last(node), load_wire.number_of(node)) == ("p", True, None)


@pytest.mark.parametrize(("told", "number"), [(0, 0), (7, 7), (-1, None), (1e300, None), (float("nan"), None)])
def test_number_of_a_report(told, number):
    """The number that our own client gives a report; None for what is none."""
    made = lrs_pb2.LoadStatsRequest()
    made.node.metadata.update({"meshsdk.report_number": told})
    assert load_wire.number_of(made.node) == number


def _too_many() -> bytes:
    made = lrs_pb2.LoadStatsRequest()
    for _ in range(10_001):
        made.cluster_stats.add()
    return made.SerializeToString()


def _long_name() -> bytes:
    made = lrs_pb2.LoadStatsRequest()
    made.cluster_stats.add(cluster_name="x" * 1_025)
    return made.SerializeToString()


def _absurd() -> bytes:
    made = message()
    made.cluster_stats[0].upstream_locality_stats[0].total_error_requests = 2**64 - 1
    return made.SerializeToString()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\xff\xff", "not a LoadStatsRequest"),
        (_too_many(), "10001 clusters and localities"),
        (_long_name(), "name of 1025 characters"),
        (_absurd(), "calls in one report"),
    ],
)
def test_refused(raw, words):
    """What is no report, or beyond a limit, is refused in words."""
    with pytest.raises(Refused, match=words):
        load_wire.read(raw)


def test_order():
    """A client is asked for all clusters, or for a list of them."""
    every = lrs_pb2.LoadStatsResponse.FromString(load_wire.order(5.0, None))
    assert (every.send_all_clusters, list(every.clusters), every.load_reporting_interval.seconds) == (True, [], 5)
    some = lrs_pb2.LoadStatsResponse.FromString(load_wire.order(2.5, ("a", "b")))
    assert (some.send_all_clusters, list(some.clusters)) == (False, ["a", "b"])
    assert some.load_reporting_interval.ToMilliseconds() == 2_500
