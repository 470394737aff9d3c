"""/readyz and /livez: what they answer, and what they refuse."""

from __future__ import annotations

import http.client
import json
import socket

import pytest

from meshsdk.errors import ConfigurationError
from meshsdk.lifecycle.probe_server import ProbeServer


def get(address: str, path: str) -> tuple[int, dict[str, object]]:
    """Asks once."""
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    return answer.status, body


def test_ready_and_alive_are_two_things():
    """/readyz follows the report's `ready`, /livez does not; both say the report, other paths are unknown."""
    report = {"ready": False, "state": "STARTING"}
    server = ProbeServer(0, lambda: report)
    try:
        assert server.address.startswith("127.0.0.1:")
        assert get(server.address, "/readyz") == (503, report)
        assert get(server.address, "/livez") == (200, report)
        report["ready"] = True
        assert get(server.address, "/readyz?verbose") == (200, report)
        assert get(server.address, "/")[0] == 404
    finally:
        server.close()


def test_a_port_that_cannot_be_had_is_refused():
    """One in use, and what is no port at all, end in words."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match="cannot listen"):
            ProbeServer(port, dict)
    for wrong in (-1, 70000, "8080", "host:", "127.0.0.1:x"):
        with pytest.raises(ConfigurationError, match="must be a port"):
            ProbeServer(wrong, dict)


def test_another_address_is_listened_at_when_asked_for():
    """`host:port` is for probes that come from outside of the machine."""
    server = ProbeServer("0.0.0.0:0", lambda: {"ready": True})
    try:
        port = server.address.rpartition(":")[2]
        assert get(f"127.0.0.1:{port}", "/readyz")[0] == 200
    finally:
        server.close()
