"""`/readyz` and `/livez` for orchestrators: 200 or 503 with the service's report as JSON.

Started by a service that is given `health_port`. Requests are answered one after the other on a thread of its own; each
has two seconds. It serves nothing else.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer

from meshsdk.errors import ConfigurationError

Report = Callable[[], Mapping[str, object]]

_LOOPBACK = "127.0.0.1"
_MAX_PORT = 65535


class ProbeServer:
    """Listens from `__init__` to `close`. `address`: where, as `host:port`. Raises ConfigurationError."""

    def __init__(self, where: int | str, report: Report) -> None:
        """`where`: a port of loopback (0: a free one), or `host:port` for probes that come from outside."""
        host, port = _host_and_port(where)
        handler = type("Handler", (_Handler,), {"report": staticmethod(report)})
        try:
            self._server = HTTPServer((host, port), handler)
        except OSError as error:
            raise ConfigurationError(f"serve(health_port={where!r}): cannot listen: {error.strerror}") from None
        self.address = f"{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="meshsdk-probes", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Listens no more. Any thread but its own."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    """One request. `report` is set by the server's own class."""

    timeout = 2  # seconds; of the socket
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


def _host_and_port(where: int | str) -> tuple[str, int]:
    if isinstance(where, int):
        host, port = _LOOPBACK, str(where)
    else:
        host, _, port = where.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and int(port) <= _MAX_PORT):
        raise ConfigurationError(f"serve(health_port={where!r}) must be a port, or host:port to listen elsewhere")
    return host.strip("[]"), int(port)
