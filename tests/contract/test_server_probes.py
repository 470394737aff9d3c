"""/readyz and /livez: what they answer, and what they refuse."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
import threading

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


def test_a_slow_peer_holds_up_nobody(capfd):
    """More peers than are served at a time send nothing, one half a request: others are answered, it closes."""
    server = ProbeServer(0, lambda: {"ready": True})
    host, port = server.address.split(":")
    with contextlib.ExitStack() as peers:
        slow = [peers.enter_context(socket.create_connection((host, int(port)), 10)) for _ in range(40)]
        slow[-1].sendall(b"GET /readyz HTTP/1.1\r\n")
        assert get(server.address, "/readyz")[0] == 200
        assert slow[0].recv(1) == b""  # the oldest made room
        thread = threading.Thread(target=server.close, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
        for peer in slow:
            peer.settimeout(30)
            with contextlib.suppress(ConnectionResetError):
                assert b"200" not in peer.recv(1000)
    assert "Traceback" not in capfd.readouterr().err


def drip(slow: socket.socket) -> None:
    """Sends byte after byte of a header until it is hung up on."""
    for _ in range(600):
        slow.send(b"x")
        with contextlib.suppress(TimeoutError):
            if slow.recv(1) == b"":
                raise EOFError


def test_a_connection_has_a_deadline(monkeypatch):
    """A peer whose bytes each come in time is cut off once all of them took too long."""
    monkeypatch.setattr("meshsdk.lifecycle.probe_server._DEADLINE", 0.3)
    server = ProbeServer(0, lambda: {"ready": True})
    host, port = server.address.split(":")
    try:
        with socket.create_connection((host, int(port)), 0.05) as slow:
            slow.sendall(b"GET /livez HTTP/1.1\r\nX: ")
            with pytest.raises((BrokenPipeError, ConnectionResetError, EOFError)):
                drip(slow)
    finally:
        server.close()


def test_a_probe_that_fails_prints_nothing(capfd, caplog):
    """A report that raises is a line for debugging, not a traceback on stderr, and the next probe is answered."""
    reports = [{"ready": True}]

    def report() -> dict[str, object]:
        return reports.pop() if reports else {}["none"]

    caplog.set_level(logging.DEBUG, "meshsdk.lifecycle")
    server = ProbeServer(0, report)
    try:
        reports.clear()
        with pytest.raises(http.client.RemoteDisconnected):
            get(server.address, "/readyz")
        reports.append({"ready": True})
        assert get(server.address, "/readyz")[0] == 200
    finally:
        server.close()
    assert capfd.readouterr().err == ""
    assert "came to nothing" in caplog.text


def test_ipv6_and_no_look_up_of_names(monkeypatch):
    """`[::1]:0` is listened at and shown as a URL has it; the machine's own name is not asked of the DNS."""

    def refuse(*_: object) -> str:
        raise AssertionError("looked up")

    monkeypatch.setattr(socket, "getfqdn", refuse)
    ProbeServer(0, dict).close()
    with socket.socket(socket.AF_INET6) as there:
        try:
            there.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 loopback on this machine")
    server = ProbeServer("[::1]:0", lambda: {"ready": True})
    try:
        assert server.address.startswith("[::1]:")
        assert get(server.address, "/readyz")[0] == 200
    finally:
        server.close()
