"""How the shim asks an application whether it is well, against real servers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from meshsdk.shim.probe import look_at
from meshsdk.shim.settings import read_probe


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self):
        """Answers /ok well, everything else not."""
        self.send_response(204 if self.path == "/ok" else 503)
        self.end_headers()

    def log_message(self, *_):
        """Stays quiet."""


@pytest.fixture
def pages() -> Iterator[str]:
    """The address of a web server."""
    server = HTTPServer(("127.0.0.1", 0), _Pages)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def rpc() -> Iterator[tuple[str, health.HealthServicer]]:
    """The address of a gRPC server with a health service, and the service."""
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", servicer
    server.stop(0).wait()


@pytest.fixture
def closed() -> Iterator[str]:
    """An address that nothing listens on, and that nobody else gets meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{holder.getsockname()[1]}"


def test_a_page(pages: str, closed: str) -> None:
    """A page that answers 2xx or 3xx is well; an error, or no server, is not, and says why."""
    assert look_at(read_probe("http:/ok"), pages)() == ""
    assert "answers 503" in look_at(read_probe("http:/other"), pages)()
    assert closed in look_at(read_probe("http:/ok"), closed)()


def test_the_health_service(rpc: tuple[str, health.HealthServicer], closed: str) -> None:
    """SERVING is well, of the whole server or of one service; other states, unknown services, no server are not."""
    address, servicer = rpc
    assert look_at(read_probe("grpc"), address)() == ""
    servicer.set("shop.Orders", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert "NOT_SERVING" in look_at(read_probe("grpc:shop.Orders"), address)()
    assert "NOT_FOUND" in look_at(read_probe("grpc:nobody"), address)()
    assert "UNAVAILABLE" in look_at(read_probe("grpc"), closed)()


def test_a_connection(pages: str, closed: str) -> None:
    """A port that accepts is well, a closed one is not."""
    assert look_at(read_probe("tcp"), pages)() == ""
    assert "nothing accepts connections" in look_at(read_probe("tcp"), closed)()


def test_no_probe(closed: str) -> None:
    """Without a probe the application is taken to be well."""
    assert look_at(read_probe("none"), closed)() == ""
