"""The load reporting service (LRS, envoy.service.load_stats.v3) on asyncio: carries reports into the `LoadBook`.

Added to the xDS server's port by `assembly`. Clients open one stream each, as a rule on the connection of their xDS
stream, and are asked for a report every `INTERVAL`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import grpc
import grpc.aio

from controlplane.loads.book import INTERVAL, LoadBook
from controlplane.loads.roll import Stay
from controlplane.server import load_wire
from controlplane.server.wire import Refused, decode_node

_MOST_STREAMS = 10_000
_MOST_CLUSTERS = 10_000  # listed for a client that does not report all of its own accord
_STOPPING = "the control plane is stopping"
_Context = grpc.aio.ServicerContext[bytes, bytes]


class LoadStatsService:
    """Owned by the server's loop thread, but for `close`; `_lock` guards `_ending`.

    `clusters`: names of clusters, for clients that must be told which to report; may wait for a lock. `clock`: unix
    seconds.
    """

    def __init__(
        self, book: LoadBook, clusters: Callable[[], Iterable[str]], clock: Callable[[], float] = time.time
    ) -> None:
        self._book = book
        self._clusters = clusters
        self._clock = clock
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._ending: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}  # one for each stream
        self._closed = False  # written once

    def add_to(self, server: grpc.aio.Server) -> None:
        """Adds the service to a server that has not been started."""
        service, method = load_wire.METHOD.strip("/").split("/")
        handler: Any = grpc.stream_stream_rpc_method_handler(self.stream)  # bytes both ways
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))

    def close(self) -> None:
        """Ends the streams with UNAVAILABLE, so that a stop need not wait for them. From any thread."""
        with self._lock:
            self._closed = True
            for ending, loop in self._ending.items():
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(ending.set)

    async def stream(self, _: object, context: _Context) -> None:
        """StreamLoadStats."""
        ending = asyncio.Event()
        with self._lock:
            refused = self._closed or len(self._ending) >= _MOST_STREAMS
            if not refused:
                self._ending[ending] = asyncio.get_running_loop()
        if refused:
            why = _STOPPING if self._closed else f"{_MOST_STREAMS} streams of reports are open"
            await context.abort(grpc.StatusCode.UNAVAILABLE, why)
        reader = asyncio.ensure_future(self._serve(next(self._ids), context))
        reader.add_done_callback(lambda _: ending.set())
        try:
            await ending.wait()
            if not reader.done():
                await context.abort(grpc.StatusCode.UNAVAILABLE, _STOPPING)
            error = reader.exception()
            if isinstance(error, Refused):
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            if error is not None:
                raise error  # for grpc to log and to answer
        finally:
            with self._lock:
                self._ending.pop(ending, None)
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):  # told already, or the client is gone
                await reader

    async def _serve(self, stream: int, context: _Context) -> None:
        """Reads reports until the client has no more, or is gone."""
        raw: Any = await context.read()
        if raw is grpc.aio.EOF:
            return
        message, counted = load_wire.read(raw)
        node = decode_node(message)
        name = node.id or context.peer()
        stay = Stay(name, node.user_agent, load_wire.process_of(message), self._clock())
        self._book.begin(stream, stay)
        complete = False
        try:
            every = load_wire.ALL_CLUSTERS in node.features
            listed = None if every else tuple(await asyncio.to_thread(self._list))
            await context.write(load_wire.order(INTERVAL, listed))
            if counted:  # as a rule the first message only says who reports
                self._book.report(stream, name, counted, self._clock())
            while True:
                raw = await context.read()
                if raw is grpc.aio.EOF:
                    return
                message, counted = load_wire.read(raw)
                complete = load_wire.is_last(message)
                self._book.report(stream, name, counted, self._clock(), load_wire.number_of(message))
        finally:
            self._book.end(stream, self._clock(), complete=complete)

    def _list(self) -> Iterable[str]:
        return itertools.islice(self._clusters(), _MOST_CLUSTERS)
