"""`xds.service.orca.v3.OpenRcaService`: a server's load, told out of band as often as a client asks (gRFC A51).

`answer_with` adds it to a server of either kind. A stream holds none of the server's threads: on `grpc.server` it has a
small one of its own, by the same arrangement with grpcio that its health service uses; where an interceptor in between
undoes that, it falls back to one of the server's.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import grpc.aio

from meshsdk.orca.codec import UnreadableReport, decode_request, encode
from meshsdk.orca.server_load import ServerLoad

SERVICE = "xds.service.orca.v3.OpenRcaService"
METHOD = "StreamCoreMetrics"
_MOST_STREAMS = 100
_MIN_INTERVAL = 30.0  # seconds, as in gRPC's own implementations

_Send = Callable[[Any], None]


def answer_with(server: Any, load: ServerLoad, min_interval: float = _MIN_INTERVAL) -> None:
    """Adds the service to a `grpc.Server` or `grpc.aio.Server` that has not started yet.

    `min_interval`: seconds between two reports on a stream, for clients that ask for more of them or do not say. The
    first report is sent at once. Raises ValueError for an interval that is not positive.
    """
    if not min_interval > 0:
        raise ValueError(f"min_interval is {min_interval}: a number of seconds above 0 is expected")
    streams = _Streams(load, min_interval)
    method: Any = streams.told_aio if isinstance(server, grpc.aio.Server) else streams.sync_method()
    handler: Any = grpc.unary_stream_rpc_method_handler(method, None, None)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))


class _Streams:
    """The streams of one server. `_places` has one permit for each that may run; safe from any thread."""

    def __init__(self, load: ServerLoad, min_interval: float) -> None:
        self._load = load
        self._min_interval = min_interval
        self._places = threading.BoundedSemaphore(_MOST_STREAMS)

    def sync_method(self) -> Callable[..., Any]:
        """Returns the behaviour for a `grpc.server`."""

        def tell(request: bytes, context: grpc.ServicerContext, send: _Send | None = None) -> Any:
            try:
                interval = self._interval(request)
            except UnreadableReport as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            if not self._places.acquire(blocking=False):
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"more than {_MOST_STREAMS} streams of load reports")
            over = threading.Event()

            def ended() -> None:
                over.set()
                self._places.release()

            if not context.add_callback(ended):
                ended()
            reports = self._reports(interval, over)
            if send is None:
                return reports
            threading.Thread(target=_send_all, args=(reports, send), name="meshsdk-orca", daemon=True).start()
            return None

        tell.experimental_non_blocking = True  # type: ignore[attr-defined]
        return tell

    async def told_aio(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """The behaviour for a `grpc.aio.server`: cancelled when the stream ends."""
        try:
            interval = self._interval(request)
        except UnreadableReport as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if not self._places.acquire(blocking=False):
            detail = f"more than {_MOST_STREAMS} streams of load reports"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, detail)
        try:
            while True:
                yield encode(self._load.report)
                await asyncio.sleep(interval)
        finally:
            self._places.release()

    def _interval(self, request: bytes) -> float:
        return max(decode_request(request), self._min_interval)

    def _reports(self, interval: float, over: threading.Event) -> Iterator[bytes]:
        while not over.is_set():
            yield encode(self._load.report)
            over.wait(interval)


def _send_all(reports: Iterator[bytes], send: _Send) -> None:
    """Blocks, report by report, until grpc has taken it; a stream that is over takes them all and keeps none."""
    for report in reports:
        send(report)
