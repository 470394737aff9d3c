"""The access log's lines, and which calls get one."""

from __future__ import annotations

import json
import logging

import pytest

from meshsdk.errors import ConfigurationError
from meshsdk.model.resources import Locality
from meshsdk.telemetry import access_lines
from meshsdk.telemetry.access_lines import AccessLog, CallLogger
from meshsdk.telemetry.spans import CallTracer

METHOD = "/shop.Orders/Get"
TARGET = "xds:///orders"


@pytest.fixture
def lines(caplog):
    """Returns the lines so far, read back."""
    caplog.set_level(logging.INFO, logger="meshsdk.access")
    return lambda: [json.loads(record.getMessage()) for record in caplog.records if record.name == "meshsdk.access"]


def make(log, code="OK", route="by-name", inner=None, metadata=None):
    """One call with one attempt; tells whether it was watched."""
    call = CallLogger(log, inner).began(TARGET, METHOD)
    if call is None:
        return False
    call.attempt(0, "10.0.0.1:50051", "blue", None, metadata).ended(code)
    call.ended(code, "why" if code != "OK" else "", route, "blue")
    return True


def test_a_line(lines):
    """A call that ends OK at once: where it went and how long it took, and nothing of its metadata."""
    make(AccessLog(), metadata=(("authorization", "secret"), ("tenant", "acme")))
    (line,) = lines()
    assert line.pop("time") > 1_600_000_000
    assert line.pop("seconds") >= 0
    assert line == {
        "target": TARGET,
        "method": METHOD,
        "route": "by-name",
        "cluster": "blue",
        "endpoint": "10.0.0.1:50051",
        "status": "OK",
        "attempts": 1,
    }


def test_attempts_and_events(lines):
    """A call that was retried tells of each attempt; one that was refused tells by what."""
    call = CallLogger(AccessLog(), None).began(TARGET, METHOD)
    call.attempt(0, "10.0.0.1:1", "blue", Locality("eu", "a"), None).ended("UNAVAILABLE")
    call.event("retry", {"seconds": 0.5})
    call.attempt(1, "10.0.0.2:1", "blue", None, None).ended("OK")
    call.ended("OK", "", "r", "blue")
    refused = CallLogger(AccessLog(), None).began(TARGET, METHOD)
    refused.event("reject", {"category": "local_rate_limit", "code": "RESOURCE_EXHAUSTED"})
    refused.ended("RESOURCE_EXHAUSTED", "over the limit", "r", "")
    retried, rejected = lines()
    assert [(one["endpoint"], one["status"]) for one in retried["tried"]] == [
        ("10.0.0.1:1", "UNAVAILABLE"),
        ("10.0.0.2:1", "OK"),
    ]
    assert retried["attempts"] == 2
    assert retried["events"] == [{"event": "retry", "seconds": 0.5}]
    assert rejected["rejected_by"] == "local_rate_limit"
    assert (rejected["endpoint"], rejected["attempts"], rejected["details"]) == ("", 0, "over the limit")


def test_the_trace(lines, tracer):
    """With spans on, the line has the call's trace."""
    traced = CallTracer(tracer, None)
    make(AccessLog(), inner=traced)
    assert len(lines()[0]["trace_id"]) == 32


def test_named_metadata(lines):
    """Only what was named is written, and not at any length."""
    make(AccessLog(metadata=("tenant",)), metadata=(("tenant", "a" * 1000), ("x", "y")))
    assert lines()[0]["metadata"] == {"tenant": "a" * 256}


@pytest.mark.parametrize("key", ["authorization", "cookie", "Upper", "blob-bin"])
def test_secrets_are_refused(key):
    """Metadata that is a secret, or cannot be text, is not to be named."""
    with pytest.raises(ConfigurationError, match=key):
        AccessLog(metadata=(key,))


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_shares(share):
    """A share is 0 to 1."""
    with pytest.raises(ConfigurationError, match="0 to 1"):
        AccessLog(share)
    with pytest.raises(ConfigurationError, match="0 to 1"):
        AccessLog(routes={"r": share})


def test_sampling(lines, monkeypatch):
    """A call is written if its draw is under its route's share; none is watched that no share could choose."""
    log = AccessLog(0.1, routes={"hot": 0.01, "cold": 0.5})
    for draw, route, watched in ((0.005, "hot", True), (0.05, "hot", True), (0.3, "cold", True), (0.6, "cold", False)):
        monkeypatch.setattr(access_lines.random, "random", lambda draw=draw: draw)
        assert make(log, route=route) is watched
    make_other = [line["route"] for line in lines()]
    assert make_other == ["hot", "cold"]


def test_errors(lines, monkeypatch):
    """With `errors`, a call that fails is written whatever its draw."""
    monkeypatch.setattr(access_lines.random, "random", lambda: 0.99)
    log = AccessLog(0.0, errors=True)
    make(log)
    make(log, "INTERNAL")
    assert [line["status"] for line in lines()] == ["INTERNAL"]


def test_what_is_inside_sees_calls_that_are_not_logged(monkeypatch, tracer, exporter):
    """Sampling the log samples nothing else."""
    monkeypatch.setattr(access_lines.random, "random", lambda: 0.99)
    call = CallLogger(AccessLog(0.1), CallTracer(tracer, None)).began(TARGET, METHOD)
    call.ended("OK", "", "", "")
    assert len(exporter.get_finished_spans()) == 1
