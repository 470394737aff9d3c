"""gRPC servers that answer every unary call with their own name; started as a process by tests/e2e.

Usage: backend.py NAME... - prints one JSON object {NAME: port}, then serves until standard input closes or SIGTERM.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent import futures

import grpc

HOLD = 2.0  # seconds


class Names(grpc.GenericRpcHandler):
    """Answers any method with the server's name in bytes, a method `Hold` after HOLD seconds."""

    def __init__(self, name: str) -> None:
        self._answer = name.encode()

    def service(self, handler_call_details):
        """Handles every method alike, but for the time it takes."""
        if handler_call_details.method.endswith("/Hold"):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: self._late())
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._answer)

    def _late(self):
        time.sleep(HOLD)
        return self._answer


def main() -> None:
    """Starts one server per name in this process."""
    servers, ports = [], {}
    for name in sys.argv[1:]:
        server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Names(name)])
        ports[name] = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
    print(json.dumps(ports), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
