"""Adaptive concurrency and admission control as gates, in virtual time."""

from __future__ import annotations

import random
from contextlib import nullcontext

import pytest

from meshsdk.interceptors.policies import gates
from meshsdk.interceptors.policies.adaptive_concurrency import AdaptiveConcurrencyGate
from meshsdk.interceptors.policies.concurrency import ConcurrencyGate
from meshsdk.interceptors.policies.gate import CallEnd, GateCall
from meshsdk.interceptors.policies.gradient import UNPROVEN, Gradient
from meshsdk.interceptors.policies.steps import Reject
from meshsdk.model.filters import AdaptiveConcurrency, AdmissionControl
from tests.unit.interceptors.overload import Overload, decision, rate


def adaptive(pressure=None, **config: object) -> AdaptiveConcurrencyGate:
    """An adaptive gate with a seeded draw."""
    return AdaptiveConcurrencyGate(AdaptiveConcurrency(**config), random.Random(3).random, nullcontext, pressure)


@pytest.mark.parametrize(("workers", "service"), [(10, 0.05), (1, 0.01), (8, 0.2), (50, 0.02), (4, 1.0)])
def test_goodput_at_twice_the_capacity(workers, service):
    """A minute of double load keeps 90% of the capacity in time, and a second of service after it is as before."""
    server = Overload(adaptive(), workers, service, patience=10 * service)
    server.run(server.capacity / 2, 20)
    server.run(server.capacity * 2, 80)
    assert rate(server.good, 20, 80) >= 0.9 * server.capacity
    server.run(server.capacity / 2, 100)
    assert rate(server.good, 85, 100) >= 0.45 * server.capacity
    assert rate(server.refused, 85, 100) <= 0.01 * server.capacity


def test_without_it_goodput_is_lost():
    """The same load without a limit: the queue grows, and no caller waits that long. The simulation can tell."""
    server = Overload(None, 10, 0.05, patience=0.5)
    server.run(400, 60)
    assert rate(server.good, 30, 60) < 0.1 * server.capacity


def test_a_server_in_good_health_is_not_probed():
    """At half its capacity, once the latency is known, no call is refused in ten minutes of probes that come due."""
    server = Overload(adaptive(), 10, 0.05, patience=0.5)
    server.run(100, 20)
    server.run(100, 620)
    assert rate(server.refused, 20, 620) == 0


def test_a_service_that_became_slower_is_learnt():
    """Calls take four times as long for good: the next probe finds the new latency, and refusals end."""
    server = Overload(adaptive(min_rtt_interval=10.0), 10, 0.02, patience=1.0)
    server.run(200, 20)
    server.service = 0.08
    server.run(60, 120)
    assert rate(server.refused, 60, 120) <= 0.01 * 60


@pytest.mark.parametrize(("workers", "service"), [(10, 0.05), (1, 0.01), (8, 0.2), (50, 0.02)])
def test_a_server_that_starts_under_overload(workers, service):
    """Nothing is known yet, and twice the capacity comes: five seconds later the goodput is there."""
    server = Overload(adaptive(), workers, service, patience=10 * service)
    server.run(server.capacity * 2, 60)
    assert rate(server.good, 5, 60) >= 0.9 * server.capacity


def test_a_server_that_starts_in_good_health_refuses_nothing():
    """At half its capacity from its first call on, no call is refused."""
    server = Overload(adaptive(), 10, 0.05, patience=0.5)
    server.run(100, 60)
    assert server.refused == []


def test_what_is_beyond_the_limit_is_refused():
    """As many as the limit run; one that ends makes room."""
    gate = adaptive(max_limit=3)
    entered = [decision(gate, GateCall("/s/m", (), 0.0)) for _ in range(4)]
    assert [isinstance(one, Reject) for one in entered] == [False, False, False, True]
    assert (entered[3].code, entered[3].info.reason) == ("UNAVAILABLE", "CONCURRENCY_LIMITED")
    entered[0](CallEnd("OK", 0.1, 0.1))
    assert not isinstance(decision(gate, GateCall("/s/m", (), 0.1)), Reject)


