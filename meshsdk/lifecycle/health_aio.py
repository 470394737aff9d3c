"""`grpc.health.v1.Health` (Check, List, Watch) for a `grpc.aio.server`. Added by `serve_aio`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from meshsdk.lifecycle import health_pb2 as pb
from meshsdk.lifecycle.health_sync import SERVICE, list_response
from meshsdk.lifecycle.health_table import ENDED, MAX_NAME, HealthTable


def health_handler(table: HealthTable) -> grpc.GenericRpcHandler:
    """Returns the service over `table`, whose status is to be changed on the server's loop."""
    read = pb.HealthCheckRequest.FromString
    write = pb.HealthCheckResponse.SerializeToString

    async def check(request: pb.HealthCheckRequest, context: Any) -> pb.HealthCheckResponse:
        status = table.status(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service[:MAX_NAME]!r}")
        return pb.HealthCheckResponse(status=status)  # type: ignore[arg-type]

    async def listing(_request: pb.HealthListRequest, _context: Any) -> pb.HealthListResponse:
        return list_response(table)

    async def watch(request: pb.HealthCheckRequest, context: Any) -> AsyncIterator[pb.HealthCheckResponse]:
        if len(request.service) > MAX_NAME:
            detail = f"a service name has at most {MAX_NAME} characters"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, detail)
        news = asyncio.Event()
        if not table.watch(news.set):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many health watches")
        told: int | None = None
        try:
            while (status := table.watched(request.service)) != ENDED:
                news.clear()
                if status != told:
                    told = status
                    yield pb.HealthCheckResponse(status=status)  # type: ignore[arg-type]
                await news.wait()
        finally:
            table.unwatch(news.set)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")

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
