"""Outlier detection: who is ejected, for how long, and how many at once. Time is an argument."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshsdk.lb.outlier import Cause, Detector, lowest_normal
from meshsdk.model.policy import OutlierDetection

FIVE = ("a", "b", "c", "d", "e")
RATES = OutlierDetection(
    consecutive_5xx=None,
    max_ejection_percent=100,
    success_rate_request_volume=10,
    failure_percentage_request_volume=10,
    success_rate_minimum_hosts=5,
    failure_percentage_minimum_hosts=5,
)


def detector(addresses: tuple[str, ...] = FIVE, draw: float = 0.0, **config: object) -> Detector:
    """A detector at time 0 with endpoints; by default up to all may be out."""
    made = Detector(OutlierDetection(**{"max_ejection_percent": 100, **config}), lambda: draw, 0.0)  # type: ignore[arg-type]
    made.follow(addresses)
    return made


def fail(made: Detector, address: str, code: str = "INTERNAL", times: int = 1, *, local: bool = False) -> bool:
    """Counts failures; returns whether an ejection is due."""
    counts = made.counts(address)
    assert counts is not None
    for _ in range(times):
        counts.failed(code, lost=local and made.splits)
    return made.due(counts)


def succeed(made: Detector, address: str, times: int = 1) -> None:
    """Counts successes, as a call does."""
    counts = made.counts(address)
    assert counts is not None
    counts.good += times


def test_five_server_errors_in_a_row_eject_at_once() -> None:
    """The fifth server error in a row makes an ejection due, and `strike` ejects without waiting for the sweep."""
    made = detector()
    assert not fail(made, "a", times=4)
    assert fail(made, "a")
    assert made.strike("a", 1.0)
    one = made.ejections["a"]
    assert (one.cause, one.why, one.since, one.until, one.times) == (
        Cause.CONSECUTIVE_5XX,
        "5 failures in a row",
        1.0,
        31.0,
        1,
    )
    assert made.totals == {Cause.CONSECUTIVE_5XX: 1}


def test_a_success_breaks_the_streak() -> None:
    """Four failures, a success and four failures make no ejection due."""
    made = detector()
    fail(made, "a", times=4)
    succeed(made, "a")
    assert not fail(made, "a", times=4)


@pytest.mark.parametrize(
    "code", ["UNKNOWN", "INTERNAL", "DATA_LOSS", "UNIMPLEMENTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"]
)
def test_statuses_that_count_as_server_errors(code: str) -> None:
    """What Envoy maps to 5xx makes an ejection due."""
    assert fail(detector(), "a", code, times=5)


@pytest.mark.parametrize("code", ["NOT_FOUND", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED"])
def test_statuses_that_tell_nothing_of_the_endpoint(code: str) -> None:
    """The server's word to its caller, and the caller's own change of mind, never make an ejection due."""
    assert not fail(detector(), "a", code, times=100)


def test_an_answer_of_the_server_breaks_a_streak_and_a_cancelled_call_does_not() -> None:
    """NOT_FOUND is an answer; CANCELLED says nothing."""
    made = detector()
    fail(made, "a", times=4)
    fail(made, "a", "CANCELLED")
    assert fail(made, "a")
    made = detector()
    fail(made, "a", times=4)
    fail(made, "a", "NOT_FOUND")
    assert not fail(made, "a")


def test_gateway_errors_count_apart() -> None:
    """Three gateway errors in a row eject with their own cause; another server error between them breaks the streak."""
    config = {"consecutive_5xx": None, "consecutive_gateway_failure": 3, "enforcing_consecutive_gateway_failure": 100}
    made = detector(**config)
    fail(made, "a", "UNAVAILABLE", times=2)
    assert not fail(made, "a", "INTERNAL")
    assert fail(made, "a", "DEADLINE_EXCEEDED", times=3)
    assert made.strike("a", 0.0)
    assert made.ejections["a"].cause is Cause.CONSECUTIVE_GATEWAY_FAILURE


def test_failures_of_this_side_count_as_gateway_errors_unless_split() -> None:
    """Without the split a lost connection is a server error; with it, only its own limit counts."""
    assert fail(detector(), "a", "UNAVAILABLE", times=5, local=True)
    made = detector(split_local_origin=True, consecutive_local_origin=7)
    assert not fail(made, "a", "UNAVAILABLE", times=6, local=True)
    assert fail(made, "a", "UNAVAILABLE", local=True)
    assert made.strike("a", 0.0)
    assert made.ejections["a"].cause is Cause.CONSECUTIVE_LOCAL_ORIGIN_FAILURE


def test_an_error_of_the_server_proves_that_it_was_reached() -> None:
    """With the split, an answer that is an error breaks the streak of lost connections."""
    made = detector(split_local_origin=True, consecutive_local_origin=3, consecutive_5xx=None)
    fail(made, "a", "UNAVAILABLE", times=2, local=True)
    fail(made, "a", "INTERNAL")
    assert not fail(made, "a", "UNAVAILABLE", times=2, local=True)


def test_enforcing_spares_by_the_draw_and_the_streak_begins_anew() -> None:
    """At 30 % enforced, a draw of 0.3 spares and 0.29 ejects; who was spared needs another streak."""
    made = detector(draw=0.3, enforcing_consecutive_5xx=30)
    assert fail(made, "a", times=5)
    assert not made.strike("a", 0.0)
    assert not fail(made, "a", times=4)
    made = detector(draw=0.29, enforcing_consecutive_5xx=30)
    fail(made, "a", times=5)
    assert made.strike("a", 0.0)


def test_enforcing_nothing_detects_nothing() -> None:
    """An algorithm that is enforced at 0 % makes no call look for the lock."""
    assert not fail(detector(enforcing_consecutive_5xx=0), "a", times=50)


def test_time_out_grows_with_each_ejection_and_shrinks_with_quiet_intervals() -> None:
    """30 s, 60 s, capped at 70 s; each quiet interval takes one step back."""
    made = detector(max_ejection_time=70.0, interval=10.0)
    now = 0.0
    lengths = []
    for _ in range(4):
        fail(made, "a", times=5)
        made.strike("a", now)
        one = made.ejections["a"]
        lengths.append(one.until - one.since)
        now = one.until
        made._next = now + 10  # no interval ends while it is out
        assert made.sweep(now)
        assert not made.ejections
    assert lengths == [30, 60, 70, 70]
    for _ in range(3):
        now += 10
        made.sweep(now)
    fail(made, "a", times=5)
    made.strike("a", now)
    assert made.ejections["a"].until - now == 30
    assert made.ejections["a"].times == 5


def test_jitter_lengthens_within_its_bound() -> None:
    """The draw's share of the jitter is added."""
    made = detector(draw=0.5, max_ejection_jitter=8.0)
    fail(made, "a", times=5)
    made.strike("a", 0.0)
    assert made.ejections["a"].until == 34