def test_streams_and_refusals_are_no_samples():
    """The length of a stream, and answers given without the work, leave the latency as it is known."""
    gate = adaptive(min_rtt_requests=1)
    assert decision(gate, GateCall("/s/m", (), 0.0, streamed=True)) is None  # it is told no end
    for end in (
        CallEnd("UNAVAILABLE", 0.001, 0.001),
        CallEnd("", 0.001, 0.001),
    ):
        decision(gate, GateCall("/s/m", (), 0.0))(end)
        assert gate._gradient.min_rtt is None
    decision(gate, GateCall("/s/m", (), 0.0))(CallEnd("OK", 0.1, 0.1))
    assert gate._gradient.min_rtt == pytest.approx(0.1)


def test_streams_take_no_place():
    """However many streams run, as many other calls as the limit run beside them; no stream is refused."""
    gate = adaptive(max_limit=2)
    streams = [decision(gate, GateCall("/s/m", (), 0.0, streamed=True)) for _ in range(100)]
    calls = [decision(gate, GateCall("/s/m", (), 0.0)) for _ in range(3)]
    assert [isinstance(one, Reject) for one in calls] == [False, False, True]
    assert not any(isinstance(one, Reject) for one in streams)
    assert not isinstance(decision(gate, GateCall("/s/m", (), 0.0, streamed=True)), Reject)


def test_an_idle_server_keeps_its_limit():
    """Fast answers to one call at a time do not raise the limit beyond what is unproven: it grows with its use."""
    gate = adaptive(fixed_min_rtt=0.1, min_concurrency=3)
    now = 0.0
    for _ in range(500):
        now += 0.2
        decision(gate, GateCall("/s/m", (), now))(CallEnd("OK", now + 0.05, 0.05))
    assert gate.limit == UNPROVEN


@pytest.mark.parametrize(
    ("seconds", "peak", "limit"),
    [(0.05, 32, 72), (0.1, 32, 46), (0.125, 32, 37), (0.25, 32, 20), (9.0, 32, 20), (0.05, 16, 72), (0.05, 15, 32)],
)
def test_one_window(seconds, peak, limit):
    """The limit is scaled by how the calls compare to their minimum and its buffer, held to 0.5-2, plus a headroom."""
    gradient = Gradient(AdaptiveConcurrency(fixed_min_rtt=0.1), lambda: 0.0)
    assert gradient.limit == UNPROVEN == 32
    gradient.tick(0.0)
    for _ in range(9):
        gradient.sample(seconds, 0.05)
    gradient.peak = peak
    gradient.tick(0.1)
    assert gradient.limit == limit


def test_pressure_cuts_the_limit():
    """A process that is twice as late as it may be admits half, never less than the lowest limit."""
    pressure = [0.5]
    gate = adaptive(lambda: pressure[0], fixed_min_rtt=0.1, min_concurrency=2)
    gate._gradient.limit = 40
    assert gate.limit == 40
    pressure[0] = 2.0
    assert gate.limit == 20
    pressure[0] = 1000.0
    assert gate.limit == 2


def test_five_windows_at_the_lowest_limit_ask_for_a_probe():
    """As in Envoy: a limit that stays at the bottom doubts the latency that it was learnt from."""
    config = AdaptiveConcurrency(min_rtt_requests=1, min_concurrency=1, max_limit=4, min_rtt_interval=1e6)
    gradient = Gradient(config, lambda: 0.0)
    gradient.tick(0.0)
    assert gradient.sample(0.01, 0.01)
    gradient.settle(0.01)
    now = 0.01
    for _ in range(12):
        now += 5.0
        gradient.sample(0.5, now)
        gradient.tick(now)
        if gradient.probing:
            break
    assert gradient.probing
    assert not gradient.sample(now, now + 0.5), "it began before the probe"
    assert gradient.sample(0.5, now + 0.5)
    gradient.settle(now + 0.5)
    assert (gradient.min_rtt, gradient.probing) == (0.5, False)


