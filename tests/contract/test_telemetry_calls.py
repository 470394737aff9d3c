"""What an observer is told of calls, on both façades and all shapes alike: spans, metrics, headers, the access log."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace

import grpc
import pytest
from opentelemetry import context, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.b3 import B3MultiFormat
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from meshsdk.model.policy import CircuitBreakers, RetryPolicy
from meshsdk.model.snapshot import Snapshot, Unresolvable
from meshsdk.telemetry.access_lines import AccessLog, CallLogger
from meshsdk.telemetry.counted_calls import CallCounter
from meshsdk.telemetry.counts import CLIENT, Counts
from meshsdk.telemetry.port import OBSERVING
from meshsdk.telemetry.spans import CallTracer
from tests.contract.channel_backend import METHODS, SHAPES
from tests.contract.channel_callers import PATIENCE
from tests.contract.channels import TARGET, resolved, route, snapshot, snapshot_of
from tests.contract.test_channel_moves import Gone

POLICY = RetryPolicy(frozenset({"UNAVAILABLE"}), num_retries=2, base_interval=0.001, max_interval=0.002)


@pytest.fixture(params=SHAPES)
def shape(request) -> str:
    """Each of the four call shapes."""
    return request.param


@pytest.fixture
def lab(mesh_lab):
    """Channels of the mesh alone."""
    return mesh_lab


class Seen:
    """What was seen of the calls so far."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.counts = Counts(CLIENT)

    def spans(self, attempts: int) -> tuple:
        """Waits for the span of one call and those of its attempts; returns it, and them in order."""
        until(lambda: len(self.exporter.get_finished_spans()) == attempts + 1)
        ended = sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time)
        return ended[0], ended[1:]

    def points(self, name: str) -> dict[str, float]:
        """A metric's counts by status, or its value where it has none."""
        family = next(one for one in self.counts.families() if one.name == name)
        return {one.labels.get("grpc.status", ""): getattr(one.value, "count", one.value) for one in family.points}


def limited(address: str, most: int) -> Snapshot:
    """A cluster whose breaker lets `most` attempts run at once."""
    cluster = resolved("c", [address])
    leaf = cluster.leaves[0]
    strict = replace(leaf.cluster, breakers=CircuitBreakers(max_requests=most))
    return snapshot_of([route("c")], replace(cluster, leaves=(replace(leaf, cluster=strict),)))


def until(condition) -> None:
    """Waits for what another thread is about to do."""
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert condition(), "not in time"


@pytest.fixture
def seen(monkeypatch):
    """Spans and counts of all calls, with W3C's headers; the process is left as it was."""
    seen = Seen()
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()]))
    monkeypatch.setattr(OBSERVING, "registered", set(METHODS.values()))
    tracer = seen.provider.get_tracer("contract")
    monkeypatch.setattr(OBSERVING, "observer", CallTracer(tracer, CallCounter(seen.counts)))
    yield seen
    propagate.set_global_textmap(before)
    seen.provider.shutdown()


def test_a_call_that_succeeds(lab, backend, shape, seen):
    """One span for the call, one for its attempt at the endpoint, whose context reaches the server."""
    assert lab.open(backend.address).ask(shape, b"who:").code is grpc.StatusCode.OK
    call, (attempt,) = seen.spans(1)
    assert call.name == f"contract.Channel/{shape}"
    assert call.attributes["grpc.target"] == TARGET
    assert (call.attributes["meshsdk.route"], call.attributes["meshsdk.cluster"]) == ("r", "c")
    assert call.attributes["rpc.grpc.status_code"] == 0
    assert attempt.parent.span_id == call.context.span_id
    assert attempt.attributes["server.port"] == backend.port
    headers = dict(backend.script.metadata[0])
    trace_id, span_id = attempt.context.trace_id, attempt.context.span_id
    assert headers["traceparent"].split("-")[1:3] == [f"{trace_id:032x}", f"{span_id:016x}"]
    assert seen.points("grpc.client.attempt.started") == {"": 1}
    assert seen.points("grpc.client.attempt.duration") == {"OK": 1}
    assert seen.points("grpc.client.call.duration") == {"OK": 1}


