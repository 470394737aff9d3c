"""Families in Prometheus' and in OpenTelemetry's words."""

from __future__ import annotations

import gzip
import logging
import threading
import urllib.request

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest

from meshsdk.telemetry.counts import CLIENT, Counts
from meshsdk.telemetry.families import Family, Kind, Point, Spread
from meshsdk.telemetry.log_records import TraceIds
from meshsdk.telemetry.otel_metrics import attach
from meshsdk.telemetry.prometheus import Families, MetricsEndpoint

SPREAD = Family("a.time", Kind.HISTOGRAM, "s", "w", (Point({"k.one": "x"}, Spread((1, 0, 2), 7.0)),), (0.5, 2.0))
COUNTER = Family("a.calls", Kind.COUNTER, "{call}", "w", (Point({"k": 'a"b'}, 3), Point({"k": "b", "l": "c"}, 4)))
GAUGE = Family("a.up", Kind.GAUGE, "{bool}", "w", (Point({}, 1),))
EMPTY = Family("a.none", Kind.COUNTER, "{call}", "w", ())


def families():
    """What a process might have."""
    return [SPREAD, COUNTER, GAUGE, EMPTY]


def test_prometheus():
    """Names, suffixes, cumulative buckets, labels that one point lacks, escapes."""
    registry = CollectorRegistry()
    registry.register(Families(families))
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    assert lines == [
        'a_time_seconds_bucket{k_one="x",le="0.5"} 1.0',
        'a_time_seconds_bucket{k_one="x",le="2.0"} 1.0',
        'a_time_seconds_bucket{k_one="x",le="+Inf"} 3.0',
        'a_time_seconds_count{k_one="x"} 3.0',
        'a_time_seconds_sum{k_one="x"} 7.0',
        'a_calls_total{k="a\\"b",l=""} 3.0',
        'a_calls_total{k="b",l="c"} 4.0',
        "a_up 1.0",
    ]


@pytest.fixture
def reader():
    """A reader that keeps what it collects."""
    return InMemoryMetricReader()


def metrics(reader):
    """What a reader collects now: scope, then metric by name."""
    data = reader.get_metrics_data()
    resources = [] if data is None else data.resource_metrics
    return {
        scope.scope.name: {metric.name: metric for metric in scope.metrics}
        for resource in resources
        for scope in resource.scope_metrics
    }


def test_opentelemetry(reader):
    """Each reader of a provider collects ours beside the application's own."""
    provider = MeterProvider([reader], shutdown_on_exit=False)
    assert attach(provider, families)
    assert attach(provider, families)  # again, to no effect
    assert metrics(reader).keys() == {"meshsdk"}
    provider.get_meter("mine").create_counter("mine.calls").add(1)
    found = metrics(reader)
    assert found.keys() == {"mine", "meshsdk"}
    ours = found["meshsdk"]
    assert ours.keys() == {"a.time", "a.calls", "a.up"}
    (point,) = ours["a.time"].data.data_points
    assert (point.count, point.sum, tuple(point.bucket_counts), tuple(point.explicit_bounds)) == (
        3,
        7.0,
        (1, 0, 2),
        (0.5, 2.0),
    )
    assert ours["a.time"].unit == "s"
    assert ours["a.calls"].data.is_monotonic
    assert ours["a.calls"].data.aggregation_temporality is AggregationTemporality.CUMULATIVE
    assert [one.value for one in ours["a.calls"].data.data_points] == [3, 4]
    provider.shutdown()


def test_opentelemetry_reads_what_calls_counted(reader):
    """Counts of calls are there at the next collection."""
    counts = Counts(CLIENT)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    attach(provider, counts.families)
    held = counts.of("xds:///a", "/a.B/C")
    held.begin(None)
    held.attempts.add("OK", 0.002)
    held.leave()
    duration = metrics(reader)["meshsdk"]["grpc.client.attempt.duration"]
    assert duration.data.data_points[0].attributes == {
        "grpc.method": "a.B/C",
        "grpc.target": "xds:///a",
        "grpc.status": "OK",
    }
    provider.shutdown()


def test_a_provider_of_another_kind_is_told_of(caplog):
    """What cannot be given metrics is named in one warning, and left alone."""
    with caplog.at_level(logging.WARNING):
        assert not attach(object(), families)
    assert "do not reach this MeterProvider (object)" in caplog.text


def test_log_records_have_the_trace(tracer):
    """A record made inside a span has its ids, one outside has none."""
    record = logging.LogRecord("a", logging.INFO, "f", 1, "m", None, None)
    with tracer.start_as_current_span("s") as span:
        assert TraceIds().filter(record)
    assert record.trace_id == trace.format_trace_id(span.get_span_context().trace_id)
    assert record.trace_sampled
    TraceIds().filter(record)
    assert (record.trace_id, record.span_id) == ("", "")


def test_scrapes_at_the_same_time():
    """Of three scrapes that come while a page is made, all get that page: the process is read once."""
    reads, inside, go_on = [], threading.Event(), threading.Event()

    def slow():
        reads.append(None)
        inside.set()
        assert go_on.wait(20)
        return families()

    endpoint = MetricsEndpoint("127.0.0.1", 0, slow)
    got = []

    def scrape(**headers):
        asked = urllib.request.Request(f"http://127.0.0.1:{endpoint.port}/metrics", headers=headers)
        with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310 - ours
            body = answer.read()
            got.append(gzip.decompress(body) if answer.headers["Content-Encoding"] == "gzip" else body)

    class Told(dict):
        """Sees who finds a page under way."""

        def get(self, key, default=None):
            found = super().get(key, default)
            if found is not None:
                waiting.release()
            return found

    waiting = threading.Semaphore(0)
    endpoint._server.get_app()._under_way = Told()
    threads = [threading.Thread(target=scrape) for _ in range(3)]
    try:
        threads[0].start()
        assert inside.wait(20)
        for thread in threads[1:]:
            thread.start()
            assert waiting.acquire(timeout=20)
        go_on.set()
        for thread in threads:
            thread.join(20)
        assert (len(reads), len(got), len(set(got))) == (1, 3, 1)
        scrape(**{"Accept-Encoding": "gzip"})
        assert (len(reads), len(set(got))) == (2, 1)
        assert b"a_up 1.0" in got[-1]
    finally:
        go_on.set()
        endpoint.close()
