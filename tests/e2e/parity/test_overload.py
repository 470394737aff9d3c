"""Twice the capacity for some seconds: a server with a limit goes on answering, and refusals say what they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest

import meshsdk
from tests.e2e.processes import python

_WORKERS, _SERVICE = 10, 0.05  # seconds of one of them for a call: 200 calls a second
_CAPACITY = _WORKERS / _SERVICE
_SECONDS = 3
_LOAD = "tests/e2e/parity/open_loop.py"


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_goodput_holds_at_twice_the_capacity(kind: str) -> None:
    """With adaptive concurrency most of what can be answered is, in time; the rest is refused, with a reason."""
    server = ("tests/e2e/peers/limited_server.py", kind, str(_WORKERS), str(_SERVICE), "adaptive")
    with python(*server) as limited:
        address = f"127.0.0.1:{limited.line()}"
        phases = (f"{_CAPACITY / 2}:1", f"{_CAPACITY * 2}:{_SECONDS}", f"{_CAPACITY / 4}:1")
        with python(_LOAD, address, "/drill.Slow/Work", "1.0", *phases) as load:
            _, during, after = json.loads(load.line(60.0))
    possible = min(_CAPACITY * _SECONDS, during["offered"])
    assert during["ended"]["OK"] > possible / 2, during["ended"]
    assert during["ended"]["UNAVAILABLE"] == during["reasons"]["CONCURRENCY_LIMITED"] > 0
    assert after["ended"]["OK"] > after["offered"] / 2, after["ended"]


@pytest.fixture
def rated() -> Iterator[int]:
    """The port of a server that lets twenty calls a second in."""
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    service = grpc.method_handlers_generic_handler("drill.Slow", {"Work": handler})
    limits = meshsdk.ServerLimits(limit={"rate": "20/s"})
    interceptors = meshsdk.server_interceptors(limits)
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[service], interceptors=interceptors)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(0).wait()


def test_refusals_say_when_to_come_back(rated: int) -> None:
    """Every call above a rate is refused with RetryInfo, beside the reason."""
    with python(_LOAD, f"127.0.0.1:{rated}", "/drill.Slow/Work", "20.0", "100:1") as load:
        (phase,) = json.loads(load.line(60.0))
    refused = phase["ended"]["RESOURCE_EXHAUSTED"]
    assert refused > 0
    assert phase["waits"] == refused
    assert phase["reasons"] == {"LOCAL_RATE_LIMITED": refused}