def test_a_call_that_fails(lab, backend, shape, seen):
    """Status and details of the server are in the span, the status in the metrics."""
    lab.open(backend.address).ask(shape, b"abort:no such order")
    call, (attempt,) = seen.spans(1)
    assert call.status.description == "FAILED_PRECONDITION: no such order"
    assert attempt.attributes["rpc.grpc.status_code"] == call.attributes["rpc.grpc.status_code"] == 9
    assert seen.points("grpc.client.call.duration") == {"FAILED_PRECONDITION": 1}


def test_a_retry_gives_two_attempts(lab, backend, shape, seen):
    """Each attempt has a span and headers of its own; the wait between them is an event of the call."""
    caller = lab.open(backend.address, first=snapshot(backend.address, retry=POLICY))
    assert caller.ask(shape, b"fail:1").code is grpc.StatusCode.OK
    call, attempts = seen.spans(2)
    assert [one.attributes["rpc.grpc.status_code"] for one in attempts] == [14, 0]
    assert [one.attributes["meshsdk.attempt"] for one in attempts] == [0, 1]
    assert [event.name for event in call.events] == ["retry"]
    parents = [dict(headers)["traceparent"].split("-")[2] for headers in backend.script.metadata]
    assert parents == [f"{one.context.span_id:016x}" for one in attempts]
    assert seen.points("grpc.client.attempt.duration") == {"UNAVAILABLE": 1, "OK": 1}
    assert seen.points("grpc.client.attempt.started") == {"": 2}
    assert seen.points("grpc.client.call.duration") == {"OK": 1}


def test_a_move_gives_two_attempts(lab, backend, shape, seen, monkeypatch):
    """An attempt that met a connection that was gone is seen, too, and no retry: it was never sent."""
    caller = Gone(lab, backend, monkeypatch).caller
    for _ in range(16):
        seen.exporter.clear()
        assert caller.ask(shape, b"who:").code is grpc.StatusCode.OK
        until(lambda: any("grpc.target" in one.attributes for one in seen.exporter.get_finished_spans()))
        if len(seen.exporter.get_finished_spans()) > 2:
            break
    call, attempts = seen.spans(2)
    assert [one.attributes["rpc.grpc.status_code"] for one in attempts] == [14, 0]
    assert attempts[-1].attributes["server.port"] == backend.port
    assert not call.events


def test_a_call_that_its_breaker_refuses(lab, backend, shape, seen):
    """What refused a call is an event of its span; there is no attempt."""
    lab.open("", first=limited(backend.address, 0)).ask(shape, b"who:")
    call, attempts = seen.spans(0)
    assert attempts == []
    assert {(event.name, event.attributes["category"]) for event in call.events} == {("reject", "circuit_breaker")}


def test_a_call_without_an_endpoint(lab, shape, seen):
    """A call that never had an endpoint ends without an attempt."""
    lab.open("", first=Unresolvable(TARGET, "no such listener")).ask(shape, b"who:")
    call, attempts = seen.spans(0)
    assert attempts == []
    assert "no such listener" in call.status.description
    assert seen.points("grpc.client.call.duration") == {"UNAVAILABLE": 1}


def test_a_call_that_is_cancelled(lab, backend, shape, seen):
    """The application's cancellation ends call and attempt."""
    running = lab.open(backend.address).start(shape, b"hang:0")
    assert backend.script.began.acquire(timeout=PATIENCE)
    running.cancel()
    call, (attempt,) = seen.spans(1)
    assert call.attributes["rpc.grpc.status_code"] == attempt.attributes["rpc.grpc.status_code"] == 1


def test_what_cannot_be_sent(lab, backend, seen):
    """A request that does not serialize leaves no attempt that runs for ever."""
    caller = lab.open(backend.address)
    caller.ask("unary_unary", b"who:")
    caller.ask("unary_unary", b"x", made={"request_serializer": lambda _: 1 / 0})
    until(lambda: sum(seen.points("grpc.client.call.duration").values()) == 2)
    counts = seen.counts.of(TARGET, METHODS["unary_unary"])
    assert counts.started() == 2
    assert not counts._running