def test_who_comes_back_begins_anew() -> None:
    """After its time it is let back without waiting for the interval, and needs a whole streak to be ejected again."""
    made = detector(interval=1000.0)
    fail(made, "a", times=5)
    made.strike("a", 0.0)
    fail(made, "a", times=4)  # calls that were under way
    assert made.expires == 30
    assert not made.sweep(29.9)
    assert made.sweep(30.0)
    assert not made.ejections
    assert not fail(made, "a", times=4)


def test_failures_while_out_do_not_lengthen_it() -> None:
    """A streak of calls that were under way changes nothing, and does not stay due."""
    made = detector()
    fail(made, "a", times=5)
    made.strike("a", 0.0)
    assert fail(made, "a", times=5)
    assert not made.strike("a", 5.0)
    assert not fail(made, "a", times=1)
    assert made.ejections["a"].until == 30


@pytest.mark.parametrize(
    ("size", "percent", "always", "out"),
    [
        (5, 10, False, 1),
        (5, 40, False, 2),
        (5, 59, False, 2),
        (5, 0, False, 0),
        (5, 0, True, 1),
        (1, 10, False, 0),
        (1, 10, True, 1),
        (1, 100, False, 1),
        (20, 10, False, 2),
    ],
)
def test_no_more_than_the_percentage_is_out(size: int, percent: int, always: bool, out: int) -> None:
    """Rounded down, but one of several in any case; the only endpoint goes only where that is said."""
    addresses = tuple(str(number) for number in range(size))
    made = detector(addresses, max_ejection_percent=percent, always_eject_one=always)
    for address in addresses:
        fail(made, address, times=5)
        made.strike(address, 0.0)
    assert len(made.ejections) == out
    assert made.overflows == size - out


def _interval(made: Detector, rates: dict[str, tuple[int, int]], now: float) -> set[str]:
    for address, (good, bad) in rates.items():
        succeed(made, address, good)
        fail(made, address, times=bad)
    made.sweep(now)
    return set(made.ejections)


def test_success_rate_ejects_who_stands_out() -> None:
    """Four at 100 % and one at 50 %: mean 90, deviation 20, so at factor 1.9 the bound is 52 %."""
    made = Detector(replace(RATES, success_rate_stdev_factor=1900), lambda: 0.0, 0.0)
    made.follow(FIVE)
    rates = dict.fromkeys(FIVE, (100, 0)) | {"e": (50, 50)}
    assert lowest_normal([100, 100, 100, 100, 50], 1.9) == pytest.approx(52)
    assert _interval(made, rates, 10.0) == {"e"}
    assert made.ejections["e"].why == "success rate 50.0 % is below 52.0 %"
    assert made.ejections["e"].cause is Cause.SUCCESS_RATE


