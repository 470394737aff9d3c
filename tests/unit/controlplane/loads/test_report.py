"""The report of a span: sums, the statement, and what makes it doubtful."""

from __future__ import annotations

import pytest

from controlplane.loads.book import LoadBook
from controlplane.loads.buckets import Counted
from controlplane.loads.report import conclude, facts, service_of
from controlplane.loads.roll import Stay

NOW = 1_000_000_200.0


def report(book: LoadBook, app="", since=NOW, until=NOW + 60, now=NOW + 100, concerns=None, replicas=1):
    """The report of one control plane."""
    return conclude([("", facts(book.page(since, until), app, since, until, now, concerns or {}, replicas))])


def reporting(book: LoadBook, stream: int, node: str, at: float, process: str = "") -> None:
    """A client opens its streams."""
    book.connected(stream, node, "meshsdk", at)
    book.begin(stream, Stay(node, "meshsdk", process or node, at))


@pytest.fixture
def book() -> LoadBook:
    """Two clients that report until they end."""
    book = LoadBook(NOW - 1_000)
    for stream, node in ((1, "web-1"), (2, "web-2")):
        reporting(book, stream, node, NOW - 10)
        counted = {"orders": Counted(50, moved=1), "orders|v1": Counted(10, cancelled=1, retried=1)}
        counted["users"] = Counted(7)
        book.report(stream, node, counted, NOW + 5)
        book.end(stream, NOW + 70, complete=True)
    return book


def test_zero_failed(book):
    """Where nothing failed and everybody told, the statement says so in one sentence."""
    found = report(book, "orders")
    assert found["statement"] == (
        "zero failed: 122 calls through the mesh to orders from 2 clients between 2001-09-09T01:50:00Z and "
        "2001-09-09T01:51:00Z: 0 failed, 2 cancelled, 2 retried, 2 moved, 0 doubled"
    )
    assert (found["zero_failed"], found["complete"], found["doubts"], found["notes"]) == (True, True, [], [])
    assert found["total"]["calls"] == 122
    assert [(row["cluster"], row["calls"]) for row in found["clusters"]] == [("orders", 100), ("orders|v1", 22)]
    assert len(found["clients"]) == 4
    assert report(book)["total"]["calls"] == 136


def test_failed(book):
    """What failed is told with its client, its cluster and its status, the most first."""
    book.report(1, "web-1", {"orders": Counted(failed=3, statuses={"UNAVAILABLE": 2, "ABORTED": 1})}, NOW + 6)
    book.report(2, "web-2", {"orders|v1": Counted(failed=5, doubled=1)}, NOW + 6)
    found = report(book, "orders")
    assert not found["zero_failed"]
    assert found["statement"].startswith("NOT zero: 130 calls through the mesh to orders from 2 clients")
    failures = "failed: 5 of web-2 to orders|v1, 3 of web-1 to orders (1 ABORTED, 2 UNAVAILABLE)"
    assert found["statement"].endswith(failures)


def test_no_calls(book):
    """A span without calls does not claim that none failed."""
    assert report(book, "payments")["statement"].startswith(
        "no calls through the mesh to payments were reported between"
    )


def test_older_than_what_is_kept(book):
    """A span that begins before the control plane did is not all."""
    found = report(book, since=NOW - 2_000)
    assert not found["complete"]
    assert found["doubts"] == ["nothing is known of calls before 2001-09-09T01:33:20Z"]
    assert ". This is not all: nothing is known" in found["statement"]


def test_client_that_vanished(book):
    """A client whose stream broke without a last report is named, whoever else reports with its name."""
    reporting(book, 3, "web-3", NOW + 10, "one")
    book.report(3, "web-3", {}, NOW + 20)
    book.end(3, NOW + 22, complete=False)
    reporting(book, 4, "web-4", NOW + 10)
    book.end(4, NOW + 12, complete=False)
    assert report(book)["doubts"] == [
        "web-3 went at 2001-09-09T01:50:22Z without a last report: the one before came at 2001-09-09T01:50:20Z",
        "web-4 went at 2001-09-09T01:50:12Z without ever reporting",
    ]
    reporting(book, 5, "web-3", NOW + 23, "another")
    assert len(report(book)["doubts"]) == 3  # it is silent as well


