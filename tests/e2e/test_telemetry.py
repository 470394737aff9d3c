"""Telemetry of real processes, switched on by the environment alone: spans, the Prometheus endpoint, the access log."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

import meshsdk.testing
from examples import orders_pb2, orders_pb2_grpc
from examples.orders_service import instance
from meshsdk.testing import ControlPlane
from tests.e2e.processes import PATIENCE, Process, until

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)
FRONT = "tests.e2e.peers.telemetry"


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A control plane with one instance of `orders`."""
    with meshsdk.testing.control_plane() as plane, instance(plane, "orders-1", "v1"):
        yield plane


@contextmanager
def front(plane: ControlPlane, kind: str, **environment: str) -> Iterator[tuple[Process, int, int]]:
    """Runs the front service; gives the process, its port and that of its metrics."""
    bootstrap = json.dumps(plane.bootstrap("front"))
    environment["GRPC_XDS_BOOTSTRAP_CONFIG"] = bootstrap
    with Process(sys.executable, "-m", FRONT, kind, env=environment) as process:
        yield process, *ports(process)


def ports(process: Process) -> tuple[int, int]:
    """Reads the next line that has ports, past what exporters print."""
    while not (found := re.fullmatch(r"ports (\d+) (\d+)", process.line())):
        pass
    return int(found[1]), int(found[2])


def call(port: int) -> None:
    """Calls the front service as part of a trace."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = orders_pb2.GetRequest(order_id="42")
        answer = orders_pb2_grpc.OrdersStub(channel).Get(request, timeout=PATIENCE, metadata=CALLER)
    assert answer.served_by == "orders-1"


def scraped(port: int) -> dict[str, float]:
    """The samples of a scrape, by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def value(samples: dict[str, float], name: str, **labels: str) -> float:
    """The sum of the samples of a name that have these labels; fails where there is none."""
    found = [
        number
        for sample, number in samples.items()
        if sample.partition("{")[0] == name and all(f'{key}="{text}"' in sample for key, text in labels.items())
    ]
    assert found, f"no {name} {labels} in {sorted(samples)}"
    return sum(found)


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_a_scrape(plane, kind):
    """One inbound call and one outbound: A66's metrics of both sides, the cluster's and the xDS client's."""
    with front(plane, kind, MESHSDK_METRICS_PORT="0") as (_, port, metrics):
        call(port)
        method = "orders.v1.Orders/Get"
        until(lambda: value(scraped(metrics), "grpc_server_call_duration_seconds_count", grpc_status="OK"), "a call")
        samples = scraped(metrics)
        target = {"grpc_method": method, "grpc_target": "xds:///orders"}
        assert value(samples, "grpc_client_attempt_started_total", **target) == 1
        assert value(samples, "grpc_client_attempt_duration_seconds_count", grpc_status="OK", **target) == 1
        assert value(samples, "grpc_client_call_duration_seconds_bucket", le="+Inf", **target) == 1
        assert value(samples, "grpc_server_call_started_total", grpc_method=method) == 1
        assert value(samples, "grpc_xds_client_connected", grpc_xds_server=plane.address) == 1
        assert value(samples, "grpc_xds_client_resources", grpc_xds_cache_state="acked") >= 4
        assert value(samples, "grpc_xds_client_resource_updates_valid_total") >= 4
        assert value(samples, "meshsdk_xds_client_acks_total", grpc_xds_server=plane.address) >= 4
        assert value(samples, "meshsdk_xds_client_convergence_seconds_count") >= 1
        assert value(samples, "meshsdk_target_snapshot_version", grpc_target="xds:///orders") >= 1
        assert value(samples, "meshsdk_cluster_endpoints", meshsdk_cluster="orders", meshsdk_state="ready") == 1
        assert value(samples, "meshsdk_cluster_calls_succeeded_total", meshsdk_cluster="orders") == 1


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_spans_from_the_inbound_call_to_the_outbound_one(plane, kind):
    """OTEL_TRACES_EXPORTER alone: server span, call and attempt, one below the other, in the caller's trace."""
    environment = {"OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_SERVICE_NAME": "front"}
    with front(plane, kind, **environment) as (process, port, _):
        call(port)
        spans = {span["kind"] + str("server.port" in span["attributes"]): span for span in read_spans(process, 3)}
    server, whole = spans["SpanKind.SERVERFalse"], spans["SpanKind.CLIENTFalse"]
    attempt = spans["SpanKind.CLIENTTrue"]
    assert {one["context"]["trace_id"] for one in spans.values()} == {f"0x{TRACE}"}
    assert server["parent_id"] == "0xb7ad6b7169203331"
    assert whole["parent_id"] == server["context"]["span_id"]
    assert attempt["parent_id"] == whole["context"]["span_id"]
    assert whole["attributes"]["meshsdk.cluster"] == "orders"
    assert whole["resource"]["attributes"]["service.name"] == "front"


def read_spans(process: Process, count: int) -> list[dict]:
    """Reads what OpenTelemetry's console exporter prints: objects over many lines."""
    spans: list[dict] = []
    lines: list[str] = []
    while len(spans) < count:
        line = process.line()
        lines = [line] if line == "{" else [*lines, line]
        if line == "}":
            spans.append(json.loads("\n".join(lines)))
    return spans


def test_a_forked_child_has_an_endpoint_of_its_own(plane):
    """Two processes of one range of ports: each serves its own numbers, and the parent's are not in the child's."""
    with front(plane, "sync", MESHSDK_METRICS_PORT="20464-21000") as (process, port, metrics):
        call(port)
        process.say("fork")
        _, childs = ports(process)
        assert childs != metrics
        assert 20464 <= childs <= 21000
        assert value(scraped(childs), "grpc_client_attempt_started_total") == 1
        assert "grpc_server_call_started_total" not in "".join(scraped(childs))
        process.say("end")


def test_off_by_default(plane):
    """Without a word in the environment there is no endpoint."""
    with front(plane, "sync") as (_, port, metrics):
        call(port)
        assert metrics == 0


def test_what_cannot_be_had(plane):
    """An exporter or a propagator that is not installed is named in the log; calls and the other metrics go on."""
    environment = {"OTEL_TRACES_EXPORTER": "nosuch", "OTEL_PROPAGATORS": "", "MESHSDK_METRICS_PORT": "0"}
    with front(plane, "sync", **environment) as (process, port, metrics):
        call(port)
        assert value(scraped(metrics), "grpc_client_attempt_started_total") == 1
        until(lambda: "Requested component 'nosuch' not found" in process.errors, "the log")
    environment = {"OTEL_TRACES_EXPORTER": "console", "OTEL_PROPAGATORS": "nosuch", "MESHSDK_METRICS_PORT": "0"}
    with front(plane, "sync", **environment) as (process, port, metrics):
        call(port)
        assert value(scraped(metrics), "grpc_client_attempt_started_total") == 1
        until(lambda: "Propagator nosuch not found" in process.errors, "the log")
