"""Asks the application behind the shim whether it is well. One look at a time; `presence` decides what follows."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

import grpc

from meshsdk.lifecycle import health_pb2
from meshsdk.shim.settings import Probe, ProbeKind

_WELL = range(200, 400)  # as a Kubernetes HTTP probe
_MOST = 64 * 1024  # bytes of a page that are read
_LONGEST = 300  # characters of an explanation
_METHOD = "/grpc.health.v1.Health/Check"


def look_at(probe: Probe, target: str) -> Callable[[], str]:
    """Returns what looks at `target` (`ip:port` or `unix:path`): "" for well, else what is wrong in words."""
    match probe.kind:
        case ProbeKind.GRPC:
            return lambda: _grpc(probe, target)
        case ProbeKind.HTTP:
            return lambda: _http(probe, target)
        case ProbeKind.TCP:
            return lambda: _tcp(probe, target)
        case ProbeKind.NONE:
            return lambda: ""


def _tcp(probe: Probe, target: str) -> str:
    try:
        with closing(_connect(probe, target)):
            return ""
    except OSError as error:
        return f"nothing accepts connections at {target}: {error.strerror or error}"


def _http(probe: Probe, target: str) -> str:
    connection = http.client.HTTPConnection("localhost", timeout=probe.timeout)
    try:
        with closing(connection):
            connection.sock = _connect(probe, target)
            connection.request("GET", probe.detail, headers={"Host": "localhost", "User-Agent": "meshsdk-shim"})
            response = connection.getresponse()
            response.read(_MOST)
    except (OSError, http.client.HTTPException) as error:
        return f"GET {probe.detail} at {target}: {error}"
    return "" if response.status in _WELL else f"GET {probe.detail} at {target} answers {response.status}"


def _grpc(probe: Probe, target: str) -> str:
    request = health_pb2.HealthCheckRequest(service=probe.detail).SerializeToString()
    # A channel for each look: one that is kept would back off while the application starts.
    with contextlib.closing(grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)])) as channel:
        try:
            call: Any = channel.unary_unary(_METHOD)  # bytes in, bytes out
            answer = health_pb2.HealthCheckResponse.FromString(call(request, timeout=probe.timeout))
        except grpc.RpcError as error:
            return f"health check at {target}: {error}"[:_LONGEST]
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return f"health check at {target}: {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}"


def _connect(probe: Probe, target: str) -> socket.socket:
    if target.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(probe.timeout)
        connection.connect(target.removeprefix("unix:"))
        return connection
    host, _, port = target.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), probe.timeout)
