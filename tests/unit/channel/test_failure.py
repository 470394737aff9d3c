"""Errors of calls without an attempt, and which ends of attempts prove that nothing was sent."""

from __future__ import annotations

import grpc
import pytest

from meshsdk.channel import attempt as attempt_module
from meshsdk.channel.attempt import AttemptEnd, Counted, Ended, outcome, shorter, too_late, with_previous
from meshsdk.channel.breakers import Breaker
from meshsdk.channel.course import Course
from meshsdk.channel.failure import CallCancelled, CallFailed, CallRaised, never_sent, status, words
from meshsdk.channel.pool import PooledBackend
from meshsdk.channel.stack import UNCONFIGURED, Hold, HoldKind
from meshsdk.interceptors.policies.steps import Attempt, Sleep
from meshsdk.model.endpoints import Endpoint
from meshsdk.model.policy import CircuitBreakers
from meshsdk.model.resources import Forward
from meshsdk.xds_client.load_counts import Place, Tally
from tests.unit.channel.fakes import World


def backend() -> PooledBackend:
    """A backend over a connection of its own."""
    made = PooledBackend(Endpoint("10.0.0.1:80"), World().pool.acquire("10.0.0.1:80", "orders"))
    made.tally = Tally(Place((), "orders"))
    return made


UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
WHERE = "ipv4:10.0.0.1:80"
CORE = f"failed to connect to all addresses; last error: UNKNOWN: {WHERE}: Failed to connect to remote host: refused"


@pytest.mark.parametrize(
    ("code", "details", "where", "unsent"),
    [
        (UNAVAILABLE, CORE, WHERE, True),
        (UNAVAILABLE, CORE, "ipv4:10.0.0.1:8", False),
        (UNAVAILABLE, CORE, "ipv4:110.0.0.1:80", False),
        (UNAVAILABLE, CORE.replace("10.0.0.1", "10.0.0.2"), WHERE, False),
        (UNAVAILABLE, "orders: " + CORE, WHERE, False),
        (UNAVAILABLE, f"{WHERE}: Socket closed", WHERE, False),
        (UNAVAILABLE, "Stream removed", WHERE, False),
        (UNAVAILABLE, "failed to connect to all addresses", WHERE, False),
        (UNAVAILABLE, "", WHERE, False),
        (UNAVAILABLE, None, WHERE, False),
        (grpc.StatusCode.INTERNAL, CORE, WHERE, False),
        (grpc.StatusCode.DEADLINE_EXCEEDED, CORE, WHERE, False),
        (None, CORE, WHERE, False),
    ],
)
def test_never_sent(code, details, where, unsent):
    """Only core's own words about the very address that was dialled prove that the request never left."""
    assert never_sent(code, details, where) is unsent


@pytest.mark.parametrize(
    ("trailing", "pushback"),
    [
        (None, None),
        ((), None),
        ((("other", "1"),), None),
        ((("grpc-retry-pushback-ms", "1500"),), 1.5),
        ((("grpc-retry-pushback-ms", "0"),), 0.0),
        ((("grpc-retry-pushback-ms", "-1"),), -0.001),
        ((("grpc-retry-pushback-ms", "soon"),), -1.0),
        ((("grpc-retry-pushback-ms", ""),), -1.0),
        ((("grpc-retry-pushback-ms", "1.5"),), -1.0),
        ((("grpc-retry-pushback-ms", "1_0"),), -1.0),
        ((("grpc-retry-pushback-ms", "2147483647"),), 2147483.647),
        ((("grpc-retry-pushback-ms", "2147483648"),), -1.0),
        ((("grpc-retry-pushback-ms", "9" * 400),), -1.0),
    ],
)
def test_pushback(trailing, pushback):
    """Pushback is milliseconds in a signed 32-bit integer; anything else forbids a retry (A6)."""
    seen = outcome(Ended(UNAVAILABLE, CORE, trailing or ()), backend(), committed=False)
    assert (seen.code, seen.unsent, seen.committed) == ("UNAVAILABLE", True, False)
    assert seen.pushback == pushback


@pytest.mark.parametrize(
    ("timeout", "cap", "header_cap", "limit"),
    [
        (None, None, None, None),
        (5.0, None, None, 5.0),
        (None, 3.0, None, 3.0),
        (5.0, 3.0, None, 3.0),
        (2.0, 3.0, None, 2.0),
        (5.0, 0.0, None, 5.0),
        (None, 0.0, None, None),
        (5.0, 3.0, 4.0, 4.0),
        (2.0, 3.0, 4.0, 2.0),
        (5.0, 3.0, 0.0, 5.0),
        (None, 3.0, 4.0, 3.0),
        (None, 3.0, 0.0, 3.0),
        (5.0, None, 4.0, 4.0),
    ],
)
def test_shorter(timeout, cap, header_cap, limit):
    """The route caps the caller's timeout, its own header cap first where there is a timeout (A31); 0: no cap."""
    assert shorter(timeout, Forward((), max_duration=cap, header_max_duration=header_cap)) == limit


