"""What is seen of the calls that a server handles, the same for every kind of server, handler and call shape."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import pytest
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from meshsdk.telemetry.counts import SERVER, Counts
from meshsdk.telemetry.port import OBSERVING
from meshsdk.telemetry.served_calls import ServerWatch
from tests.contract.server_drivers import KINDS, SERVICE, SHAPES, Running, Scripted, finish, running

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)


class Watching:
    """A server whose calls are seen, and what was seen. `inner`: trace ids that were current in its handlers."""

    def __init__(self, server: Running, exporter: InMemorySpanExporter, counts: Counts) -> None:
        self.server = server
        self.exporter = exporter
        self.counts = counts
        self.inner: list[str] = []

    def call(self, shape: str, request: bytes):
        """Makes a call as part of CALLER's trace; returns its span, once it has ended."""
        self.exporter.clear()
        multi = getattr(self.server.channel, shape)(f"/{SERVICE}/{shape}")
        argument = iter([request]) if shape.startswith("stream_") else request
        try:
            if shape.endswith("_stream"):
                list(multi(argument, timeout=20, metadata=CALLER))
            else:
                multi(argument, timeout=20, metadata=CALLER)
        except grpc.RpcError:
            pass  # its status is in the span
        return self.span()

    def span(self):
        """Waits for the one span."""
        until(self.exporter.get_finished_spans)
        (span,) = self.exporter.get_finished_spans()
        return span

    def count(self, name: str, shape: str) -> dict[str, int]:
        """A metric of a method by status."""
        family = next(one for one in self.counts.families() if one.name == name)
        return {
            one.labels.get("grpc.status", ""): getattr(one.value, "count", one.value)
            for one in family.points
            if one.labels["grpc.method"] == f"{SERVICE}/{shape}"
        }


def until(condition) -> None:
    """Waits for what another thread is about to do."""
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert condition(), "not in time"


@pytest.fixture(scope="module", params=KINDS)
def watching(request) -> Iterator[Watching]:
    """A server of each kind."""
    exporter, counts = InMemorySpanExporter(), Counts(SERVER)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(TraceContextTextMapPropagator())
    patch = pytest.MonkeyPatch()
    patch.setattr(OBSERVING, "servers", ServerWatch(counts, provider.get_tracer("contract")))
    act, inner = Scripted._act, []

    def noting(self, request, context):
        inner.append(trace.format_trace_id(trace.get_current_span().get_span_context().trace_id))
        act(self, request, context)

    patch.setattr(Scripted, "_act", noting)
    with running(request.param) as server:
        watch = Watching(server, exporter, counts)
        watch.inner = inner
        yield watch
    patch.undo()
    propagate.set_global_textmap(before)
    provider.shutdown()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_call(watching, shape):
    """The span continues the caller's trace, is current in the handler, and has the conventions' attributes."""
    watching.inner.clear()
    span = watching.call(shape, b"ok")
    assert span.name == f"{SERVICE}/{shape}"
    assert span.kind is SpanKind.SERVER
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert span.attributes["rpc.service"] == SERVICE
    assert span.attributes["rpc.grpc.status_code"] == 0
    assert span.attributes["client.address"] in ("127.0.0.1", "::1")
    assert watching.inner == [TRACE]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("script", "code", "error"),
    [(b"error", "UNKNOWN", True), (b"abort", "ABORTED", False), (b"code", "DATA_LOSS", True)],
)
def test_a_call_that_fails(watching, shape, script, code, error, request):
    """The client's status is the span's, and an error where the conventions blame the server."""
    if request.node.callspec.params["watching"] == "aio-threads" and script != b"error":
        code, error = ("UNKNOWN", True) if script == b"abort" else ("OK", False)  # grpc.aio does not tell
    before = watching.count("grpc.server.call.duration", shape).get(code, 0)
    span = watching.call(shape, script)
    assert span.attributes["rpc.grpc.status_code"] == getattr(grpc.StatusCode, code).value[0]
    assert (span.status.status_code is StatusCode.ERROR) is error
    assert watching.count("grpc.server.call.duration", shape)[code] == before + 1


@pytest.mark.parametrize("shape", SHAPES)
def test_a_call_that_runs_is_counted_as_started(watching, shape):
    """`started` does not wait for the end of the call, of which duration and span tell."""
    watching.exporter.clear()
    before = watching.count("grpc.server.call.started", shape).get("", 0)
    watching.server.scripted.gate.clear()
    call = watching.server.start(shape, b"hold")
    assert watching.server.scripted.began.acquire(timeout=20)
    assert watching.count("grpc.server.call.started", shape)[""] == before + 1
    assert not watching.exporter.get_finished_spans()
    watching.server.scripted.gate.set()
    assert finish(shape, call).code is grpc.StatusCode.OK
    assert watching.span().attributes["rpc.grpc.status_code"] == 0


def test_a_stream_that_is_cancelled(watching, request):
    """A stream whose client goes ends CANCELLED, where the server is told of it."""
    if request.node.callspec.params["watching"] == "aio-threads":
        pytest.skip("grpc.aio tells handlers on threads nothing of a cancellation")
    watching.exporter.clear()
    watching.server.scripted.gate.clear()
    call = watching.server.start("stream_stream", b"hold")
    assert watching.server.scripted.began.acquire(timeout=20)
    call.cancel()
    if request.node.callspec.params["watching"] == "sync":
        until(watching.exporter.get_finished_spans)
    watching.server.scripted.gate.set()
    assert watching.span().attributes["rpc.grpc.status_code"] == 1
