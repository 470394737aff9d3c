"""Spans of client calls and of served calls, and the context that goes from one to the other."""

from __future__ import annotations

import itertools

import pytest
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from meshsdk.model.resources import Locality
from meshsdk.telemetry.counted_calls import CallCounter
from meshsdk.telemetry.counts import CLIENT, SERVER, Counts
from meshsdk.telemetry.metadata_carrier import extracted, injected
from meshsdk.telemetry.rpc_attributes import peer
from meshsdk.telemetry.served_calls import ServerWatch
from meshsdk.telemetry.spans import CallTracer

METHOD = "/shop.Orders/Get"
TARGET = "xds:///orders"


def test_a_call_and_its_attempts(tracer, exporter):
    """One span for the call, one below it for each attempt, with the conventions' attributes and the retry's event."""
    call = CallTracer(tracer, None).began(TARGET, METHOD)
    call.attempt(0, "10.0.0.1:50051", "blue", Locality("eu", "a"), None).ended("UNAVAILABLE")
    call.event("retry", {"seconds": 0.25})
    call.attempt(1, "[::1]:50052", "blue", None, None).ended("OK")
    call.ended("OK", "", "by-name", "blue")
    first, second, whole = exporter.get_finished_spans()
    assert whole.name == "shop.Orders/Get"
    assert whole.kind is SpanKind.CLIENT
    assert dict(whole.attributes) == {
        "rpc.system": "grpc",
        "rpc.service": "shop.Orders",
        "rpc.method": "Get",
        "rpc.grpc.status_code": 0,
        "grpc.target": TARGET,
        "meshsdk.route": "by-name",
        "meshsdk.cluster": "blue",
    }
    assert [(event.name, dict(event.attributes)) for event in whole.events] == [("retry", {"seconds": 0.25})]
    assert {one.parent.span_id for one in (first, second)} == {whole.context.span_id}
    assert first.attributes["server.address"] == "10.0.0.1"
    assert first.attributes["server.port"] == 50051
    assert first.attributes["meshsdk.locality"] == "eu/a"
    assert first.attributes["rpc.grpc.status_code"] == 14
    assert first.status.status_code is StatusCode.ERROR
    assert (second.attributes["server.address"], second.attributes["meshsdk.attempt"]) == ("::1", 1)
    assert second.status.status_code is StatusCode.UNSET


def test_a_call_that_fails(tracer, exporter):
    """Code and details are in the span's status."""
    CallTracer(tracer, None).began(TARGET, METHOD).ended("UNAVAILABLE", "no route matches", "", "")
    (whole,) = exporter.get_finished_spans()
    assert whole.status.description == "UNAVAILABLE: no route matches"
    assert whole.attributes["error.type"] == "UNAVAILABLE"


def test_the_attempt_is_what_the_server_has_for_a_parent(tracer, exporter):
    """From the caller's current span over the wire to the server's span, and on to the calls of its handler."""
    calls, served = CallTracer(tracer, None), ServerWatch(None, tracer)
    with tracer.start_as_current_span("application"):
        call = calls.began(TARGET, METHOD)
    attempt = call.attempt(0, "a:1", "c", None, (("k", "v"),))
    assert ("k", "v") in attempt.metadata
    server = served.began(METHOD, attempt.metadata, "ipv4:10.0.0.7:4711")
    entered = server.enter()
    inner = calls.began(TARGET, "/shop.Stock/Take")
    server.leave(entered)
    assert not trace.get_current_span().get_span_context().is_valid
    inner.ended("OK", "", "", "")
    server.ended("NOT_FOUND", "no such order")
    server.ended("CANCELLED", "")  # only the first end counts
    attempt.ended("NOT_FOUND")
    call.ended("NOT_FOUND", "", "", "")
    inner_span, server_span, attempt_span, call_span, application = sorted(
        exporter.get_finished_spans(), key=lambda span: -span.start_time
    )
    chain = (application, call_span, attempt_span, server_span, inner_span)
    for above, below in itertools.pairwise(chain):
        assert below.parent.span_id == above.context.span_id
    assert server_span.kind is SpanKind.SERVER
    assert server_span.attributes["client.address"] == "10.0.0.7"
    assert server_span.status.status_code is StatusCode.UNSET  # NOT_FOUND is the caller's error, by the conventions


