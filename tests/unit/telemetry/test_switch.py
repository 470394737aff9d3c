"""What switches telemetry on, and off again."""

from __future__ import annotations

import logging
import os
import socket
import urllib.request
from types import SimpleNamespace

import pytest

from meshsdk import telemetry
from meshsdk.errors import ConfigurationError
from meshsdk.telemetry import access_lines
from meshsdk.telemetry import switch as switching
from meshsdk.telemetry.access_lines import AccessLog, CallLogger
from meshsdk.telemetry.counted_calls import CallCounter
from meshsdk.telemetry.environment import Asked, Listening, asked, configure_sdk
from meshsdk.telemetry.port import OBSERVING
from meshsdk.telemetry.spans import CallTracer
from meshsdk.telemetry.switch import Settings, Switch


@pytest.fixture
def switch(monkeypatch):
    """A switch of its own, which leaves the process as it was."""
    monkeypatch.setattr(OBSERVING, "observer", None)
    monkeypatch.setattr(OBSERVING, "servers", None)
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
        ({"OTEL_TRACES_EXPORTER": "console"}, Asked(traces=True, sdk=frozenset({"TRACES"}))),
        (
            {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"},
            Asked(metrics=True, sdk=frozenset({"METRICS"})),
        ),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a"}, Asked(traces=True, sdk=frozenset({"TRACES"}))),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, Asked(metrics=True, sdk=frozenset({"METRICS"}))),
        ({"OTEL_LOGS_EXPORTER": "otlp"}, Asked(sdk=frozenset({"LOGS"}))),
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
    switch.after_fork()
    try:
        assert telemetry.prometheus_port() != parent
        assert OBSERVING.observer is not before
        assert "grpc_client_attempt_started_total{" not in scrape(telemetry.prometheus_port())
    finally:
        endpoint._server.shutdown()
        endpoint._thread.join()


ALL = {
    "OTEL_TRACES_EXPORTER": "console",
    "OTEL_METRICS_EXPORTER": "console",
    "MESHSDK_METRICS_PORT": "0",
    "MESHSDK_ACCESS_LOG": "1",
}


@pytest.mark.parametrize(
    ("say", "on", "configured"),
    [
        (telemetry.disable, (False, False, False, False), None),
        (lambda: telemetry.enable(traces=False), (False, True, True, True), {"METRICS"}),
        (lambda: telemetry.enable(metrics=False), (True, False, False, True), {"TRACES"}),
        (lambda: telemetry.access_log(0), (True, True, True, False), {"TRACES", "METRICS"}),
    ],
    ids=["disable", "no traces", "no metrics", "no access log"],
)
def test_code_stands_above_the_environment(switch, monkeypatch, say, on, configured):
    """What the application switched off before the first mesh stays off, whatever the environment asks for."""
    asked_of_sdk = []
    monkeypatch.setattr(switching, "configure_sdk", lambda signals, _: asked_of_sdk.append(set(signals)) or True)
    monkeypatch.setattr("meshsdk.telemetry.access_lines.write_somewhere", lambda: None)
    say()
    switch.start(ALL)
    now = switch.settings
    assert (now.traces, now.metrics, switch.port is not None, now.access_log is not None) == on
    assert asked_of_sdk == ([] if configured is None else [configured])


def test_the_keys_of_metadata_are_a_list(switch):
    """A text in place of a list would name its letters: refused, with what to write."""
    with pytest.raises(ConfigurationError, match=r"give a list of keys, \['x-tenant'\]"):
        telemetry.access_log(metadata="x-tenant")


@pytest.fixture
def access_logger(monkeypatch, request):
    """A logger in place of the access log's, as that is in a process where nobody has set up logging."""
    logger = logging.getLogger(f"meshsdk.access.{request.node.name}")
    logger.parent = logging.getLogger(f"{logger.name}.root")
    logger.parent.parent = None
    logger.parent.setLevel(logging.WARNING)
    monkeypatch.setattr(access_lines, "_LOG", logger)
    return logger


def test_the_environment_alone_writes_the_access_log(switch, access_logger, capsys):
    """MESHSDK_ACCESS_LOG writes lines to stderr where `logging` would throw them away."""
    switch.start({"MESHSDK_ACCESS_LOG": "1"})
    OBSERVING.observer.began("xds:///a", "/a.B/C").ended("OK", "", "", "c")
    assert '"target":"xds:///a"' in capsys.readouterr().err


@pytest.mark.parametrize("level", [logging.INFO, logging.ERROR])
def test_an_access_log_that_is_set_up_is_left_alone(access_logger, level):
    """An application that has said where lines go, or that it wants none, is not overruled."""
    access_logger.setLevel(level)
    access_logger.parent.addHandler(logging.NullHandler())
    access_lines.write_somewhere()
    assert (access_logger.handlers, access_logger.propagate, access_logger.level) == ([], True, level)


def test_the_sdk_is_configured_and_the_environment_left_as_it_was(monkeypatch):
    """Only what is on is configured, OTLP where no exporter is named; programs started later see nothing of it."""
    seen = []
    names = [f"OTEL_{signal}_EXPORTER" for signal in ("TRACES", "METRICS", "LOGS")]
    monkeypatch.setattr(
        "opentelemetry.sdk._configuration._OTelSDKConfigurator",
        lambda: SimpleNamespace(configure=lambda: seen.append([os.environ.get(name) for name in names])),
    )
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "console")
    monkeypatch.delenv("OTEL_TRACES_EXPORTER", raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a")
    before = dict(os.environ)
    assert configure_sdk({"TRACES"})
    assert seen == [["otlp", "none", "none"]]
    assert dict(os.environ) == before


def test_a_provider_of_the_application_beside_an_exporter_of_the_environment(monkeypatch, caplog):
    """What the environment asks for and the application's own configuration does not give is told."""
    monkeypatch.setattr("meshsdk.telemetry.environment._sdk_provides", lambda signal, _: signal == "trace")
    assert configure_sdk({"TRACES", "METRICS"})
    assert [one.message.partition(" ")[0] for one in caplog.records] == ["OTEL_METRICS_EXPORTER"]
