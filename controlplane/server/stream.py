"""One open xDS stream: reads requests into its machine, writes what the machine says. Decides nothing.

Made by `service` per RPC. Two tasks: this handler writes, a second one reads; the machine stands between them, so
there is no queue, and a client that does not read holds up nothing but its own writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, Protocol

import grpc

from controlplane.server.machine import Reply, StreamMachine
from controlplane.server.node import Node
from controlplane.server.shift import Shift
from controlplane.server.status import ClientInfo, Event, EventKind, describe_all
from controlplane.server.type_urls import Method
from controlplane.server.wire import Assembler, Limits, Refused, RequestReader, decode_node
from controlplane.snapshot import ResourceCache

# Seconds for a client to drop the clusters that its new routes lead to no more: as long as gRPC's clients wait for one
# that they asked for (A57), so the new ones are there by then, or given up.
LEAVE = 15.0
_FORGETFUL = "envoy"  # user agents that do not say which members of glob collections they hold
Context = grpc.aio.ServicerContext[bytes, bytes]


class Host(Protocol):
    """What a stream needs of its server."""

    cache: ResourceCache
    limits: Limits
    assembler: Assembler
    requests: RequestReader

    def held(self, type_url: str) -> str:
        """Returns why requests of a type are not answered at present; "" if they are."""

    def moved(self, stream: Stream, shift: Shift) -> None:
        """Keeps the index of who wants what."""

    def report(self, event: Event) -> None:
        """Passes an event on to the hook."""

    def sent(self, size: int) -> None:
        """Counts a response of `size` bytes."""


class Stream:
    """Mutable; owned by the server's loop thread."""

    __slots__ = (
        *("_context", "_end", "_host", "_leaving", "_method", "_nacked_at", "_timer", "_wake"),
        *("id", "machine", "node", "opened_at", "sent", "view"),
    )

    def __init__(self, host: Host, stream_id: int, method: Method, context: Context) -> None:
        self.id = stream_id
        self.machine = StreamMachine(delta=method.delta, aggregated=not method.type_url)
        self.node = Node()
        self.view: str | None = None  # known with the first request
        self.opened_at = time.time()
        self.sent = 0
        self._nacked_at: dict[str, float] = {}  # by type URL
        self._leaving: frozenset[tuple[str, str]] = frozenset()  # what `_timer` was set for
        self._timer: asyncio.TimerHandle | None = None
        self._host = host
        self._method = method
        self._context = context
        self._wake = asyncio.Event()
        self._end: tuple[grpc.StatusCode, str] | None = None

    @property
    def transport(self) -> str:
        """The protocol variant: "delta" or "sotw"."""
        return "delta" if self._method.delta else "sotw"

    def wake(self) -> None:
        """Has the writer look whether there is something to send."""
        self._wake.set()

    def end(self, code: grpc.StatusCode, text: str) -> None:
        """Has the writer end the stream with this status."""
        if self._end is None:
            self._end = (code, text)
        self._wake.set()

    async def run(self) -> None:
        """Serves the stream until either side ends it."""
        # A client that waits for response headers must not wait for the first change.
        await self._context.send_initial_metadata(())
        reader = asyncio.ensure_future(self._read())
        reader.add_done_callback(lambda _: self._wake.set())
        try:
            await self._write(reader)
        finally:
            self._set_timer(frozenset())
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):  # told already, by result() in _write
                await reader

    async def _write(self, reader: asyncio.Future[None]) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (reply := self._next()) is not None:
                await self._send(reply)
            if self.machine.withheld != self._leaving:
                self._set_timer(self.machine.withheld)
            if self._end is not None:
                await self._context.abort(*self._end)
            if reader.done():
                reader.result()  # raises what the reader failed of, for grpc to log and to answer
                return

    def _set_timer(self, leaving: frozenset[tuple[str, str]]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._leaving = leaving
        self._timer = asyncio.get_running_loop().call_later(LEAVE, self._let_go) if leaving else None

    def _let_go(self) -> None:
        self.machine.let_go()
        self._wake.set()

    # Stages of their own: a task that waits must not hold on to a response or a snapshot, which may be large and old.

    def _next(self) -> Reply | None:
        if self._end is not None or self.view is None:
            return None
        snapshot = self._host.cache.snapshot(self.view)
        return None if self.machine.at_rest(snapshot) else self.machine.next_reply(snapshot)

    async def _send(self, reply: Reply) -> None:
        message = self._host.assembler.assemble(reply, delta=self._method.delta)
        await self._context.write(message)
        self.sent += 1
        self._host.sent(len(message))

    async def _read(self) -> None:
        while self._end is None:
            raw: Any = await self._context.read()
            if raw is grpc.aio.EOF:
                return
            try:
                await self._receive(raw)
            except Refused as error:
                self._refuse(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    async def _receive(self, raw: bytes) -> None:
        request, node = self._host.requests.read(raw, self._method.type_url, delta=self._method.delta)
        if why := self._host.held(request.type_url):
            self._refuse(grpc.StatusCode.UNAVAILABLE, why)
            return
        view = self.view if self.view is not None else await self._seen(node)
        self._check(request.type_url)
        if request.type_url not in self.machine.subscriptions:
            view = await self._own_view(request.type_url)
        make = self._host.cache.want(view, request.type_url, self.machine.news(request))
        if make is not None:
            await asyncio.to_thread(make)
        snapshot = self._host.cache.snapshot(view)
        shift = self.machine.receive(request, snapshot)
        if request.error is not None:
            self._nacked_at[request.type_url] = time.time()
            self._report(EventKind.NACKED, request.type_url, request.error)
        if shift:
            self._host.moved(self, shift)
            if self.machine.subscribed > self._host.limits.names:
                text = f"more than {self._host.limits.names} names subscribed on one stream"
                self._refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        if not self.machine.at_rest(snapshot):
            self._wake.set()

    async def _seen(self, node: Any) -> str:
        self.node = decode_node(node)
        self.machine.forgetful = self.node.user_agent.startswith(_FORGETFUL)
        self.view = await asyncio.to_thread(self._host.cache.view_of, self.node)  # may wait for a commit
        self._report(EventKind.OPENED)
        return self.view

    async def _own_view(self, type_url: str) -> str:
        """Returns the view for a client that asks for this type too, and moves the stream there.

        Whatever was committed in between may have been told to the streams of one of the two views only; so all that
        the client has is looked at once.
        """
        find = self._host.cache.own_view(self.node, type_url)
        key = await asyncio.to_thread(find) if find is not None else self.view
        if key != self.view:
            for shift in tuple(self.machine.held()):
                self._host.moved(self, shift)
            self.view = key
            for shift in tuple(self.machine.booked()):
                self._host.moved(self, shift)
            self.machine.touch_all()
        return key or ""

    def _check(self, type_url: str) -> None:
        known = self.machine.subscriptions
        if type_url not in known and len(known) >= self._host.limits.types:
            raise Refused(f"more than {self._host.limits.types} resource types on one stream")

    def _refuse(self, code: grpc.StatusCode, text: str) -> None:
        self._report(EventKind.REFUSED, text=text)
        self.end(code, text)

    def _report(self, kind: EventKind, type_url: str = "", text: str = "") -> None:
        self._host.report(Event(kind, self.id, self.node, self._context.peer(), type_url, text))

    def closed(self) -> None:
        """Tells the hook that the stream is over, if it was told that it began."""
        if self.view is not None:
            self._report(EventKind.CLOSED)

    def describe(self) -> ClientInfo:
        """Returns who is at the other end and what it has."""
        return ClientInfo(
            id=self.id,
            node=self.node,
            view=self.view or "",
            peer=self._context.peer(),
            transport=self.transport,
            service=self._method.type_url or "ADS",
            opened_at=self.opened_at,
            sent=self.sent,
            subscriptions=describe_all(self.machine, self._nacked_at),
        )
