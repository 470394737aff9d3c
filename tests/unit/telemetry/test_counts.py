"""A66's metrics of calls, as they are added to and read."""

from __future__ import annotations

import pytest

from meshsdk.telemetry import counts as counting
from meshsdk.telemetry.counted_calls import CallCounter
from meshsdk.telemetry.counts import CLIENT, OTHER, SERVER, Counts
from meshsdk.telemetry.port import OBSERVING

METHOD = "/shop.Orders/Get"
TARGET = "xds:///orders"
TIMES = (CLIENT.each, CLIENT.whole)


@pytest.fixture
def registered(monkeypatch):
    """The set of registered methods, with METHOD in it."""
    monkeypatch.setattr(OBSERVING, "registered", {METHOD})


def points(counts, name):
    """The points of a family, by status, or by method where there is none."""
    family = next((family for family in counts.families() if family.name == name), None)
    if family is None:
        return {}
    return {point.labels.get("grpc.status", point.labels["grpc.method"]): point for point in family.points}


@pytest.mark.usefixtures("registered")
def test_a_call_with_a_retry():
    """Two attempts are counted by their statuses, the call by its own, with A66's labels."""
    counts = Counts(CLIENT)
    call = CallCounter(counts).began(TARGET, METHOD)
    sent = (("k", "v"),)
    first = call.attempt(0, "10.0.0.1:1", "c", None, sent)
    assert first.metadata is sent
    first.ended("UNAVAILABLE")
    call.event("retry", {"seconds": 0.1})
    call.attempt(1, "10.0.0.2:1", "c", None, None).ended("OK")
    call.ended("OK", "", "r", "c")
    labels = {"grpc.method": "shop.Orders/Get", "grpc.target": TARGET}
    started = points(counts, "grpc.client.attempt.started")
    assert [(one.labels, one.value) for one in started.values()] == [(labels, 2)]
    attempts = points(counts, "grpc.client.attempt.duration")
    assert {status: one.value.count for status, one in attempts.items()} == {"UNAVAILABLE": 1, "OK": 1}
    assert attempts["OK"].labels == {**labels, "grpc.status": "OK"}
    assert {status: one.value.count for status, one in points(counts, "grpc.client.call.duration").items()} == {"OK": 1}


@pytest.mark.usefixtures("registered")
def test_an_attempt_counts_as_started_while_it_runs():
    """`started` does not wait for the end, and never falls."""
    counts = Counts(CLIENT)
    attempt = CallCounter(counts).began(TARGET, METHOD).attempt(0, "a:1", "c", None, None)
    assert points(counts, CLIENT.started)["shop.Orders/Get"].value == 1
    attempt.ended("OK")
    assert points(counts, CLIENT.started)["shop.Orders/Get"].value == 1


@pytest.mark.usefixtures("registered")
def test_a_method_that_nobody_registered_is_other():
    """A66: made-up method names get one label together."""
    counts = Counts(CLIENT)
    for number in range(3):
        CallCounter(counts).began(TARGET, f"/made.Up/M{number}").attempt(0, "a:1", "c", None, None).ended("OK")
    assert points(counts, CLIENT.started)[OTHER].value == 3


def test_labels_are_bounded(monkeypatch):
    """Methods beyond the limit count together."""
    monkeypatch.setattr(counting, "_MAX_METHODS", 2)
    counts = Counts(SERVER)
    for number in range(5):
        counts.of("", f"/a.B/M{number}").begin(None)
    assert {name: point.value for name, point in points(counts, SERVER.started).items()} == {
        "a.B/M0": 1,
        "a.B/M1": 1,
        "other": 3,
    }


def test_registering_methods(monkeypatch):
    """A channel's generated methods are registered, hand-written ones are not."""
    monkeypatch.setattr(OBSERVING, "registered", set())
    OBSERVING.register("/a.B/Generated", True)
    OBSERVING.register("/a.B/ByHand", False)
    assert OBSERVING.registered == {"/a.B/Generated"}


@pytest.mark.usefixtures("registered")
def test_the_short_way():
    """A call that is only counted, in one object: at once, after a move, without an attempt; its end counts once."""
    counts = Counts(CLIENT)
    counter = CallCounter(counts)
    at_once = counter.only(TARGET, METHOD)
    assert at_once.attempt(None, None, (("k", "v"),)) == (("k", "v"),)
    at_once.end("OK", "")
    at_once.end("CANCELLED", "")
    moved = counter.only(TARGET, METHOD)
    moved.attempt(None, None, None)
    moved.attempted("UNAVAILABLE")
    moved.event("retry", {})
    moved.attempt(None, None, None)
    moved.end("OK", "")
    counter.only(TARGET, METHOD).end("UNAVAILABLE", "")
    found = {name: {one: point.value.count for one, point in points(counts, name).items()} for name in TIMES}
    assert found == {CLIENT.each: {"OK": 2, "UNAVAILABLE": 1}, CLIENT.whole: {"OK": 2, "UNAVAILABLE": 1}}
    assert points(counts, CLIENT.started)["shop.Orders/Get"].value == 3
