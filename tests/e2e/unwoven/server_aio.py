"""`server_sync` on grpc.aio."""

import asyncio
import collections
import json
import signal
import sys
import threading

import grpc
import grpc.aio

EXECUTED = collections.Counter()
SEEN = collections.Counter()


class Counting(grpc.aio.ServerInterceptor):
    """The application's own."""

    async def intercept_service(self, continuation, handler_call_details):
        """See grpc."""
        SEEN["calls"] += 1
        return await continuation(handler_call_details)


async def note(request: bytes) -> bytes:
    """Executes a call."""
    EXECUTED[request.decode()] += 1
    await asyncio.sleep(0.005)
    return request


async def unary_unary(request, _context):
    """One for one."""
    return await note(request)


async def unary_stream(request, _context):
    """One request."""
    yield await note(request)


async def stream_unary(requests, _context):
    """One answer."""
    return [await note(request) async for request in requests][-1]


async def stream_stream(requests, _context):
    """Many for many."""
    async for request in requests:
        yield await note(request)


HANDLERS = {
    behavior.__name__: getattr(grpc, f"{behavior.__name__}_rpc_method_handler")(behavior)
    for behavior in (unary_unary, unary_stream, stream_unary, stream_stream)
}


async def obey(server: grpc.aio.Server, over: asyncio.Event) -> None:
    """Commands. They are read on a daemon thread, so that nothing waits for it at the end."""
    loop, lines = asyncio.get_running_loop(), asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)

    threading.Thread(target=read, daemon=True).start()
    while line := await lines.get():
        word, _, rest = line.strip().partition(" ")
        if word == "executed":
            print(json.dumps(EXECUTED), flush=True)
        elif word == "seen":
            print(json.dumps(SEEN["calls"]), flush=True)
        elif word == "stop":
            await server.stop(float(rest))
            print(json.dumps("stopped"), flush=True)
            over.set()


async def main(how: str) -> int:
    """Serves until it ends in the way asked for."""
    over = asyncio.Event()
    server = grpc.aio.server(interceptors=[Counting()])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", HANDLERS),))
    port = server.add_insecure_port("127.0.0.1:0")
    loop = asyncio.get_running_loop()
    if how == "handler":
        loop.add_signal_handler(signal.SIGTERM, over.set)
    await server.start()
    if how == "late":
        loop.add_signal_handler(signal.SIGTERM, over.set)
    task = asyncio.create_task(obey(server, over))
    print(port, flush=True)
    if how == "default":
        await server.wait_for_termination()
        return 0
    await over.wait()
    await server.stop(5)
    task.cancel()
    return 7


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
