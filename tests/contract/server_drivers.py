"""Servers of every kind with the same scripted handlers, and a plain grpcio client: what the server contract runs on.

A request says what its handler shall do (`b"ok"`, `b"abort"`, ...), so that one case runs on every kind of server. The
kinds: `sync` (grpc.server), `aio` (coroutines and async generators), `aio-writer` (context.write) and `aio-threads`
(plain functions on a grpc.aio.server).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio

from meshsdk.interceptors import server_aio, server_sync
from meshsdk.interceptors.activity import ServerActivity
from meshsdk.interceptors.handler_wrapping import rewrapped
from meshsdk.interceptors.rpc import rpc
from meshsdk.interceptors.server_admission import Admissions
from meshsdk.model.server_limits import ServerLimits

SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
KINDS = ("sync", "aio", "aio-writer", "aio-threads")
OWN = (("own", "kept"),)
SERVICE = "contract.Scripted"


@dataclass(frozen=True)
class Status(grpc.Status):
    """What `abort_with_status` takes."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str], ...]


RICH = Status(grpc.StatusCode.FAILED_PRECONDITION, "rich", (("rich", "1"),))


class Scripted:
    """Handlers that do what the request says, plain and async."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.began = threading.Semaphore(0)

    def _act(self, request: bytes, context) -> None:
        if request in (b"own", b"own-error", b"own-abort"):
            context.set_trailing_metadata(OWN)
        if request in (b"error", b"own-error"):
            raise RuntimeError("scripted")
        if request == b"code":
            context.set_code(grpc.StatusCode.DATA_LOSS)
            context.set_details("lost")

    def plain(self, request: bytes, context) -> bytes:
        """Answers one request."""
        self._act(request, context)
        if request in (b"abort", b"own-abort"):
            context.abort(grpc.StatusCode.ABORTED, "scripted abort")
        if request == b"status":
            context.abort_with_status(RICH)
        if request == b"hold":
            self.began.release()
            assert self.gate.wait(20)
        return b"re:" + request

    async def awaited(self, request: bytes, context) -> bytes:
        """Answers one request."""
        self._act(request, context)
        if request in (b"abort", b"own-abort"):
            await context.abort(grpc.StatusCode.ABORTED, "scripted abort")
        if request == b"abort-with":
            await context.abort(grpc.StatusCode.ABORTED, "scripted abort", OWN)
        if request == b"status":
            await context.abort_with_status(RICH)
        if request == b"hold":
            self.began.release()
            while not self.gate.is_set():  # noqa: ASYNC110 - the gate is opened from the test's thread
                await asyncio.sleep(0.005)
        return b"re:" + request

    def plain_handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """All shapes as functions and generators."""

        def stream_unary(requests, context):
            return [self.plain(request, context) for request in requests][-1]

        def unary_stream(request, context):
            answer = self.plain(request, context)  # first: grpc.aio's abort from a thread races with its own writes
            yield b"first"
            yield answer

        def stream_stream(requests, context):
            for request in requests:
                yield self.plain(request, context)

        return _handlers(self.plain, unary_stream, stream_unary, stream_stream)

    def async_handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """All shapes as coroutines and async generators."""

        async def stream_unary(requests, context):
            return [await self.awaited(request, context) async for request in requests][-1]

        async def unary_stream(request, context):
            yield b"first"
            yield await self.awaited(request, context)

        async def stream_stream(requests, context):
            async for request in requests:
                yield await self.awaited(request, context)

        return _handlers(self.awaited, unary_stream, stream_unary, stream_stream)

    def writer_handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """All shapes as coroutines that read and write by the context."""

        async def stream_unary(_requests, context):
            answer = b""
            while (request := await context.read()) is not grpc.aio.EOF:
                answer = await self.awaited(request, context)
            return answer

        async def unary_stream(request, context):
            await context.write(b"first")
            await context.write(await self.awaited(request, context))

        async def stream_stream(_requests, context):
            while (request := await context.read()) is not grpc.aio.EOF:
                await context.write(await self.awaited(request, context))

        return _handlers(self.awaited, unary_stream, stream_unary, stream_stream)


def _handlers(unary_unary, unary_stream, stream_unary, stream_stream) -> dict[str, grpc.RpcMethodHandler]:
    return {
        "unary_unary": grpc.unary_unary_rpc_method_handler(unary_unary),
        "unary_stream": grpc.unary_stream_rpc_method_handler(unary_stream),
        "stream_unary": grpc.stream_unary_rpc_method_handler(stream_unary),
        "stream_stream": grpc.stream_stream_rpc_method_handler(stream_stream),
    }


@dataclass(frozen=True)
class Answer:
    """How one call ended."""

    responses: tuple[bytes, ...]
    code: grpc.StatusCode
    details: str
    trailing: dict[str, str | bytes]


@dataclass
class Running:
    """A server under test with a client's channel to it. `activity` is None for one without interceptors."""

    scripted: Scripted
    channel: grpc.Channel
    activity: ServerActivity | None
    admissions: Admissions | None = None
    _calls: dict[str, object] = field(default_factory=dict)

    def start(self, shape: str, request: bytes, method: str = ""):
        """Starts a call of `shape`; a request stream has the one request. Returns grpcio's call."""
        multi = getattr(self.channel, shape)(f"/{SERVICE}/{method or shape}")
        argument = iter([request]) if shape.startswith("stream_") else request
        return multi(argument, timeout=20) if shape.endswith("_stream") else multi.future(argument, timeout=20)

    def call(self, shape: str, request: bytes, method: str = "") -> Answer:
        """Makes a call to its end."""
        return finish(shape, self.start(shape, request, method))


