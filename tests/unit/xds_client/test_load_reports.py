"""The state machine of load reports."""

from __future__ import annotations

import pytest

from meshsdk.xds_client.load_reports import LoadReports, Phase, Step


def opened(now: float = 0.0) -> LoadReports:
    """A machine whose stream is being opened."""
    reports = LoadReports(lambda: 0.5)
    reports.want(now)
    assert reports.take(reports.deadline()) is Step.OPEN
    return reports


def test_nothing_is_opened_before_it_is_wanted():
    """A connection whose server asked for nothing carries no reports, not even at the end."""
    reports = LoadReports(lambda: 0.5)
    assert (reports.deadline(), reports.take(1e9)) == (None, None)
    reports.finish()
    assert (reports.over, reports.take(1e9)) == (True, None)


def test_reports_at_the_interval_of_the_server():
    """After the server has said what it wants, a report is due at each interval; a new order counts from then on."""
    reports = opened()
    assert (reports.deadline(), reports.take(100.0)) == (None, None)
    reports.ordered(5.0, None, 100.0)
    assert (reports.deadline(), reports.clusters) == (105.0, None)
    assert reports.take(104.9) is None
    assert reports.take(105.0) is Step.REPORT
    assert reports.take(105.0) is None
    assert reports.covered(105.0) == 105.0  # from the beginning
    reports.ordered(20.0, frozenset({"orders"}), 107.0)
    assert (reports.deadline(), reports.clusters) == (127.0, frozenset({"orders"}))
    assert reports.take(127.0) is Step.REPORT
    assert reports.covered(127.0) == 22.0


@pytest.mark.parametrize(("asked", "kept"), [(0.0, 1.0), (-3.0, 1.0), (1e9, 3600.0)])
def test_intervals_out_of_reason(asked, kept):
    """A server cannot make a client report all the time, or never."""
    reports = opened()
    reports.ordered(asked, None, 10.0)
    assert reports.deadline() == 10.0 + kept


def test_backoff():
    """A stream that ends is opened again after ever longer waits, which begin anew once the server has answered."""
    reports = opened()
    now, waits = 0.0, []
    for _ in range(12):
        reports.ended("UNAVAILABLE", now)
        waits.append(round(reports.deadline() - now, 3))
        now = reports.deadline()
        assert reports.take(now) is Step.OPEN
    assert waits[:3] == [1.0, 1.6, 2.56]
    assert waits[-1] == 120.0
    reports.ordered(5.0, None, now)
    reports.ended("OK", now)
    assert reports.deadline() == now + 1.0


def test_server_without_lrs():
    """A server that does not know the service is not asked again."""
    reports = opened()
    reports.ended("UNIMPLEMENTED", 1.0)
    reports.want(2.0)
    assert (reports.phase, reports.deadline(), reports.take(1e9), reports.over) == (Phase.REFUSED, None, None, True)


def test_last_report():
    """At the end there is one more report at once, and nothing after it, whatever becomes of the stream."""
    reports = opened()
    reports.ordered(5.0, None, 1.0)
    reports.finish()
    assert not reports.over
    assert reports.take(1.5) is Step.LAST_REPORT
    assert (reports.over, reports.take(1e9)) == (True, None)
    reports.ended("UNAVAILABLE", 2.0)
    assert reports.phase is Phase.FINISHED


def test_end_of_a_short_process():
    """A process that ends before its stream was opened opens it for a last report."""
    reports = LoadReports(lambda: 0.5)
    reports.want(0.0)
    assert reports.take(0.0) is None
    reports.finish()
    assert reports.take(0.0) is Step.OPEN
    assert not reports.over
    reports.ordered(5.0, None, 0.1)
    assert reports.take(0.1) is Step.LAST_REPORT


def test_end_while_the_server_is_away():
    """A process that ends while no stream can be had does not wait for one."""
    reports = opened()
    reports.ended("UNAVAILABLE", 1.0)
    reports.finish()
    assert (reports.over, reports.take(1e9)) == (True, None)
