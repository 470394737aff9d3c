"""A rate limit service that answers what a test scripts, and keeps what it was asked. A real gRPC server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures

import grpc
from envoy.service.ratelimit.v3 import rls_pb2

METHOD = "ShouldRateLimit"
SERVICE = "envoy.service.ratelimit.v3.RateLimitService"
Response = rls_pb2.RateLimitResponse
Answer = Callable[[grpc.ServicerContext], "Response | bytes"]


class ScriptedLimits:
    """One server. `answer`: gives the response to each question; `asked`: the questions so far, and who for."""

    def __init__(self) -> None:
        self.answer: Answer = lambda _: Response(overall_code=Response.OK)
        self.asked: list[rls_pb2.RateLimitRequest] = []
        self.authorities: list[str] = []
        self.go_on = threading.Event()  # what answers that wait are waiting for
        handler = grpc.unary_unary_rpc_method_handler(self._serve)
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def wait(self, _: grpc.ServicerContext) -> Response:
        """An answer that waits for `go_on`."""
        self.go_on.wait(30)
        return Response(overall_code=Response.OK)

    def _serve(self, raw: bytes, context: grpc.ServicerContext) -> bytes:
        self.asked.append(rls_pb2.RateLimitRequest.FromString(raw))
        answer = self.answer(context)
        return answer if isinstance(answer, bytes) else answer.SerializeToString()

    def close(self) -> None:
        """Stops it at once."""
        self.go_on.set()
        self._server.stop(None).wait()