def test_the_span_of_the_caller_is_the_parent(lab, backend, seen):
    """A call belongs to the span that is current where it is made, in a thread or in a task."""
    caller = lab.open(backend.address)
    token = context.attach(context.Context())
    with seen.provider.get_tracer("app").start_as_current_span("application") as application:
        caller.ask("unary_unary", b"who:")  # asyncio: `run_coroutine_threadsafe` gives the task this context
    context.detach(token)
    until(lambda: len(seen.exporter.get_finished_spans()) == 3)
    call = next(one for one in seen.exporter.get_finished_spans() if one.name == "contract.Channel/unary_unary")
    assert call.context.trace_id == application.get_span_context().trace_id


def test_b3_on_the_wire(lab, backend, shape, seen):
    """With B3 as the process's propagator, its headers go out beside the application's metadata."""
    propagate.set_global_textmap(B3MultiFormat())
    lab.open(backend.address).ask(shape, b"who:", metadata=(("tenant", "acme"),))
    _, (attempt,) = seen.spans(1)
    headers = dict(backend.script.metadata[0])
    assert headers["x-b3-spanid"] == trace.format_span_id(attempt.context.span_id)
    assert headers["tenant"] == "acme"
    assert "traceparent" not in headers


def test_the_access_log(lab, backend, shape, seen, monkeypatch, caplog):
    """One line a call, with the trace's id, the endpoint and both attempts of a retry."""
    caplog.set_level(logging.INFO, logger="meshsdk.access")
    monkeypatch.setattr(OBSERVING, "observer", CallLogger(AccessLog(), OBSERVING.observer))
    caller = lab.open(backend.address, first=snapshot(backend.address, retry=POLICY))
    caller.ask(shape, b"fail:1")
    call, _ = seen.spans(2)
    until(lambda: caplog.records)
    (line,) = (json.loads(one.getMessage()) for one in caplog.records if one.name == "meshsdk.access")
    assert line["method"] == METHODS[shape]
    assert line["trace_id"] == trace.format_trace_id(call.context.trace_id)
    assert line["endpoint"] == backend.address
    assert [one["status"] for one in line["tried"]] == ["UNAVAILABLE", "OK"]


@pytest.fixture
def counted(seen, monkeypatch):
    """Metrics alone, as they are switched on: the short way."""
    counter = CallCounter(seen.counts)
    monkeypatch.setattr(OBSERVING, "observer", counter)
    monkeypatch.setattr(OBSERVING, "counter", counter.only)
    return seen


@pytest.mark.parametrize(
    ("script", "attempts", "ended"),
    [
        (b"who:", {"OK": 1}, "OK"),
        (b"fail:1", {"UNAVAILABLE": 1, "OK": 1}, "OK"),
        (b"fail:9", {"UNAVAILABLE": 3}, "UNAVAILABLE"),
        (b"abort:", {"FAILED_PRECONDITION": 1}, "FAILED_PRECONDITION"),
    ],
)
def test_metrics_alone(lab, backend, shape, counted, script, attempts, ended):
    """Without spans and log the same is counted, and nothing is added to what is sent."""
    lab.open(backend.address, first=snapshot(backend.address, retry=POLICY)).ask(shape, script)
    until(lambda: counted.points("grpc.client.call.duration") == {ended: 1})
    assert counted.points("grpc.client.attempt.duration") == attempts
    assert counted.points("grpc.client.attempt.started") == {"": sum(attempts.values())}
    assert not counted.counts.of(TARGET, METHODS[shape])._running
    assert "traceparent" not in dict(backend.script.metadata[0])


def test_nobody_looks(lab, backend, shape):
    """Without an observer, nothing is added to a call."""
    assert OBSERVING.observer is None
    lab.open(backend.address).ask(shape, b"who:")
    assert not {"traceparent", "b3"} & {key for key, _ in backend.script.metadata[0]}