@pytest.mark.parametrize(("b3", "header"), [(B3SingleFormat(), "b3"), (B3MultiFormat(), "x-b3-traceid")])
def test_b3(tracer, b3, header):
    """The global propagator decides which headers go out and are understood."""
    propagate.set_global_textmap(b3)
    call = CallTracer(tracer, None).began(TARGET, METHOD)
    sent = dict(call.attempt(0, "a:1", "c", None, None).metadata)
    assert header in sent
    assert "traceparent" not in sent
    assert call.trace_id in sent[header]
    there = trace.get_current_span(extracted(tuple(sent.items()))).get_span_context()
    assert trace.format_trace_id(there.trace_id) == call.trace_id


def test_baggage_passes(tracer):
    """What the application has in its baggage goes out and comes in; binary metadata is left alone."""
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    call = CallTracer(tracer, None).began(TARGET, METHOD)
    context.detach(token)
    sent = call.attempt(0, "a:1", "c", None, (("blob-bin", b"\x00"),)).metadata
    assert ("blob-bin", b"\x00") in sent
    assert baggage.get_baggage("tenant", extracted(sent)) == "acme"


def test_a_header_of_the_application_is_replaced(tracer):
    """Two traceparents in one call would be read by nobody."""
    call = CallTracer(tracer, None).began(TARGET, METHOD)
    sent = call.attempt(0, "a:1", "c", None, (("traceparent", "00-mine"), ("k", "v"))).metadata
    assert [key for key, _ in sent].count("traceparent") == 1
    assert ("traceparent", "00-mine") not in sent


def test_no_context_adds_nothing():
    """Without a span there is no header to send."""
    assert injected((("k", "v"),), context.Context()) == (("k", "v"),)


def test_what_is_not_sampled_is_still_propagated(tracer, exporter):
    """A call that is not sampled tells the server so, and records nothing."""
    tracer.sampler = ALWAYS_OFF
    call = CallTracer(tracer, None).began(TARGET, METHOD)
    attempt = call.attempt(0, "a:1", "c", None, None)
    assert dict(attempt.metadata)["traceparent"].rpartition("-")[2] in ("00", "02")  # 02: a random id, not sampled
    attempt.ended("OK")
    call.ended("OK", "", "", "")
    assert not exporter.get_finished_spans()


def test_metrics_inside_spans(tracer):
    """Spans stand around what counts the calls."""
    counts = Counts(CLIENT)
    call = CallTracer(tracer, CallCounter(counts)).began(TARGET, METHOD)
    call.attempt(0, "a:1", "c", None, None).ended("OK")
    call.ended("OK", "", "", "")
    assert next(iter(counts.families())).points[0].value == 1


def test_served_calls_are_counted_without_spans():
    """Metrics alone: the context of the handler is left alone."""
    counts = Counts(SERVER)
    served = ServerWatch(counts, None).began(METHOD, (("traceparent", "x"),), "unix:/tmp/s")
    served.leave(served.enter())
    served.ended("OK", "")
    names = {family.name: family for family in counts.families()}
    assert names["grpc.server.call.started"].points[0].value == 1
    assert names["grpc.server.call.duration"].points[0].value.count == 1
    assert names["grpc.server.call.duration"].points[0].labels == {
        "grpc.method": "shop.Orders/Get",
        "grpc.status": "OK",
    }


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("10.0.0.1:80", {"server.address": "10.0.0.1", "server.port": 80}),
        ("[fe80::1]:80", {"server.address": "fe80::1", "server.port": 80}),
        ("orders:80", {"server.address": "orders", "server.port": 80}),
        ("unix:/run/a.sock", {"server.address": "unix:/run/a.sock"}),
    ],
)
def test_peers(address, found):
    """Endpoints in all their forms."""
    assert peer(address) == found


def test_calls_of_an_exporter_have_no_spans(tracer, exporter):
    """What sends spans away says so in its context; a span of it would need another call to send it."""
    token = context.attach(context.set_value(context._SUPPRESS_INSTRUMENTATION_KEY, True))
    assert CallTracer(tracer, None).began(TARGET, METHOD) is None
    context.detach(token)
    assert not exporter.get_finished_spans()
