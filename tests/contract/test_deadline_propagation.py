"""An inbound call's deadline caps the calls made while it is handled: A calls B, B calls C through the mesh."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from types import SimpleNamespace

import grpc
import grpc.aio
import pytest

import meshsdk
from meshsdk.channel.aio import MeshAioChannel
from meshsdk.channel.loops import LoopScope
from meshsdk.channel.sync import MeshChannel
from meshsdk.channel.threads import ThreadScope
from meshsdk.interceptors import server_aio, server_sync
from meshsdk.model.resources import Locality
from tests.contract.channel_backend import METHODS, SHAPES, Backend
from tests.contract.channel_callers import PATIENCE, LoopThread
from tests.contract.channels import HOST, TARGET, ScriptedSource, snapshot
from tests.contract.server_drivers import DaemonPool

KINDS = ("sync", "aio", "aio-threads")
MIDDLE = "contract.Middle"
UNLIMITED = 1e6  # seconds; how grpc tells that there is no deadline


class Middle:
    """Handlers of B. A request is `how|request for C`; `failed` gets the status of each call to C that failed."""

    def __init__(self, channel: grpc.Channel | None) -> None:
        self.channel = channel
        self.failed: queue.SimpleQueue[tuple[grpc.StatusCode, str]] = queue.SimpleQueue()

    def ask(self, shape: str, request: bytes) -> list[bytes]:
        """Calls C in the same shape."""
        stub = getattr(self.channel, shape)(METHODS[shape])
        argument = iter([request]) if shape.startswith("stream") else request
        try:
            return list(stub(argument)) if shape.endswith("_stream") else [stub(argument)]
        except grpc.RpcError as error:
            self.failed.put((error.code(), error.details()))
            raise

    def act(self, shape: str, request: bytes) -> bytes:
        """Does it, as the request says how."""
        how, _, rest = request.partition(b"|")
        if how == b"free":
            with meshsdk.no_deadline():
                return self.ask(shape, rest)[0]
        if how == b"tight":
            with meshsdk.deadline(8):
                return self.ask(shape, rest)[0]
        if how == b"thread":
            with futures.ThreadPoolExecutor(1) as pool:
                return pool.submit(contextvars.copy_context().run, self.ask, shape, rest).result()[0]
        if how == b"late":
            time.sleep((meshsdk.time_left() or 0) + 0.01)
        return self.ask(shape, rest)[0]

    def threads(self) -> grpc.GenericRpcHandler:
        """Plain functions and generators, which call in each step of theirs."""

        def streamed(shape):
            def handle(requests, _context):
                for request in [requests] if shape == "unary_stream" else requests:
                    yield self.act(shape, request)
                    yield self.act(shape, request)

            return handle

        return _handlers(
            lambda request, _: self.act("unary_unary", request),
            streamed("unary_stream"),
            lambda requests, _: [self.act("stream_unary", request) for request in requests][-1],
            streamed("stream_stream"),
        )


class AioMiddle(Middle):
    """The same in coroutines and async generators."""

    async def call(self, shape: str, request: bytes) -> bytes:
        """Calls C in the same shape."""
        stub = getattr(self.channel, shape)(METHODS[shape])
        call = stub(iter([request]) if shape.startswith("stream") else request)
        try:
            return await _first(call) if shape.endswith("_stream") else await call
        except grpc.RpcError as error:
            self.failed.put((error.code(), error.details()))
            raise

    async def do(self, shape: str, request: bytes) -> bytes:
        """See `act`."""
        how, _, rest = request.partition(b"|")
        if how == b"free":
            with meshsdk.no_deadline():
                return await self.call(shape, rest)
        if how == b"tight":
            with meshsdk.deadline(8):
                return await self.call(shape, rest)
        if how == b"thread":
            return await asyncio.create_task(self.call(shape, rest))
        if how == b"late":
            await asyncio.sleep((meshsdk.time_left() or 0) + 0.01)
        return await self.call(shape, rest)

    def coroutines(self) -> grpc.GenericRpcHandler:
        """All shapes."""

        async def unary_unary(request, _context):
            if not request.startswith(b"late"):
                return await self.do("unary_unary", request)
            work = asyncio.create_task(self.do("unary_unary", request))  # grpc.aio cancels the handler itself
            return await asyncio.shield(work)

        async def unary_stream(request, _context):
            yield await self.do("unary_stream", request)
            yield await self.do("unary_stream", request)

        async def stream_unary(requests, _context):
            return [await self.do("stream_unary", request) async for request in requests][-1]

        async def stream_stream(requests, _context):
            async for request in requests:
                yield await self.do("stream_stream", request)
                yield await self.do("stream_stream", request)

        return _handlers(unary_unary, unary_stream, stream_unary, stream_stream)


async def _first(call) -> bytes:
    answers = [answer async for answer in call]
    return answers[0]


def _handlers(unary_unary, unary_stream, stream_unary, stream_stream) -> grpc.GenericRpcHandler:
    handlers = {
        "unary_unary": grpc.unary_unary_rpc_method_handler(unary_unary),
        "unary_stream": grpc.unary_stream_rpc_method_handler(unary_stream),
        "stream_unary": grpc.stream_unary_rpc_method_handler(stream_unary),
        "stream_stream": grpc.stream_stream_rpc_method_handler(stream_stream),
    }
    return grpc.method_handlers_generic_handler(MIDDLE, handlers)


@contextmanager
def sync_channel(source: ScriptedSource) -> Iterator[grpc.Channel]:
    """B's channel to C, for threads."""
    scope = ThreadScope(source, Locality(), 7, None, ())
    with MeshChannel(lambda: scope, TARGET, HOST) as channel:
        yield channel
    scope.close()


