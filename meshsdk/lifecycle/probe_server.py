"""`/readyz` and `/livez` for orchestrators: 200 or 503 with the service's report as JSON.

Started by a service that is given `health_port`. One thread accepts and cuts off who takes longer than two seconds in
all; every connection has a thread of its own, so that a slow peer holds up neither the others nor the service's end.
It serves nothing else.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from meshsdk.errors import ConfigurationError

Report = Callable[[], Mapping[str, object]]

_LOG = logging.getLogger("meshsdk.lifecycle")
_LOOPBACK = "127.0.0.1"
_MAX_PORT = 65535
_MAX_CONNECTIONS = 32  # one more, and the oldest is cut off
_DEADLINE = 2.0  # seconds for a connection, from its first byte to its last
_TICK = 0.1  # seconds between looks at deadlines, and at `close`


class ProbeServer:
    """Listens from `__init__` to `close`. `address`: where, as `host:port`. Raises ConfigurationError."""

    def __init__(self, where: int | str, report: Report) -> None:
        """`where`: a port of loopback (0: a free one), or `host:port` for probes that come from outside."""
        host, port = _host_and_port(where)
        handler = type("Handler", (_Handler,), {"report": staticmethod(report)})
        family = _Server6 if ":" in host else _Server
        try:
            self._server = family((host, port), handler)
        except OSError as error:
            raise ConfigurationError(f"serve(health_port={where!r}): cannot listen: {error.strerror}") from None
        shown = f"[{host}]" if ":" in host else host
        self.address = f"{shown}:{self._server.server_address[1]}"
        self._closed = False  # written by `close` only
        self._thread = threading.Thread(target=self._run, name="meshsdk-probes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listens no more and cuts off who is still there; a second at most. Any thread but its own."""
        self._closed = True
        self._thread.join(1.0)
        self._server.server_close()
        self._server.cut_off(open_since=time.monotonic())

    def _run(self) -> None:
        while not self._closed:
            self._server.handle_request()  # returns after `timeout`
            self._server.cut_off(open_since=time.monotonic() - _DEADLINE)


class _Server(ThreadingMixIn, TCPServer):
    """A thread for each connection. Not http.server's: that one looks its own name up in the DNS as it starts."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = _MAX_CONNECTIONS
    timeout = _TICK

    def __init__(self, *arguments: Any) -> None:
        self._open: dict[socket.socket, float] = {}  # since when (monotonic), oldest first; guarded by _lock
        self._lock = threading.Lock()
        super().__init__(*arguments)
        self.socket.settimeout(_TICK)  # a peer that is gone again before `accept` holds nothing up

    def cut_off(self, *, open_since: float) -> None:
        """Ends connections that were there at this time; their threads find them closed."""
        with self._lock:
            late = [connection for connection, since in self._open.items() if since <= open_since]
        for connection in late:
            _hang_up(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begins to serve a connection; on the accepting thread."""
        with self._lock:
            oldest = next(iter(self._open)) if len(self._open) >= _MAX_CONNECTIONS else None
            if oldest is not None:
                del self._open[oldest]
            self._open[request] = time.monotonic()
        if oldest is not None:
            _hang_up(oldest)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Ends a connection; on its own thread."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's signature
        """A probe that came to nothing is the peer's affair."""
        _LOG.debug("a probe from %s came to nothing: %s", client_address, sys.exc_info()[1])


class _Server6(_Server):
    """The same, over IPv6."""

    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    """One request. `report` is set by the server's own class."""

    timeout = _DEADLINE  # of one read or write
    report: Report

    def do_GET(self) -> None:
        """Answers a probe."""
        report = self.report()
        path = self.path.split("?")[0]
        if path == "/livez":
            self._send(HTTPStatus.OK, report)
        elif path == "/readyz":
            self._send(HTTPStatus.OK if report["ready"] else HTTPStatus.SERVICE_UNAVAILABLE, report)
        else:
            self._send(HTTPStatus.NOT_FOUND, {"problem": "there are /readyz and /livez"})

    def _send(self, status: HTTPStatus, report: Mapping[str, object]) -> None:
        body = json.dumps(report).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Probes come every few seconds: they are not logged."""


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended by itself
        connection.shutdown(socket.SHUT_RDWR)


def _host_and_port(where: int | str) -> tuple[str, int]:
    if isinstance(where, int):
        host, port = _LOOPBACK, str(where)
    else:
        host, _, port = where.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and int(port) <= _MAX_PORT):
        raise ConfigurationError(f"serve(health_port={where!r}) must be a port, or host:port to listen elsewhere")
    return host.strip("[]"), int(port)
