"""A server of `meshsdk run` with interception off: a drain sees its calls, and nothing is added to their answers."""

from __future__ import annotations

import asyncio
import threading
from concurrent import futures
from typing import Any

import grpc
import grpc.aio
import pytest

from meshsdk.instrument import aio_servers, sync_servers
from meshsdk.interceptors import server_aio, server_sync
from meshsdk.interceptors.activity import ServerActivity

METHOD = "/shop.Orders/held"
SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def handlers(shape: str, behavior: Any) -> grpc.GenericRpcHandler:
    """One method of this shape."""
    handler = getattr(grpc, f"{shape}_rpc_method_handler")(behavior)
    return grpc.method_handlers_generic_handler("shop.Orders", {"held": handler})


def answer_of(shape: str, port: int, method: str = METHOD) -> tuple[str, tuple[Any, ...]]:
    """Calls; returns the code and the trailing metadata."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = getattr(channel, shape)(method)
        given = b"x" if shape.startswith("unary") else iter([b"x"])
        try:
            if shape.endswith("_unary"):
                _, held = call.with_call(given, timeout=20)
            else:
                held = call(given, timeout=20)
                list(held)
        except grpc.RpcError as error:
            held = error
        return held.code().name, tuple(held.trailing_metadata() or ())


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_calls_are_counted_and_unmarked_while_off(shape, on):
    """grpc.server: in flight as long as the handler runs; with the drain in the answers only while it is on."""
    activity, running, over = ServerActivity(), threading.Event(), threading.Event()

    def held(_request: Any, _context: Any) -> Any:
        running.set()
        assert over.wait(20)
        return b"" if shape.endswith("_unary") else iter([b""])

    interceptor = sync_servers.SwitchedInterceptor(server_sync.ActivityInterceptor(activity), on=on)
    with futures.ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, interceptors=[interceptor])
        server.add_generic_rpc_handlers((handlers(shape, held),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            asked = pool.submit(answer_of, shape, port)
            assert running.wait(20)
            assert activity.look().in_flight == 1
            activity.draining = True
            over.set()
            mark = (("meshsdk-draining", "1"),) if on else ()
            assert asked.result(20) == ("OK", mark)
            assert answer_of(shape, port, "/shop.Orders/none") == ("UNIMPLEMENTED", mark)
        finally:
            over.set()
            server.stop(None).wait()


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_calls_of_asyncio_servers_are_counted_and_unmarked_while_off(shape, on):
    """grpc.aio.server: the same."""

    async def scenario() -> None:
        activity, running, over = ServerActivity(), asyncio.Event(), asyncio.Event()

        async def held(_request: Any, context: Any) -> Any:
            running.set()
            await over.wait()
            if shape.endswith("_unary"):
                return b""
            await context.write(b"")
            return None

        interceptor = aio_servers.SwitchedInterceptor(server_aio.ActivityInterceptor(activity), on=on)
        server = grpc.aio.server(interceptors=[interceptor])
        server.add_generic_rpc_handlers((handlers(shape, held),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            asked = asyncio.ensure_future(asyncio.to_thread(answer_of, shape, port))
            await asyncio.wait_for(running.wait(), 20)
            assert activity.look().in_flight == 1
            activity.draining = True
            over.set()
            mark = (("meshsdk-draining", "1"),) if on else ()
            assert await asked == ("OK", mark)
            assert await asyncio.to_thread(answer_of, shape, port, "/shop.Orders/none") == ("UNIMPLEMENTED", mark)
        finally:
            over.set()
            await server.stop(None)

    asyncio.run(scenario())
