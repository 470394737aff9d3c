"""`grpc.health.v1.Health` (Check, List, Watch) for a `grpc.server`.

Added by `serve_sync`. Watch answers without holding one of the server's threads, by the same arrangement with grpcio
that grpcio-health-checking uses; where an interceptor in between undoes it, it falls back to a blocking stream.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from meshsdk.lifecycle import health_pb2 as pb
from meshsdk.lifecycle.health_table import ENDED, MAX_NAME, HealthTable, Listener

SERVICE = "grpc.health.v1.Health"
_STOPPING = "the server is stopping"

_Send = Callable[[Any], None]


def health_handler(table: HealthTable) -> grpc.GenericRpcHandler:
    """Returns the service over `table`."""
    read = pb.HealthCheckRequest.FromString
    write = pb.HealthCheckResponse.SerializeToString

    def check(request: pb.HealthCheckRequest, context: grpc.ServicerContext) -> pb.HealthCheckResponse:
        status = table.status(request.service)
        if status is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service[:MAX_NAME]!r}")
        return _response(status)

    def listing(_request: pb.HealthListRequest, _context: grpc.ServicerContext) -> pb.HealthListResponse:
        return list_response(table)

    def watch(request: pb.HealthCheckRequest, context: grpc.ServicerContext, send: _Send | None = None) -> Any:
        if send is None:
            return _blocking(table, request.service, context)
        return _watch(table, request.service, context, send)

    watch.experimental_non_blocking = True  # type: ignore[attr-defined]
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Check": grpc.unary_unary_rpc_method_handler(check, read, write),
            "List": grpc.unary_unary_rpc_method_handler(
                listing, pb.HealthListRequest.FromString, pb.HealthListResponse.SerializeToString
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(watch, read, write),
        },
    )


def list_response(table: HealthTable) -> pb.HealthListResponse:
    """Builds the answer to List."""
    answer = pb.HealthListResponse()
    for service, status in table.statuses().items():
        answer.statuses[service].status = status  # type: ignore[assignment]
    return answer


class _Watcher:
    """One Watch that holds no thread: whoever changed the status sends, on its own thread."""

    def __init__(self, table: HealthTable, service: str, context: grpc.ServicerContext, send: _Send) -> None:
        self._table = table
        self._service = service
        self._context = context
        self._send = send
        self._lock = threading.Lock()
        self._told: int | None = None  # guarded by _lock; the last status sent

    def look(self) -> None:
        """Sends the status if it is another than was sent last."""
        # grpcio's event thread never comes here, so waiting for its word that the message left cannot deadlock.
        with self._lock:
            status = self._table.watched(self._service)
            if self._told in (status, ENDED):
                return
            self._told = status
            if status == ENDED:
                self._context.set_code(grpc.StatusCode.UNAVAILABLE)
                self._context.set_details(_STOPPING)
                self._send(None)  # grpcio's word for the end of the stream
            else:
                self._send(_response(status))

    def ended(self) -> None:
        """The stream is over."""
        self._table.unwatch(self.look)


def _watch(table: HealthTable, service: str, context: grpc.ServicerContext, send: _Send) -> None:
    watcher = _Watcher(table, service, context, send)
    _begin(table, service, watcher.look, context)
    if context.add_callback(watcher.ended):
        watcher.look()
    else:  # cancelled already
        watcher.ended()


def _blocking(table: HealthTable, service: str, context: grpc.ServicerContext) -> Iterator[pb.HealthCheckResponse]:
    news: queue.SimpleQueue[None] = queue.SimpleQueue()

    def look() -> None:
        news.put(None)

    _begin(table, service, look, context)
    context.add_callback(look)
    told: int | None = None
    try:
        while context.is_active() and (status := table.watched(service)) != ENDED:
            if status != told:
                told = status
                yield _response(status)
            news.get()
    finally:
        table.unwatch(look)
    context.abort(grpc.StatusCode.UNAVAILABLE, _STOPPING)


def _begin(table: HealthTable, service: str, listener: Listener, context: grpc.ServicerContext) -> None:
    if len(service) > MAX_NAME:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"a service name has at most {MAX_NAME} characters")
    if not table.watch(listener):
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many health watches")


def _response(status: int) -> pb.HealthCheckResponse:
    return pb.HealthCheckResponse(status=status)  # type: ignore[arg-type]