def doubts(book: LoadBook, **span) -> list[str]:
    """The doubts about one client, without its name."""
    return [text.removeprefix("web-3 ") for text in report(book, **span)["doubts"]]


CALLS = {"orders": Counted(5)}


def test_broken_stream_of_which_nothing_is_missing(book):
    """A process that reports again clears the doubt once it has told, if no number of its reports is missing."""
    reporting(book, 3, "web-3", NOW + 10)
    book.report(3, "web-3", CALLS, NOW + 20, 1)
    book.report(3, "web-3", {}, NOW + 25, 1)
    book.end(3, NOW + 27, complete=False)
    book.disconnected(3, NOW + 27)
    reporting(book, 4, "web-3", NOW + 30)
    assert len(doubts(book, now=NOW + 31)) == 1  # it has not told yet
    book.report(4, "web-3", CALLS, NOW + 35, 2)
    assert doubts(book, now=NOW + 36) == []
    book.end(4, NOW + 37, complete=False)
    assert len(doubts(book, now=NOW + 38)) == 1


def test_report_that_was_lost_with_its_stream(book):
    """A process that reports again after a report that never came leaves the doubt, up to when it was back."""
    reporting(book, 3, "web-3", NOW + 10)
    book.report(3, "web-3", CALLS, NOW + 20, 1)
    book.end(3, NOW + 22, complete=False)
    reporting(book, 4, "web-3", NOW + 40)
    book.report(4, "web-3", CALLS, NOW + 45, 3)
    book.report(4, "web-3", {}, NOW + 59, 3)
    lost = "went at 2001-09-09T01:50:40Z without a last report: the one before came at 2001-09-09T01:50:20Z"
    assert doubts(book) == doubts(book, since=NOW + 30) == [lost]
    assert doubts(book, since=NOW + 50) == []


def test_report_that_was_lost_with_a_stream_that_told_nothing(book):
    """The first report of a process is missed as well when its stream broke with it."""
    reporting(book, 3, "web-3", NOW + 10)
    book.end(3, NOW + 17, complete=False)
    reporting(book, 4, "web-3", NOW + 20)
    book.report(4, "web-3", CALLS, NOW + 59, 2)
    assert doubts(book) == ["went at 2001-09-09T01:50:20Z without ever reporting"]


def test_reports_that_another_control_plane_may_have(book):
    """A process that has sent reports which this control plane never had is named where the span begins before it."""
    reporting(book, 3, "web-3", NOW + 10)
    book.report(3, "web-3", CALLS, NOW + 59, 3)
    assert doubts(book) == ["came at 2001-09-09T01:50:10Z, and 2 reports of it before that did not"]
    assert doubts(book, since=NOW + 20) == []


def test_client_that_went_long_after(book):
    """A client that was killed after the span, all of which it had told, does not make it doubtful."""
    reporting(book, 3, "web-3", NOW + 10)
    for number in range(1, 20):
        book.report(3, "web-3", CALLS, NOW + 10 + 5 * number, number)
    book.end(3, NOW + 108, complete=False)
    book.disconnected(3, NOW + 108)
    assert doubts(book, now=NOW + 200) == []
    assert len(doubts(book, until=NOW + 108, now=NOW + 200)) == 1


@pytest.mark.parametrize("connected", [9, 30])
def test_second_process_of_one_node(book, connected):
    """Of two processes with one node id, one that was killed before it reported is missed."""
    reporting(book, 3, "web-3", NOW + 10)
    book.report(3, "web-3", CALLS, NOW + 59, 1)
    book.connected(4, "web-3", "meshsdk", NOW + connected)
    book.disconnected(4, NOW + 33)
    (doubt,) = doubts(book, concerns={"web-3": True})
    assert doubt.endswith("and does not report")