def test_too_late(monkeypatch):
    """Only a wait that would outlast the deadline is too late."""
    monkeypatch.setattr(attempt_module.time, "monotonic", lambda: 100.0)
    assert not too_late(Attempt(), 0.0)
    assert not too_late(Sleep(1000.0), None)
    assert not too_late(Sleep(0.9), 101.0)
    assert too_late(Sleep(1.0), 101.0)


class Unplaced:
    """A target, as a course needs it."""

    def __init__(self) -> None:
        self.tally = Tally(Place((), "orders"))

    def unplaced(self) -> Tally:
        """See `course.Unplaced`."""
        return self.tally


def test_end_that_is_told_twice():
    """grpc.aio may tell the end of an attempt twice: it is counted once, and the call hears of both."""

    class Call:
        heard = 0

        def ended(self, inner, connection) -> None:
            self.heard += 1

    call, where, breaker = Call(), backend(), Breaker("orders", CircuitBreakers(), high=False)
    assert [breaker.enter(), breaker.enter()] == [True, True]
    Counted(where, breaker)
    end = AttemptEnd(call, Counted(where, breaker), Course(Unplaced()))
    end(None)
    end(None)
    assert (len(where.connection.calls), where.tally.read()[2], breaker.running, call.heard) == (1, 1, 1, 2)


def test_end_of_a_dropped_call():
    """The end of an attempt whose call was dropped is counted all the same."""

    class Call:
        def ended(self, inner, connection) -> None:
            raise AssertionError

    where, unplaced = backend(), Unplaced()
    where.tally = unplaced.tally
    AttemptEnd(Call(), Counted(where, None), Course(unplaced))(None)
    assert where.connection.calls == []
    counts, _, running = unplaced.tally.read()
    assert (counts.errors, counts.cancelled, running) == (1, 1, 0)


def test_with_previous():
    """The count of attempts is added to the application's metadata, whose own sequence stays as it is."""
    metadata = [("key", "value")]
    assert with_previous(metadata, Attempt()) is metadata
    assert with_previous(metadata, Attempt(2)) == (("key", "value"), ("grpc-previous-rpc-attempts", "2"))
    assert with_previous(None, Attempt(1)) == (("grpc-previous-rpc-attempts", "1"),)
    assert metadata == [("key", "value")]


@pytest.mark.parametrize(
    ("kind", "ready", "code"),
    [
        (HoldKind.UNCONFIGURED, None, UNAVAILABLE),
        (HoldKind.UNCONFIGURED, True, UNAVAILABLE),
        (HoldKind.CONNECTING, None, grpc.StatusCode.DEADLINE_EXCEEDED),
        (HoldKind.FAILING, None, UNAVAILABLE),
        (HoldKind.FAILING, True, grpc.StatusCode.DEADLINE_EXCEEDED),
        (HoldKind.REFUSED, True, UNAVAILABLE),
        (HoldKind.CLOSED, None, grpc.StatusCode.CANCELLED),
    ],
)
def test_status(kind, ready, code):
    """A call that never had an attempt ends with the code that its hold means."""
    assert status(Hold(kind, ""), ready) is code


def test_words():
    """The words name the target, and what is awaited where there is no configuration yet."""
    assert words("xds:///orders", Hold(HoldKind.FAILING, "all failed"), str.upper) == "xds:///orders: all failed"
    assert words("xds:///orders", UNCONFIGURED, str.upper) == "xds:///orders: no configuration yet: XDS:///ORDERS"


def test_failed_call():
    """The error of a call without attempts is an ended call and an ended future."""
    error = CallFailed(UNAVAILABLE, "nothing there")
    told: list = []
    error.add_done_callback(told.append)
    assert told == [error]
    assert (error.code(), error.details(), error.initial_metadata(), error.trailing_metadata()) == (
        UNAVAILABLE,
        "nothing there",
        (),
        (),
    )
    assert (error.done(), error.running(), error.cancelled(), error.is_active(), error.cancel()) == (
        True,
        False,
        False,
        False,
        False,
    )
    assert error.exception() is error
    assert error.traceback() is not None
    assert not error.add_callback(lambda: None)
    assert error.time_remaining() is None
    assert "nothing there" in str(error)
    assert "nothing there" in error.debug_error_string()
    for ask in (error.result, lambda: next(iter(error))):
        with pytest.raises(CallFailed) as raised:
            ask()
        assert raised.value is error


def test_cancelled_call():
    """A call that was cancelled before its attempt raises as `grpc.Future` says, and itself when it is iterated."""
    error = CallCancelled()
    assert (error.cancelled(), error.code()) == (True, grpc.StatusCode.CANCELLED)
    for ask in (error.result, error.exception, error.traceback):
        with pytest.raises(grpc.FutureCancelledError):
            ask()
    with pytest.raises(CallCancelled):
        next(error)


def test_call_that_could_not_be_made():
    """What grpc raised instead of an attempt is raised to whoever reads the call."""
    cause = ValueError("metadata was invalid")
    error = CallRaised(cause)
    assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, "metadata was invalid")
    assert error.exception() is cause
    for ask in (error.result, lambda: next(error)):
        with pytest.raises(ValueError, match="metadata was invalid"):
            ask()
    inner = CallFailed(grpc.StatusCode.INTERNAL, "Exception serializing request!")
    assert CallRaised(inner).code() is grpc.StatusCode.INTERNAL
