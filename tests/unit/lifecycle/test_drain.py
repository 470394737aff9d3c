"""The drain state machine, second by second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.errors import ConfigurationError
from meshsdk.lifecycle.drain import Drain, DrainPhase, DrainTiming, Leave, Look, Stop

TIMING = DrainTiming(quiet=1.0, timeout=15.0, announce=2.0, deregister=2.0, grace=1.0)


def begun(timing: DrainTiming = TIMING) -> Drain:
    """A drain that began at second 100."""
    drain = Drain(timing)
    drain.begin(100.0)
    return drain


def look(drain: Drain, now: float, arrived=7, in_flight=0, told=True, left=False):
    """Looks with an idle server whose registry has answered, unless said otherwise."""
    return drain.look(now, arrived=arrived, in_flight=in_flight, told=told, left=left)


def test_an_idle_server_leaves_after_the_quiet_time():
    """Told at once and never called: it leaves one quiet second later, deregisters, stops with what time is left."""
    drain = begun()
    assert isinstance(look(drain, 100.0), Look)
    assert isinstance(look(drain, 100.99), Look)
    assert look(drain, 101.0) == Leave()
    assert isinstance(look(drain, 101.0), Look)
    assert look(drain, 101.2, left=True) == Stop(grace=pytest.approx(13.8))
    assert drain.phase is DrainPhase.STOPPING
    drain.stopped()
    assert drain.phase is DrainPhase.STOPPED


def test_each_arrival_starts_the_quiet_time_anew():
    """A peer that still calls every 0.9 s keeps the server waiting until it stops calling."""
    drain = begun()
    for step in range(5):
        assert isinstance(look(drain, 100 + 0.9 * step, arrived=step), Look)
    assert isinstance(look(drain, 104.5, arrived=4), Look)
    assert look(drain, 104.6, arrived=4) == Leave()


def test_calls_before_the_drain_are_no_arrivals():
    """The count at the first look is where counting starts: a server with a past leaves as early as one without."""
    drain = begun()
    look(drain, 100.5, arrived=1_000_000)
    assert look(drain, 101.5, arrived=1_000_000) == Leave()


def test_a_call_in_flight_holds_the_server():
    """Quiet for long, but a stream is open: it waits for its end."""
    drain = begun()
    assert isinstance(look(drain, 105.0, in_flight=1), Look)
    assert isinstance(look(drain, 109.0, in_flight=1), Look)
    assert look(drain, 109.1) == Leave()


def test_the_deadline_ends_the_wait_whatever_runs():
    """After `timeout` it leaves with calls in flight, which get the grace and no more."""
    drain = begun()
    assert isinstance(look(drain, 114.9, in_flight=3), Look)
    assert look(drain, 115.0, in_flight=3) == Leave()
    assert look(drain, 115.1, in_flight=3, left=True) == Stop(grace=1.0)


def test_quiet_counts_from_the_news_in_the_registry():
    """The registry took the news late: peers may not know before, so the quiet second starts there."""
    drain = begun()
    assert isinstance(look(drain, 101.5, told=False), Look)
    assert isinstance(look(drain, 101.8, told=True), Look)
    assert isinstance(look(drain, 102.7, told=True), Look)
    assert look(drain, 102.8, told=True) == Leave()


def test_a_registry_that_is_away_is_waited_for_so_long():
    """The registry never answers: after `announce` and `quiet` it goes on, and does not wait for deregistration."""
    drain = begun()
    assert isinstance(look(drain, 102.9, told=False), Look)
    assert look(drain, 103.0, told=False) == Leave()
    assert isinstance(look(drain, 104.9, told=False), Look)
    assert isinstance(look(drain, 105.0, told=False), Stop)


def test_a_second_signal_ends_the_wait():
    """Hurried, it leaves at once and stops without grace, but still gives the registry its moment."""
    drain = begun()
    assert isinstance(look(drain, 100.1, in_flight=9), Look)
    drain.hurry()
    assert look(drain, 100.1, in_flight=9) == Leave()
    assert isinstance(look(drain, 100.2, in_flight=9), Look)
    assert look(drain, 100.3, in_flight=9, left=True) == Stop(grace=0.0)


def test_beginning_twice_changes_nothing():
    """A second request to drain does not start the clock anew."""
    drain = begun()
    look(drain, 100.0)
    drain.begin(100.9)
    assert look(drain, 101.0) == Leave()


@given(st.data())
def test_every_drain_ends(data):
    """Whatever arrives and whatever the registry does, looking when told to look ends in a stop, in bounded time."""
    drain, now, arrived = begun(), 100.0, 0
    left_at = None
    for _ in range(2000):
        arrived += data.draw(st.sampled_from((0, 0, 0, 1)))
        told, left, in_flight = (
            data.draw(st.booleans()),
            data.draw(st.booleans()),
            data.draw(st.sampled_from((0, 0, 2))),
        )
        decision = drain.look(now, arrived=arrived, in_flight=in_flight, told=told, left=left and left_at is not None)
        if isinstance(decision, Stop):
            assert left_at is not None
            assert now <= 100 + TIMING.timeout + TIMING.deregister + 0.1
            return
        if isinstance(decision, Leave):
            assert left_at is None
            left_at = now
        else:
            assert decision.at > now
            now = decision.at
    raise AssertionError("no end")


@pytest.mark.parametrize("wrong", [{"quiet": -1}, {"timeout": float("inf")}, {"grace": "1"}, {"quiet": 20.0}])
def test_wrong_timings_are_refused(wrong):
    """A timing that cannot work is refused by the field's name."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        DrainTiming(**wrong)