def test_stock_client_whose_xds_stream_begins_again(book):
    """Stock gRPC goes on with one stream of reports when its xDS stream begins again on the connection."""
    book.connected(3, "web-3", "gRPC C-core", NOW)
    book.begin(3, Stay("web-3", "gRPC C-core", "", NOW + 1))
    book.disconnected(3, NOW + 30)
    book.connected(4, "web-3", "gRPC C-core", NOW + 31)
    book.report(3, "web-3", {}, NOW + 59)
    assert doubts(book, concerns={"web-3": True}) == []


def test_clients_that_do_not_say_which_process_they_are(book):
    """Of stock clients nobody knows whether it is the same process that is back: one that went is missing."""
    for stream in (3, 4):
        book.begin(stream, Stay("stock", "gRPC C-core", "", NOW + 10 * stream))
        book.report(stream, "stock", {}, NOW + 10 * stream)
        book.end(stream, NOW + 10 * stream + 5, complete=False)
    assert len(report(book)["doubts"]) == 2


def test_client_that_went_before(book):
    """Whoever went before the span began does not count against it."""
    reporting(book, 3, "web-3", NOW - 500)
    book.end(3, NOW - 100, complete=False)
    assert report(book)["complete"]


def test_silent_client(book):
    """A client that is connected and never reports, or has stopped to, is named; not one that cannot call the app."""
    book.connected(7, "stock", "gRPC C-core", NOW - 100)
    book.connected(8, "gone", "", NOW - 100)
    book.disconnected(8, NOW + 30)
    book.connected(9, "elsewhere", "envoy", NOW - 100)
    book.connected(10, "new", "meshsdk", NOW + 58)
    reporting(book, 11, "late", NOW - 100)
    found = report(book, "orders", concerns={"stock": True, "elsewhere": False, "new": True})
    assert found["doubts"] == [
        "late is silent since 2001-09-09T01:48:20Z",
        "gone (unknown client) was connected until 2001-09-09T01:50:30Z and does not report",
        "stock (gRPC C-core) is connected and does not report",
    ]


def test_the_last_seconds(book):
    """A span up to now is told to lack what is not reported yet."""
    assert report(book, now=NOW + 62)["notes"] == ["clients report every 5 s: the last calls may not be in yet"]


def test_several_control_planes(book):
    """Reports of replicas are put together; one that was not asked is missed."""
    other = LoadBook(NOW + 30)
    reporting(other, 1, "web-1", NOW + 31)
    other.report(1, "web-1", {"orders": Counted(5, failed=1, statuses={"INTERNAL": 1})}, NOW + 55)
    spans = [facts(each.page(NOW, NOW + 60), "orders", NOW, NOW + 60, NOW + 100, {}, 2) for each in (book, other)]
    found = conclude([("a:1", spans[0]), ("b:1", spans[1])])
    assert (found["total"]["calls"], found["total"]["failed"]) == (128, 1)
    assert [row["calls"] for row in found["clients"] if row["client"] == "web-1"] == [56, 11]
    assert found["doubts"] == ["b:1: nothing is known of calls before 2001-09-09T01:50:30Z"]
    alone = conclude([("a:1", spans[0])])
    assert alone["doubts"] == ["1 of 2 control planes were asked: name all with --server"]


@pytest.mark.parametrize(
    ("cluster", "service"),
    [
        ("orders", "orders"),
        ("orders|v1", "orders"),
        ("orders|v1|east+west", "orders"),
        ("orders||east", "orders"),
        ("orders@both", "orders"),
        ("orders|v1@interface", "orders"),
        ("orders.shop.svc:50051", "orders.shop.svc"),
        ("[::1]", "[::1]"),
    ],
)
def test_service_of(cluster, service):
    """The service of a cluster, in all forms of its name."""
    assert service_of(cluster) == service