def test_success_rate_needs_hosts_and_volume() -> None:
    """With one of the five below the request volume nobody is judged."""
    made = Detector(replace(RATES, success_rate_stdev_factor=1900), lambda: 0.0, 0.0)
    made.follow(FIVE)
    rates = dict.fromkeys(FIVE, (100, 0)) | {"e": (50, 50), "a": (9, 0)}
    assert _interval(made, rates, 10.0) == set()


def test_each_interval_counts_by_itself() -> None:
    """Failures of an earlier interval do not count again."""
    made = Detector(replace(RATES, failure_percentage_threshold=50, enforcing_failure_percentage=100), lambda: 0.0, 0.0)
    made.follow(FIVE)
    assert _interval(made, dict.fromkeys(FIVE, (100, 0)) | {"e": (60, 40)}, 10.0) == set()
    assert _interval(made, dict.fromkeys(FIVE, (10, 0)), 20.0) == set()
    assert _interval(made, dict.fromkeys(FIVE, (10, 0)) | {"e": (0, 9)}, 30.0) == set()
    assert _interval(made, dict.fromkeys(FIVE, (10, 0)) | {"e": (5, 5)}, 40.0) == {"e"}
    assert made.ejections["e"].cause is Cause.FAILURE_PERCENTAGE
    assert made.ejections["e"].why == "50.0 % of its calls failed"


def test_failure_percentage_is_off_unless_enforced() -> None:
    """Its threshold alone ejects nobody (the default of `enforcing_failure_percentage` is 0)."""
    made = Detector(replace(RATES, failure_percentage_threshold=50), lambda: 0.0, 0.0)
    made.follow(FIVE)
    assert _interval(made, dict.fromkeys(FIVE, (0, 100)), 10.0) == set()


def test_local_rates_are_judged_apart() -> None:
    """With the split, lost connections do not lower the success rate of answers, but the rate of being reached."""
    config = replace(
        RATES,
        split_local_origin=True,
        failure_percentage_threshold=50,
        enforcing_failure_percentage=100,
        enforcing_failure_percentage_local_origin=100,
    )
    made = Detector(config, lambda: 0.0, 0.0)
    made.follow(FIVE)
    for address in FIVE:
        succeed(made, address, 20)
    fail(made, "c", "UNAVAILABLE", times=30, local=True)
    made.sweep(10.0)
    assert made.ejections["c"].cause is Cause.FAILURE_PERCENTAGE_LOCAL_ORIGIN


def test_who_leaves_the_cluster_is_forgotten() -> None:
    """An ejected endpoint that goes makes room for another ejection, and is new when it comes again."""
    made = detector(max_ejection_percent=20)
    fail(made, "a", times=5)
    made.strike("a", 0.0)
    assert made.follow(FIVE[1:])
    assert not made.ejections
    made.follow(FIVE)
    fail(made, "b", times=5)
    assert made.strike("b", 0.0)
    assert made.counts("a").errors == 0  # type: ignore[union-attr]


def test_another_policy_keeps_who_is_out() -> None:
    """A change of configuration lets nobody back before the time that was said, and the new limits count at once."""
    made = detector()
    fail(made, "a", times=5)
    made.strike("a", 0.0)
    made.configure(OutlierDetection(consecutive_5xx=2, max_ejection_percent=100, base_ejection_time=1.0))
    made.sweep(10.0)
    assert set(made.ejections) == {"a"}
    assert fail(made, "b", times=2)


STEPS = st.lists(
    st.tuples(st.sampled_from(["ok", "fail", "wait"]), st.integers(min_value=0, max_value=11), st.floats(0.125, 40)),
    max_size=120,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(1, 12), st.integers(0, 100), st.booleans())
def test_never_too_many_are_out_and_all_come_back(
    steps: list[tuple[str, int, float]],
    size: int,
    percent: int,
    always: bool,
) -> None:
    """Whatever happens, no more are out than allowed, and in silence everybody is back after the longest ejection."""
    addresses = tuple(str(number) for number in range(size))
    config = OutlierDetection(
        consecutive_5xx=2,
        max_ejection_percent=percent,
        always_eject_one=always,
        max_ejection_jitter=3.0,
        success_rate_stdev_factor=1000,
        success_rate_request_volume=1,
        success_rate_minimum_hosts=2,
    )
    made = Detector(config, lambda: 0.0, 0.0)
    made.follow(addresses)
    most = max(size * percent // 100, int(always or (percent > 0 and size > 1)))
    now = 0.0
    for what, number, length in steps:
        address = addresses[number % size]
        if what == "ok":
            succeed(made, address)
        elif what == "fail":
            if fail(made, address):
                made.strike(address, now)
        else:
            now += length
            made.sweep(now)
        assert len(made.ejections) <= most
        assert all(one.until <= now + config.max_ejection_time + 3 for one in made.ejections.values())
    now += config.max_ejection_time + 3
    made.sweep(now)
    made.sweep(now + config.interval)
    made.sweep(now + config.interval + config.max_ejection_time + 3)
    assert not made.ejections
