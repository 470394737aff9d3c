"""`XdsServer`: the gRPC server around a `ResourceCache`. The only I/O of the xDS server, with `stream` per RPC.

Carries bytes between clients and machines and wakes the streams that a commit concerns. Runs on a thread and loop of
its own (`start`), so that a program with any or no loop can hold one, or on the caller's loop (`serve`).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

import grpc

from controlplane.server.debounce import Debounce
from controlplane.server.interest import Interest
from controlplane.server.machine import Reply, StreamMachine
from controlplane.server.resource_map import Change
from controlplane.server.shift import Shift
from controlplane.server.status import ClientInfo, Counters, Event, Tally
from controlplane.server.stream import Context, Stream
from controlplane.server.type_urls import Method, methods
from controlplane.server.wire import Assembler, Limits, Refused, RequestReader, decode_node, decode_sotw
from controlplane.snapshot import ResourceCache
from meshsdk.errors import ConfigurationError, LifecycleError

_LOG = logging.getLogger(__name__)
_START_TIMEOUT = 30.0  # seconds until a server that does not come up is given up
_ANSWER_TIMEOUT = 10.0  # seconds for the server's loop to answer another thread
_IDENTIFIER = "meshsdk"

# gRPC clients ping idle streams (A8); a server that is not told so answers ENHANCE_YOUR_CALM. Our own pings find
# clients that are gone without a word.
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),  # core counts a minute for an answer, whatever the line above says
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)

T = TypeVar("T")
AddServices = Callable[[grpc.aio.Server], None]


class XdsServer:
    """Serves a `ResourceCache` over xDS: ADS and the separate services, state of the world and delta.

    `services`: functions that add further gRPC services to the server before it starts. `on_event`: called on the
    server's thread with each `Event`; must return at once. `debounce`: (seconds of quiet, seconds at most) between a
    commit and its push; a new subscription is answered at once. `credentials`: server TLS; plain text without.
    `held`: called on the server's thread with a type URL; returns why it is not answered at present, "" where it is.

    Once stopped it cannot be started again. `start`, `stop` and `clients` may be called from any thread.
    """

    def __init__(
        self,
        cache: ResourceCache,
        *,
        services: Iterable[AddServices] = (),
        on_event: Callable[[Event], None] | None = None,
        limits: Limits | None = None,
        debounce: tuple[float, float] = (0.02, 0.5),
        credentials: grpc.ServerCredentials | None = None,
        held: Callable[[str], str] = lambda _: "",
    ) -> None:
        self.cache = cache
        self.limits = limits or Limits()
        self.held = held
        self.assembler = Assembler(_IDENTIFIER)  # owned by the loop thread, as all below but the inbox
        self.requests = RequestReader(self.limits)
        self._services = tuple(services)
        self._on_event = on_event
        self._credentials = credentials
        self._debounce = Debounce(*debounce)
        self._interest: Interest[Stream] = Interest()
        self._streams: set[Stream] = set()
        self._stale: set[Stream] = set()  # touched and not woken yet
        self._tally = Tally()
        self._ids = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._worked = 0.0  # CPU seconds of the loop's thread when changes went out the last time
        self._server: grpc.aio.Server | None = None
        self._closing = False
        self._stop_asked: asyncio.Future[float] | None = None
        self._unlisten: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # written once, before the server listens
        self._loop_thread = 0  # id of the thread that runs the loop; written with it
        self._thread: threading.Thread | None = None  # owned by the caller of start and stop
        self._inbox: list[Change] = []  # guarded by _inbox_lock: commits come from any thread
        self._inbox_lock = threading.Lock()

    # -- on a thread of its own -------------------------------------------------------------------------------------

    def start(self, address: str = "127.0.0.1:0") -> int:
        """Listens on `host:port` (port 0: any free one) and serves on a thread of its own. Returns the bound port.

        Raises:
            ConfigurationError: the address cannot be listened on.
            LifecycleError: started before.
        """
        if self._thread is not None:
            raise LifecycleError("this XdsServer was started before; make a new one")
        started: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(address, started)), name="xds-server", daemon=True
        )
        self._thread.start()
        return started.result(_START_TIMEOUT)

    def stop(self, grace: float = 1.0) -> None:
        """Ends a server on any thread: xDS streams at once with UNAVAILABLE, other calls within `grace` seconds.

        New connections are refused and known ones told to go (GOAWAY). Waits for the end of the thread that `start`
        made. Idempotent.
        """
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nothing left to stop
                self._loop.call_soon_threadsafe(self._ask_to_stop, grace)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def clients(self) -> tuple[ClientInfo, ...]:
        """Returns what each open stream wants, has, acknowledged and rejected, by stream id."""
        return self._ask(self._describe, ())

    def counters(self) -> Counters:
        """Returns what the server did so far, for metrics."""
        return self._ask(self._count, self._tally.counters({}, 0))

    def asking(self, type_url: str, names: Iterable[str]) -> Mapping[str, frozenset[str]]:
        """Returns the keys of the views that ask for resources, by name (`*` for all) or key of a glob collection."""
        listed = tuple(names)
        return self._ask(lambda: {name: self._interest.views(type_url, name) for name in listed}, {})

    def _ask(self, question: Callable[[], T], otherwise: T) -> T:
        """Returns what `question` says on the server's thread; `otherwise` if the server does not run."""
        loop = self._loop
        if loop is None or self._closing:
            return otherwise
        if threading.get_ident() == self._loop_thread:
            return question()

        async def answer() -> T:
            return question()

        return asyncio.run_coroutine_threadsafe(answer(), loop).result(_ANSWER_TIMEOUT)

    # -- on the caller's loop ---------------------------------------------------------------------------------------

    async def serve(self, address: str = "127.0.0.1:0", ready: Callable[[int], None] | None = None) -> None:
        """Serves on the running loop until `stop` is called or the task is cancelled; `ready` gets the bound port."""
        port = await self.open(address)
        try:
            if ready is not None:
                ready(port)
            await self.close(await self.stop_asked())
        finally:
            await self.close()

    async def open(self, address: str) -> int:
        """Listens on `host:port` with the running loop; returns the bound port. `close` ends it. Raises as `start`."""
        if self._server is not None:
            raise LifecycleError("this XdsServer was started before; make a new one")
        loop = asyncio.get_running_loop()
        server = grpc.aio.server(options=(*_OPTIONS, ("grpc.max_receive_message_length", self.limits.message_bytes)))
        server.add_generic_rpc_handlers((_Handlers(self._handlers()),))
        for add in self._services:
            add(server)
        port = self._listen(server, address)
        self._server, self._loop, self._stop_asked = server, loop, loop.create_future()
        self._loop_thread = threading.get_ident()
        self._unlisten = self.cache.listen(self._committed)
        await server.start()
        return port

    async def stop_asked(self) -> float:
        """Waits until `stop` is called, on whatever thread; returns its grace, seconds."""
        if self._stop_asked is None:
            raise LifecycleError("this XdsServer is not open")
        return await asyncio.shield(self._stop_asked)

    async def close(self, grace: float = 1.0) -> None:
        """Ends what `open` began, as `stop` describes. Idempotent."""
        if self._server is None or self._closing:
            return
        self._closing = True
        if self._unlisten is not None:
            self._unlisten()
        if self._timer is not None:
            self._timer.cancel()
        # The GOAWAY goes first, so that clients whose stream ends do not come back on the same connection.
        stopping = asyncio.ensure_future(self._server.stop(grace))
        await asyncio.sleep(0)
        for stream in tuple(self._streams):
            stream.end(grpc.StatusCode.UNAVAILABLE, "the xDS server is stopping")
        await stopping

    async def _serve(self, address: str, started: concurrent.futures.Future[int]) -> None:
        opening = asyncio.ensure_future(self.open(address))
        await asyncio.wait((opening,))
        error = opening.exception()
        if error is not None:
            started.set_exception(error)
            return
        started.set_result(opening.result())
        await self.close(await self.stop_asked())

    def _listen(self, server: grpc.aio.Server, address: str) -> int:
        try:
            if self._credentials is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise ConfigurationError(f"the xDS server cannot listen on {address!r}: {error}") from error
        if port == 0:
            raise ConfigurationError(f"the xDS server cannot listen on {address!r}: the address is not usable")
        return port

    def _ask_to_stop(self, grace: float) -> None:
        if self._stop_asked is not None and not self._stop_asked.done():
            self._stop_asked.set_result(grace)

    def _describe(self) -> tuple[ClientInfo, ...]:
        return tuple(stream.describe() for stream in sorted(self._streams, key=lambda stream: stream.id))

    def _count(self) -> Counters:
        transports = Counter(stream.transport for stream in self._streams)
        return self._tally.counters(dict(transports), sum(stream.machine.stale for stream in self._streams))

    # -- streams ----------------------------------------------------------------------------------------------------

    def moved(self, stream: Stream, shift: Shift) -> None:
        """Keeps the index of who wants what; called by a stream after a request."""
        self._interest.apply(stream.view or "", stream, shift)

    def report(self, event: Event) -> None:
        """Counts an event and passes it to the hook; a hook that fails is logged and harms no stream."""
        self._tally.note(event)
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:  # noqa: BLE001 - whatever a foreign hook raises, logged in full
            _LOG.exception("on_event failed for %s", event)

    def sent(self, size: int) -> None:
        """Counts a response of `size` bytes."""
        self._tally.messages += 1
        self._tally.bytes += size

    def _handlers(self) -> Mapping[str, grpc.RpcMethodHandler[bytes, bytes]]:
        found: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
        for path, method in methods().items():
            if method.unary:
                found[path] = grpc.unary_unary_rpc_method_handler(self._fetcher(method))
            else:
                found[path] = grpc.stream_stream_rpc_method_handler(self._streamer(method))
        return found

    def _streamer(self, method: Method) -> Callable[[object, Context], Awaitable[None]]:
        async def run(_: object, context: Context) -> None:
            if self._closing:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the xDS server is stopping")
            if len(self._streams) >= self.limits.streams:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self.limits.streams} streams are open")
            stream = Stream(self, next(self._ids), method, context)
            self._streams.add(stream)
            try:
                await stream.run()
            finally:
                self._forget(stream)

        return run

    def _forget(self, stream: Stream) -> None:
        self._streams.discard(stream)
        self._stale.discard(stream)
        self._tally.stale += stream.machine.stale
        self._interest.drop(stream, stream.machine.held())
        stream.closed()

    def _fetcher(self, method: Method) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def fetch(raw: bytes, context: Context) -> bytes:
            try:
                request, node = decode_sotw(raw, method.type_url, self.limits)
                if why := self.held(request.type_url):
                    await context.abort(grpc.StatusCode.UNAVAILABLE, why)
                seen = decode_node(node)
                find = self.cache.own_view(seen, request.type_url) or partial(self.cache.view_of, seen)
                view = await asyncio.to_thread(find)
            except Refused as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            machine = StreamMachine(delta=False, aggregated=False)
            make = self.cache.want(view, request.type_url, machine.news(request))
            if make is not None:
                await asyncio.to_thread(make)
            snapshot = self.cache.snapshot(view)
            machine.receive(request, snapshot)
            version = snapshot.of(method.type_url).version
            reply = machine.next_reply(snapshot) or Reply(method.type_url, version, "0", ())
            return self.assembler.assemble(reply, delta=False)

        return fetch

    # -- commits ----------------------------------------------------------------------------------------------------

    def _committed(self, change: Change) -> None:
        """Called by the cache on the committing thread."""
        with self._inbox_lock:
            self._inbox.append(change)
            first = len(self._inbox) == 1
        if first and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to tell
                self._loop.call_soon_threadsafe(self._sort_inbox)

    def _sort_inbox(self) -> None:
        """Tells the machines at once what changed, so that any answer counts it in; wakes the writers after a while."""
        with self._inbox_lock:
            changes, self._inbox = self._inbox, []
        concerned = False
        for change in changes:
            for stream, type_url, name, collected in self._interest.affected(change):
                if collected:
                    stream.machine.touch_collection(type_url, name)
                elif name:
                    stream.machine.touch(type_url, name)
                self._stale.add(stream)
                concerned = True
        if concerned and self._loop is not None and not self._closing:
            self._debounce.note(self._loop.time())
            self._arm(self._loop)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        deadline = self._debounce.deadline
        if self._timer is None and deadline is not None:
            self._timer = loop.call_at(deadline, self._fire, loop)

    def _fire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        worked = time.thread_time()
        self._debounce.worked(worked - self._worked)
        if not self._debounce.due(loop.time()):
            self._arm(loop)
            return
        self._worked = worked
        for stream in self._stale:
            stream.wake()
        self._stale.clear()


class _Handlers(grpc.GenericRpcHandler):
    """All discovery RPCs by path, on raw bytes. Read-only after init."""

    def __init__(self, handlers: Mapping[str, grpc.RpcMethodHandler[bytes, bytes]]) -> None:
        self._by_path = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """Returns the handler of a path, None for the next service."""
        return self._by_path.get(handler_call_details.method)
