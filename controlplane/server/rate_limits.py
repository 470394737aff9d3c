"""The rate limit service (envoy.service.ratelimit.v3) on asyncio: carries questions to the `Limiter`.

Added to the xDS server's port by `assembly`. Whoever cannot be answered gets an error, so that the client's own failure
mode decides: UNAVAILABLE while nothing can be counted, INVALID_ARGUMENT for what no question may be.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from typing import Any

import grpc
import grpc.aio

from controlplane.ratelimit.counters import CountersDown
from controlplane.ratelimit.limiter import Limiter
from controlplane.server import rate_limit_wire as wire
from controlplane.server.wire import Refused

_LOG = logging.getLogger(__name__)
_FAREWELL = 2.0  # seconds that connections to a store have to close
_Context = grpc.aio.ServicerContext[bytes, bytes]


class RateLimitService:
    """Owned by the server's loop thread, but for `close`. `_loop` is written once, by `add_to`."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._loop: asyncio.AbstractEventLoop | None = None

    def add_to(self, server: grpc.aio.Server) -> None:
        """Adds the service to a server that has not been started. On the server's loop."""
        self._loop = asyncio.get_running_loop()
        service, method = wire.METHOD.strip("/").split("/")
        handler: Any = grpc.unary_unary_rpc_method_handler(self.should_rate_limit)  # bytes both ways
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))

    async def should_rate_limit(self, raw: bytes, context: _Context) -> bytes:
        """ShouldRateLimit."""
        try:
            return wire.write(await self._limiter.ask(wire.read(raw)))
        except Refused as refused:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(refused))
        except CountersDown as down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"rate limits cannot be counted: {down}")

    def close(self) -> None:
        """Lets go of the store's connections. From any thread but the server's, before the server stops; idempotent."""
        loop, self._loop = self._loop, None
        if loop is None or loop.is_closed():
            return
        closing = self._limiter.close()
        try:
            asyncio.run_coroutine_threadsafe(closing, loop).result(_FAREWELL)
        except concurrent.futures.TimeoutError:
            _LOG.warning("rate limits: connections to the store did not close within %g s", _FAREWELL)
        except RuntimeError:  # the loop ended meanwhile, and its connections with it
            closing.close()
