"""What switches telemetry on, and off again."""

from __future__ import annotations

import socket
import urllib.request

import pytest

from meshsdk import telemetry
from meshsdk.errors import ConfigurationError
from meshsdk.telemetry import switch as switching
from meshsdk.telemetry.access_lines import AccessLog, CallLogger
from meshsdk.telemetry.counted_calls import CallCounter
from meshsdk.telemetry.environment import Asked, Listening, asked
from meshsdk.telemetry.port import OBSERVING
from meshsdk.telemetry.spans import CallTracer
from meshsdk.telemetry.switch import Settings, Switch


@pytest.fixture
def switch(monkeypatch):
    """A switch of its own, which leaves the process as it was."""
    monkeypatch.setattr(OBSERVING, "observer", None)
    monkeypatch.setattr(OBSERVING, "servers", None)
    monkeypatch.setattr(switching.os, "register_at_fork", lambda **_: None)
    one = Switch()
    monkeypatch.setattr(switching, "SWITCH", one)
    yield one
    one.put(Settings())


@pytest.fixture(autouse=True)
def no_global_providers(monkeypatch):
    """No provider of the SDK has been set in this process, whatever other tests did."""
    monkeypatch.setattr("meshsdk.telemetry.environment._sdk_provides", lambda *_: False)


def scrape(port):
    """What Prometheus would read."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        return answer.read().decode()


def test_nothing_is_on_by_itself(switch):
    """An environment that says nothing switches nothing on."""
    switch.start({})
    assert (OBSERVING.observer, OBSERVING.servers, switch.port) == (None, None, None)


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({"OTEL_TRACES_EXPORTER": "console"}, Asked(traces=True, sdk=True)),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"}, Asked(metrics=True, sdk=True)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a"}, Asked(traces=True, sdk=True)),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, Asked(metrics=True, sdk=True)),
        ({"OTEL_LOGS_EXPORTER": "otlp"}, Asked(sdk=True)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_SDK_DISABLED": "true"}, Asked()),
        ({"MESHSDK_METRICS_PORT": "0"}, Asked(metrics=True, endpoint=Listening("127.0.0.1", range(1)))),
        (
            {"MESHSDK_METRICS_PORT": "9464-9466", "MESHSDK_METRICS_ADDRESS": "10.0.0.7"},
            Asked(metrics=True, endpoint=Listening("10.0.0.7", range(9464, 9467))),
        ),
        ({"MESHSDK_ACCESS_LOG": "0.25"}, Asked(access=0.25)),
    ],
)
def test_the_environment(environ, found):
    """OpenTelemetry's standard variables and ours."""
    assert asked(environ) == found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MESHSDK_METRICS_PORT", "http"),
        ("MESHSDK_METRICS_PORT", "70000"),
        ("MESHSDK_METRICS_PORT", "0-5"),
        ("MESHSDK_METRICS_PORT", "9466-9464"),
        ("MESHSDK_ACCESS_LOG", "2"),
        ("MESHSDK_ACCESS_LOG", "nan"),
        ("MESHSDK_ACCESS_LOG", "yes"),
    ],
)
def test_variables_that_cannot_be_meant(name, value):
    """Refused by name and value, with what to do."""
    with pytest.raises(ConfigurationError, match=name) as refused:
        asked({name: value})
    assert value in str(refused.value)


def test_metrics_alone_are_the_cheap_observer(switch):
    """Without spans and log, calls are only counted."""
    telemetry.enable(traces=False)
    assert isinstance(OBSERVING.observer, CallCounter)
    assert OBSERVING.servers is not None
    telemetry.disable()
    assert (OBSERVING.observer, OBSERVING.servers) == (None, None)


def test_everything_on(switch, tracer):
    """The log stands around spans, spans around counts; each can be switched by itself."""
    telemetry.enable()
    assert isinstance(OBSERVING.observer, CallTracer)
    telemetry.access_log(0.5, routes={"r": 1.0}, errors=True, metadata=["tenant"])
    assert isinstance(OBSERVING.observer, CallLogger)
    assert switch.settings.access_log == AccessLog(0.5, {"r": 1.0}, True, ("tenant",))
    telemetry.access_log(0)
    assert isinstance(OBSERVING.observer, CallTracer)


def test_the_prometheus_endpoint(switch):
    """Serves what was counted on loopback, for as long as it is on."""
    telemetry.enable(traces=False, prometheus=0)
    port = telemetry.prometheus_port()
    OBSERVING.registered.add("/a.B/Scraped")
    call = OBSERVING.observer.began("xds:///a", "/a.B/Scraped")
    call.attempt(0, "a:1", "c", None, None).ended("OK")
    call.ended("OK", "", "", "c")
    text = scrape(port)
    assert 'grpc_client_attempt_started_total{grpc_method="a.B/Scraped",grpc_target="xds:///a"} 1.0' in text
    assert 'grpc_client_call_duration_seconds_count{grpc_method="a.B/Scraped",grpc_status="OK"' in text
    telemetry.disable()
    with pytest.raises(OSError, match="refused"):
        scrape(port)


def test_a_range_of_ports(switch):
    """The first one that is free is taken; none that is free is an error that says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match="choose another"):
            telemetry.enable(prometheus=port)
        assert switch.settings == Settings()
        telemetry.enable(traces=False, prometheus=f"{port}-{port + 20}")
        assert telemetry.prometheus_port() > port


def test_a_port_in_use_keeps_no_process_from_starting(switch, caplog):
    """What the environment asks for and cannot be had is logged; the metrics are counted all the same."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        switch.start({"MESHSDK_METRICS_PORT": str(taken.getsockname()[1])})
    assert "cannot listen on 127.0.0.1" in caplog.text
    assert isinstance(OBSERVING.observer, CallCounter)


def test_the_environment_is_read_once(switch):
    """What the application switched off stays off when the next mesh starts."""
    switch.start({"MESHSDK_ACCESS_LOG": "1"})
    telemetry.disable()
    switch.start({"MESHSDK_ACCESS_LOG": "1"})
    assert OBSERVING.observer is None


def test_a_source_that_fails_is_left_out(switch, caplog):
    """One broken source takes no other metric along."""

    def broken():
        raise RuntimeError("no")

    switch.add(broken)
    switch.add(lambda: ())
    assert [family.name for family in switch.families()] == [
        "grpc.client.attempt.started",
        "grpc.client.attempt.duration",
        "grpc.client.call.duration",
        "grpc.server.call.started",
        "grpc.server.call.duration",
    ]
    assert "could not be read" in caplog.text


def test_a_forked_child_counts_anew(switch):
    """Counts are the parent's; the child's endpoint gets another port."""
    telemetry.enable(traces=False, prometheus=0)
    parent, before = telemetry.prometheus_port(), OBSERVING.observer
    before.began("xds:///a", "/a.B/C").attempt(0, "a:1", "c", None, None).ended("OK")
    endpoint = switch._endpoint
    switch._after_fork()
    try:
        assert telemetry.prometheus_port() != parent
        assert OBSERVING.observer is not before
        assert "grpc_client_attempt_started_total{" not in scrape(telemetry.prometheus_port())
    finally:
        endpoint._server.shutdown()
        endpoint._thread.join()
