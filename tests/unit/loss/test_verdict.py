"""The account of a run, from lines as callers and servers write them."""

from __future__ import annotations

import pytest

from tests.e2e.loss.records import Call, Ledger, calls, executions
from tests.e2e.loss.verdict import Verdict, by_kill, verdict


def call(name: str, outcome: str = "OK", shape: str = "get", *, sent: int = 1, received: int = 1) -> Call:
    """A call of ten seconds, one message in each direction unless said."""
    return Call(name, shape, outcome, 10.0, 20.0, sent, received)


def account(made: list[Call], *ledgers: str) -> Verdict:
    """The verdict on calls and servers' files, whose lines are parted by commas."""
    return verdict(made, [list(executions(ledger.split(","))) for ledger in ledgers], idempotent=("read",))


def test_calls_executed_once_and_answered_are_clean() -> None:
    """Two calls on two servers, each executed to its end: nothing to complain of."""
    found = account([call("a"), call("b", shape="chat", sent=5, received=5)], "B a,E a 1 1", "B b,E b 5 5")
    assert found.clean
    assert found.counts() == {
        "made": 2,
        "failed": 0,
        "doubled": 0,
        "repeated": 0,
        "lost": 0,
        "short": 0,
        "unknown": 0,
    }


def test_a_call_that_failed_is_named() -> None:
    """Whatever its status, executed or not."""
    found = account([call("a", "UNAVAILABLE"), call("b", "WRONG"), call("c")], "B a,E a 1 1,B c,E c 1 1")
    assert [one.id for one in found.failed] == ["a", "b"]
    assert not found.clean
    assert found.executed == {"a", "c"}
    assert "failed: a get UNAVAILABLE" in str(found)


@pytest.mark.parametrize("ledgers", [("B a,E a 1 1,B a,E a 1 1",), ("B a", "B a,E a 1 1"), ("B a,B a,E a 1 1",)])
def test_a_call_begun_twice_is_doubled(ledgers: tuple[str, ...]) -> None:
    """On one server or on two, one after the other or at once, come to its end or not."""
    found = account([call("a")], *ledgers)
    assert found.doubled == ("a",)
    assert found.untrue == ("a",)
    assert not found.clean


def test_a_call_that_failed_and_was_begun_twice_is_doubled_too() -> None:
    """What the caller was told does not matter."""
    assert account([call("a", "UNAVAILABLE")], "B a", "B a").doubled == ("a",)


def test_an_idempotent_call_may_be_repeated() -> None:
    """It is counted, and clean."""
    found = account([call("a", shape="read")], "B a", "B a,E a 1 1")
    assert found.repeated == ("a",)
    assert found.doubled == ()
    assert found.clean


@pytest.mark.parametrize("ledger", ["B b,E b 1 1", "B a,B b,E b 1 1"])
def test_an_answer_without_an_execution_is_lost(ledger: str) -> None:
    """Never begun, or never come to its end, and yet answered OK."""
    found = account([call("a"), call("b")], ledger)
    assert found.lost == ("a",)
    assert not found.clean


def test_an_execution_that_nobody_called_is_told() -> None:
    """A server did what no caller made."""
    found = account([call("a")], "B a,E a 1 1,B x,E x 1 1")
    assert found.unknown == ("x",)
    assert not found.clean


@pytest.mark.parametrize(("sent", "received"), [(5, 4), (4, 5)])
def test_a_stream_that_lost_a_message_on_its_way_is_short(sent: int, received: int) -> None:
    """In either direction: both sides count."""
    found = account([call("a", shape="chat", sent=sent, received=received)], "B a,E a 5 5")
    assert found.short == ("a",)
    assert not found.clean


def test_a_stream_that_its_caller_left_is_neither_failed_nor_short() -> None:
    """One without end is left by the caller, wherever it is then."""
    assert account([call("a", "LEFT", "watch", received=7)], "B a").clean


def test_failures_are_put_down_to_the_kill_they_followed() -> None:
    """By their end, whenever they began; what failed before any kill stands apart."""
    ends = {"c0.1.7": 4.9, "c0.1.8": 5.0, "c0.2.3": 7.0, "c1.0.0": 9.5}
    failed = [Call(name, "get", "UNAVAILABLE", 1.0, ended, 1, 0) for name, ended in ends.items()]
    found = by_kill(failed, kills=(5.0, 9.0))
    assert {kill: [one.id for one in calls_] for kill, calls_ in found.items()} == {
        -1: ["c0.1.7"],
        0: ["c0.1.8", "c0.2.3"],
        1: ["c1.0.0"],
    }
    assert [one.caller for one in failed] == ["c0.1", "c0.1", "c0.2", "c1.0"]


def test_lines_are_read_as_they_were_written(tmp_path) -> None:
    """Details of several lines become one; a server's file tells what began and what ended."""
    told = Call("c1.2.3", "put", "UNAVAILABLE", 1.25, 2.5, 3, 0, "Socket\nclosed  by peer")
    assert list(calls([told.line()])) == [
        Call("c1.2.3", "put", "UNAVAILABLE", 1.25, 2.5, 3, 0, "Socket closed by peer")
    ]
    assert list(calls([call("a").line()])) == [call("a")]
    ledger = Ledger(tmp_path / "ledger")
    ledger.begin("a")
    ledger.begin("b")
    ledger.end("a", 2, 3)
    found = list(executions((tmp_path / "ledger").read_text().splitlines()))
    assert [(one.id, one.ended, one.received, one.sent) for one in found] == [("a", True, 2, 3), ("b", False, 0, 0)]
