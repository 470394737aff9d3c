"""The admin interface's HTTP server, a thread per connection. Carries bytes; `api` decides.

Has no login: it listens on loopback unless told otherwise, and refuses what a web page could make a browser send.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from controlplane.admin.address import split_address
from controlplane.admin.api import METRICS, Answer, Api, Text
from controlplane.config.tree import MAX_BYTES
from meshsdk.errors import ConfigurationError

_LOG = logging.getLogger(__name__)
_CONNECTIONS = 64
_PATIENCE = 30.0  # seconds a connection may be silent


def _trusted(handler: BaseHTTPRequestHandler) -> bool:
    """Tells whether a request can come from a tool: browsers send an Origin, and names they were made to resolve."""
    if handler.headers.get("Origin") is not None:
        return False
    name = (handler.headers.get("Host") or "").rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return name == "localhost" or ipaddress.ip_address(name) is not None
    except ValueError:
        return False


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "meshctl"
    sys_version = ""
    timeout = _PATIENCE
    api: Api  # set by the subclass that AdminServer makes

    def do_GET(self) -> None:
        """Reads."""
        self._answer()

    def do_POST(self) -> None:
        """Applies."""
        self._answer()

    def do_DELETE(self) -> None:
        """Deletes."""
        self._answer()

    def _answer(self) -> None:
        length = self.headers.get("Content-Length") or "0"
        if self.path != METRICS and not _trusted(self):  # scrapers ask by name, and metrics hold no secrets
            self._send(Answer(403, {"errors": ["the admin interface is for tools on this host, not for web pages"]}))
        elif self.headers.get("Transfer-Encoding") or not length.isdecimal():
            self.close_connection = True
            self._send(Answer(411, {"errors": ["a Content-Length is needed"]}))
        elif int(length) > MAX_BYTES:
            self.close_connection = True
            self._send(Answer(413, {"errors": [f"larger than {MAX_BYTES} bytes"]}))
        else:
            body = self.rfile.read(int(length))
            answer: Answer | Text
            try:
                answer = self.api.answer(self.command, self.path, body)
            except Exception:  # noqa: BLE001 - a fault in one request must be said to its caller, and logged in full
                _LOG.exception("the admin interface failed on %s %s", self.command, self.path)
                answer = Answer(500, {"errors": ["internal error; the control plane's log has it"]})
            self._send(answer)

    def _send(self, answer: Answer | Text) -> None:
        if isinstance(answer, Text):
            status, kind, body = 200, answer.content_type, answer.body
        else:
            status, kind, body = answer.status, "application/json", json.dumps(answer.value).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Logs to our logger instead of stderr."""
        _LOG.debug(format, *args)


class _Server(ThreadingHTTPServer):
    """Takes so many connections and no more."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: type[_Handler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hands a connection to a thread, or closes it where there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serves one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's signature
        """Logs what broke a connection, which is as a rule the other side."""
        _LOG.debug("admin connection from %s broke", client_address, exc_info=True)


class AdminServer:
    """Listens from the moment it is made; serves between `start` and `stop`.

    Raises ConfigurationError where `address` (`HOST:PORT`, port 0 for any) cannot be listened on.
    """

    def __init__(self, address: str) -> None:
        host, port = split_address(address)
        try:
            self._server = _Server((host, port), _Handler)
        except OSError as error:
            raise ConfigurationError(f"the admin interface cannot listen on {address}: {error.strerror}") from None
        bound = f"[{host}]" if ":" in host else host
        self.address = f"{bound}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="admin", daemon=True)

    def start(self, api: Api) -> None:
        """Begins to answer from `api`."""
        self._server.RequestHandlerClass = type("_BoundHandler", (_Handler,), {"api": api})
        self._thread.start()

    def stop(self) -> None:
        """Stops listening. Idempotent."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
