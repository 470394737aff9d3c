"""Calls that outlast a drain, the same for every kind of handler: told to finish, else ended with words."""

from __future__ import annotations

import grpc
import pytest

import meshsdk
import meshsdk.aio
from meshsdk.discovery.memory import MemoryRegistry
from meshsdk.errors import LifecycleError
from meshsdk.interceptors.activity import DRAINING_KEY
from meshsdk.lifecycle.drain import DrainTiming
from tests.contract.served import AioServed, SyncServed
from tests.contract.server_drivers import SHAPES, Scripted, finish
from tests.contract.serving import serving
from tests.e2e.processes import until

SHORT = DrainTiming(quiet=0.1, timeout=0.3, announce=0.1, deregister=0.5, grace=0.5)
HANDLERS = {
    "sync": (SyncServed, Scripted.plain_handlers),
    "aio": (AioServed, Scripted.async_handlers),
    "aio-writer": (AioServed, Scripted.writer_handlers),
    "aio-threads": (AioServed, Scripted.plain_handlers),
}


@pytest.mark.parametrize("kind", HANDLERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_call_that_outlasts_the_drain_is_told_why(kind, shape):
    """A handler is slower than the drain: its caller gets UNAVAILABLE with the drain in its metadata, not CANCELLED."""
    if kind == "aio-threads" and shape.endswith("_stream"):
        pytest.skip("grpc.aio leaves the thread of an ended stream waiting in its queue for ever")
    make, handlers = HANDLERS[kind]
    with serving(make) as serve:
        served = serve(registry=MemoryRegistry(), drain=SHORT, handlers=handlers)
        served.wait_online()
        held = served.start(shape, b"hold")
        assert served.scripted.began.acquire(timeout=10)
        served.drain()
        answer = finish(shape, held)
        assert (answer.code, answer.trailing.get(DRAINING_KEY)) == (grpc.StatusCode.UNAVAILABLE, "1")
        assert "outlasted its drain" in answer.details


@pytest.mark.parametrize("kind", ["sync", "aio", "aio-writer"])
def test_an_endless_stream_ends_with_the_drain(kind):
    """A stream without end, whose handler knows nothing of drains: messages, then the drain's words for an end."""
    make, _ = HANDLERS[kind]

    def plain(_request, context):
        while context.is_active():
            yield b"tick"

    async def generator(_request, _context):
        while True:
            yield b"tick"

    async def writer(_request, context):
        while True:
            await context.write(b"tick")

    handler = {"sync": plain, "aio": generator, "aio-writer": writer}[kind]
    with serving(make) as serve:
        handlers = {"unary_stream": grpc.unary_stream_rpc_method_handler(handler)}
        served = serve(registry=MemoryRegistry(), drain=SHORT, handlers=handlers)
        served.wait_online()
        stream = served.start("unary_stream", b"")
        assert next(stream) == b"tick"
        served.drain(wait=False)
        answer = finish("unary_stream", stream)
        assert (answer.code, answer.trailing.get(DRAINING_KEY)) == (grpc.StatusCode.UNAVAILABLE, "1")
        assert set(answer.responses) == {b"tick"}
        served.wait()


def notified(kind: str):
    """A handler that waits for the drain and ends its stream in good order."""

    def plain(_request, context):
        notice = meshsdk.draining(context)
        yield str(bool(notice) or notice.wait(0)).encode()
        assert notice.wait(20)
        yield str(bool(notice) and notice.wait(0)).encode()

    async def generator(_request, context):
        notice = meshsdk.aio.draining(context)
        yield str(bool(notice) or await notice.wait(0)).encode()
        assert await notice.wait(20)
        yield str(bool(notice) and await notice.wait(1)).encode()

    return generator if kind == "aio" else plain


@pytest.mark.parametrize("kind", ["sync", "aio", "aio-threads"])
def test_a_handler_that_asks_ends_its_stream_in_good_order(kind):
    """Handlers wait for the drain by `meshsdk.draining`: their streams end OK, and the drain does not need its time."""
    make, _ = HANDLERS[kind]
    with serving(make) as serve:
        handlers = {"unary_stream": grpc.unary_stream_rpc_method_handler(notified(kind))}
        served = serve(registry=MemoryRegistry(), drain=DrainTiming(quiet=0.1, timeout=600), handlers=handlers)
        served.wait_online()
        stream = served.start("unary_stream", b"")
        assert next(stream) == b"False"
        served.drain(wait=False)
        answer = finish("unary_stream", stream)
        assert (answer.code, answer.responses) == (grpc.StatusCode.OK, (b"True",))
        assert answer.trailing.get(DRAINING_KEY) == "1"
        served.wait()


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_a_server_without_interceptors_has_no_notice(kind):
    """`draining(context)` says what is missing instead of waiting for what never comes."""
    make, _ = HANDLERS[kind]
    problems: list[LifecycleError] = []

    def plain(_request, context):
        try:
            meshsdk.draining(context)
        except LifecycleError as error:
            problems.append(error)
        return b""

    async def coroutine(request, context):
        return plain(request, context)

    with serving(make) as serve:
        handler = coroutine if kind == "aio" else plain
        handlers = {"unary_unary": grpc.unary_unary_rpc_method_handler(handler)}
        served = serve(registry=MemoryRegistry(), intercepted=False, handlers=handlers)
        served.call("unary_unary", b"")
        until(lambda: problems, "the handler was told")
        assert "server_interceptors()" in str(problems[0])