@contextmanager
def sync_server(source: ScriptedSource):
    """B on one thread, so that a deadline that stays on it meets the next call."""
    with sync_channel(source) as channel, futures.ThreadPoolExecutor(1) as pool:
        middle = Middle(channel)
        server = grpc.server(pool, interceptors=server_sync.server_interceptors(), handlers=(middle.threads(),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield port, middle
        server.stop(5).wait()


@contextmanager
def aio_threads_server(source: ScriptedSource, loop: LoopThread):
    """Plain handlers on grpc.aio."""
    with sync_channel(source) as channel:
        middle = Middle(channel)
        pool = DaemonPool()

        async def start():
            server = grpc.aio.server(pool, interceptors=server_aio.server_interceptors())
            server.add_generic_rpc_handlers((middle.threads(),))
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            return server, port

        server, port = loop.run(start())
        yield port, middle
        loop.run(server.stop(5))


@contextmanager
def aio_server(source: ScriptedSource, loop: LoopThread):
    """Coroutines on grpc.aio."""
    middle = AioMiddle(None)

    async def start():
        scope = LoopScope(source, Locality(), 7, None, ())
        middle.channel = MeshAioChannel(lambda: scope, TARGET, HOST)
        server = grpc.aio.server(interceptors=server_aio.server_interceptors())
        server.add_generic_rpc_handlers((middle.coroutines(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, scope, port

    async def stop():
        await server.stop(5)
        await middle.channel.close()
        scope.close()
        await scope.closed()

    server, scope, port = loop.run(start())
    yield port, middle
    loop.run(stop())


@pytest.fixture(params=KINDS)
def chain(request, shared: Backend, loop_thread: LoopThread):
    """A's plain channel to B, and B's handlers. C is `shared`."""
    source = ScriptedSource(snapshot(shared.address))
    if request.param == "sync":
        starting = sync_server(source)
    else:
        make = aio_server if request.param == "aio" else aio_threads_server
        starting = make(source, loop_thread)
    with starting as (port, middle), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield SimpleNamespace(channel=channel, middle=middle, kind=request.param)


def ask(chain, shape: str, request: bytes, timeout: float | None) -> list[bytes]:
    """A's call to B."""
    stub = getattr(chain.channel, shape)(f"/{MIDDLE}/{shape}")
    argument = iter([request]) if shape.startswith("stream") else request
    return list(stub(argument, timeout=timeout)) if shape.endswith("_stream") else [stub(argument, timeout=timeout)]


@pytest.mark.parametrize("shape", SHAPES)
def test_deadline_of_the_first_reaches_the_last(chain, shape):
    """C has what A's deadline left, in each step of a handler; a call of A without a deadline then has none at C."""
    for answer in ask(chain, shape, b"plain|remaining:", 30):
        assert 10 < float(answer) <= 32  # grpc rounds up
    for answer in ask(chain, shape, b"plain|remaining:", None):
        assert float(answer) > UNLIMITED


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("how", "least", "most"), [("free", UNLIMITED, float("inf")), ("tight", 0, 10), ("thread", 10, 32)]
)
def test_what_a_handler_says(chain, shape, how, least, most):
    """A handler lifts the deadline, tightens it, or takes it to a thread (a task) of its own."""
    for answer in ask(chain, shape, f"{how}|remaining:".encode(), 30):
        assert least < float(answer) <= most


@pytest.mark.parametrize("shape", SHAPES)
def test_call_after_the_deadline(chain, shape, shared):
    """A call made after the inbound deadline ends at once, says so, and never leaves B."""
    if chain.kind == "aio" and shape != "unary_unary":
        pytest.skip("grpc.aio cancels the handler at its deadline; the one shape goes on in a task of its own")
    shared.executed.clear()
    with pytest.raises(grpc.RpcError) as raised:
        ask(chain, shape, b"late|say:never", 0.2)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    code, details = chain.middle.failed.get(timeout=PATIENCE)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert details.startswith(f"{METHODS[shape]} was not called: the deadline of the call that is being handled passed")
    assert shared.executed == []


@pytest.mark.parametrize("shape", SHAPES)
def test_slow_callee(chain, shape):
    """A call to C that hangs ends at A's deadline, though B set none."""
    with pytest.raises(grpc.RpcError) as raised:
        ask(chain, shape, b"plain|hang:0", 0.3)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    if chain.kind != "aio":  # there the handler is cancelled, and its call with it
        assert chain.middle.failed.get(timeout=PATIENCE)[0] is grpc.StatusCode.DEADLINE_EXCEEDED


def test_cap_of_a_block():
    """Nested blocks: the earlier deadline stays, None lifts it, and nothing is left behind."""
    assert meshsdk.time_left() is None
    with meshsdk.deadline(5):
        with meshsdk.deadline(60):
            assert 0 < meshsdk.time_left() <= 5
        with meshsdk.deadline(0):
            assert meshsdk.time_left() == 0
        with meshsdk.no_deadline():
            assert meshsdk.time_left() is None
    assert meshsdk.time_left() is None
    with pytest.raises(ValueError, match="seconds from now"), meshsdk.deadline(-1):
        pass


@pytest.mark.parametrize("shape", SHAPES)
def test_blocks_hold_without_a_server(mesh_lab, shared, shape):
    """A block caps calls of a program that serves nothing, the smaller of block and own timeout."""
    if mesh_lab.facade == "aio":
        pytest.skip("the caller's loop is another thread: the block does not reach it")
    caller = mesh_lab.open(shared.address)
    with meshsdk.deadline(20):
        assert 0 < float(caller.ask(shape, b"remaining:", timeout=None).answers[0]) <= 22
        assert 0 < float(caller.ask(shape, b"remaining:", timeout=4).answers[0]) <= 6
    assert float(caller.ask(shape, b"remaining:", timeout=None).answers[0]) > UNLIMITED