def test_a_fixed_number_of_calls():
    """As many as the limit run; one that ends makes room."""
    gate = ConcurrencyGate(1, "/s/m")
    first = decision(gate, GateCall("/s/m", (), 0.0))
    refusal = decision(gate, GateCall("/s/m", (), 0.0))
    assert (refusal.code, refusal.info.quota_subject) == ("RESOURCE_EXHAUSTED", "/s/m")
    first(CallEnd("OK", 1.0, 1.0))
    assert not isinstance(decision(gate, GateCall("/s/m", (), 1.0)), Reject)


def admission(draw: float, **config: object):
    """An admission control gate that draws the same each time."""
    return gates.make(AdmissionControl(**config), (), lambda: draw, nullcontext)


def ends(gate, code: str, count: int, now: float) -> None:
    """Counts calls that ended, past the gate's decision."""
    for _ in range(count):
        gate._ended(CallEnd(code, now, 0.01))


@pytest.mark.parametrize(
    ("good", "bad", "config", "probability"),
    [
        (100, 0, {}, 0.0),
        (95, 5, {}, 0.0),
        (50, 50, {}, (100 - 50 / 0.95) / 101),
        (50, 50, {"aggression": 2.0}, ((100 - 50 / 0.95) / 101) ** 0.5),
        (50, 50, {"threshold": 0.5}, 0.0),
        (0, 100, {}, 0.8),
        (0, 100, {"max_refused": 0.3}, 0.3),
        (0, 100, {"rps_threshold": 150.0}, 0.0),
        (0, 100, {"rps_threshold": 50.0}, 0.8),
    ],
)
def test_the_share_that_is_refused(good, bad, config, probability):
    """Envoy's formula: what is drawn just below it is refused, what is drawn at it is not."""
    for draw, refused in ((probability - 1e-6, probability > 0), (probability, False)):
        gate = admission(max(0.0, draw), **config)
        ends(gate, "OK", good, 0.0)
        ends(gate, "UNAVAILABLE", bad, 0.0)
        assert isinstance(decision(gate, GateCall("/s/m", (), 0.5)), Reject) is refused


def test_what_is_past_is_forgotten():
    """After the window the failures no longer count; a call given up before it began never does."""
    gate = admission(0.0, window=30.0)
    ends(gate, "UNAVAILABLE", 10, 0.0)
    assert isinstance(decision(gate, GateCall("/s/m", (), 29.0)), Reject)
    assert not isinstance(decision(gate, GateCall("/s/m", (), 30.0)), Reject)
    ends(gate, "", 10, 31.0)
    assert not isinstance(decision(gate, GateCall("/s/m", (), 31.0)), Reject)


def test_which_answers_are_good():
    """The caller's own mistakes are no failures of the service (Envoy's default)."""
    gate = admission(0.0)
    ends(gate, "NOT_FOUND", 10, 0.0)
    assert not isinstance(decision(gate, GateCall("/s/m", (), 0.0)), Reject)
    strict = admission(0.0, good=frozenset({"OK"}))
    ends(strict, "NOT_FOUND", 10, 0.0)
    refusal = decision(strict, GateCall("/s/m", (), 0.0))
    assert (refusal.code, refusal.info.reason) == ("UNAVAILABLE", "ADMISSION_DENIED")


def test_filters_that_are_off_have_no_gate():
    """`enabled` False."""
    assert gates.make(AdaptiveConcurrency(enabled=False), (), lambda: 0.0, nullcontext) is None
    assert gates.make(AdmissionControl(enabled=False), (), lambda: 0.0, nullcontext) is None