def finish(shape: str, call) -> Answer:
    """Waits for the end of a call."""
    responses: list[bytes] = []
    try:
        if shape.endswith("_stream"):
            responses.extend(call)
        else:
            responses.append(call.result())
    except (grpc.RpcError, grpc.FutureCancelledError):
        pass  # its code is in the answer
    return Answer(tuple(responses), call.code(), call.details(), dict(call.trailing_metadata() or ()))


@contextmanager
def running(
    kind: str,
    *,
    intercepted: bool = True,
    limits: ServerLimits | None = None,
    limit: object = None,
    unary: object = None,
) -> Iterator[Running]:
    """Runs a server of `kind`, with meshsdk's interceptors or without any.

    `limits`: of its interceptors; `limit`: what its handlers say of themselves with `@meshsdk.rpc`; `unary`: the
    handler of `unary_unary` in place of the scripted one.
    """
    scripted = Scripted()
    make, module = (_sync_server, server_sync) if kind == "sync" else (_aio_server, server_aio)
    interceptors = module.server_interceptors(limits) if intercepted else []
    handlers = _decorated(_handlers_of(kind, scripted), limit)
    if unary is not None:
        handlers["unary_unary"] = grpc.unary_unary_rpc_method_handler(unary)
    admissions = interceptors[-1].admissions if interceptors else None
    with make(handlers, scripted, interceptors) as (port, activity):
        with grpc.insecure_channel(f"127.0.0.1:{port}", (("grpc.use_local_subchannel_pool", 1),)) as channel:
            yield Running(scripted, channel, activity, admissions)
        scripted.gate.set()


def _handlers_of(kind: str, scripted: Scripted) -> dict[str, grpc.RpcMethodHandler]:
    return {
        "sync": scripted.plain_handlers,
        "aio": scripted.async_handlers,
        "aio-writer": scripted.writer_handlers,
        "aio-threads": scripted.plain_handlers,
    }[kind]()


def _decorated(handlers: dict[str, grpc.RpcMethodHandler], limit: object) -> dict[str, grpc.RpcMethodHandler]:
    if limit is None:
        return handlers
    decorate = rpc(limit=limit)
    return {name: rewrapped(handler, decorate, decorate) for name, handler in handlers.items()}


@contextmanager
def _sync_server(handlers: dict[str, grpc.RpcMethodHandler], scripted: Scripted, interceptors: list):
    server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=interceptors)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port, interceptors[-1].activity if interceptors else None
    scripted.gate.set()
    server.stop(2).wait()


@contextmanager
def _aio_server(handlers: dict[str, grpc.RpcMethodHandler], scripted: Scripted, interceptors: list):
    pool = DaemonPool()
    with loop_thread() as loop:

        async def start():
            server = grpc.aio.server(pool, interceptors=interceptors)
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            return server, port

        server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
        yield port, interceptors[-1].activity if interceptors else None
        scripted.gate.set()
        asyncio.run_coroutine_threadsafe(server.stop(2), loop).result(20)


class DaemonPool(futures.Executor):
    """Runs each job on a daemon thread: grpc.aio leaves threads of failed streams waiting in its queue for ever."""

    def submit(self, fn, /, *args, **kwargs):
        """Starts a job."""
        future: futures.Future = futures.Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - as ThreadPoolExecutor does
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future


async def _cancel_the_rest() -> None:
    """As asyncio.run does at its end."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    if rest:
        await asyncio.wait(rest, timeout=10)


@contextmanager
def loop_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """Runs an event loop on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_the_rest(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
