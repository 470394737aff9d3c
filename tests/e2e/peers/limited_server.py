"""A server of known capacity, with the adaptive limit or without. What an overload drill loads.

Arguments: sync or aio, workers, seconds that a call takes one of them, adaptive or plain. Prints its port when it takes
calls; its one method, `/drill.Slow/Work`, answers what it was sent. Runs until its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys
import time
from concurrent import futures

import grpc
import grpc.aio

import meshsdk
import meshsdk.aio

METHOD = "Work"
SERVICE = "drill.Slow"


def handlers(behavior) -> grpc.GenericRpcHandler:
    """The service."""
    method = grpc.unary_unary_rpc_method_handler(behavior)
    return grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})


def serve_threads(workers: int, service: float, limits: meshsdk.ServerLimits) -> None:
    """A thread for each worker."""

    def work(request: bytes, _context) -> bytes:
        time.sleep(service)
        return request

    pool = futures.ThreadPoolExecutor(workers)
    server = grpc.server(pool, interceptors=meshsdk.server_interceptors(limits))
    server.add_generic_rpc_handlers((handlers(work),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0).wait()


async def serve_asyncio(workers: int, service: float, limits: meshsdk.ServerLimits) -> None:
    """A place in a semaphore for each worker, as a pool of connections to a database would be."""
    places = asyncio.Semaphore(workers)

    async def work(request: bytes, _context) -> bytes:
        async with places:
            await asyncio.sleep(service)
        return request

    server = grpc.aio.server(interceptors=meshsdk.aio.server_interceptors(limits))
    server.add_generic_rpc_handlers((handlers(work),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


def main() -> None:
    """Runs until told to end."""
    kind, workers, service, limit = sys.argv[1:]
    limits = meshsdk.ServerLimits(adaptive=limit == "adaptive")
    if kind == "sync":
        serve_threads(int(workers), float(service), limits)
    else:
        asyncio.run(serve_asyncio(int(workers), float(service), limits))


if __name__ == "__main__":
    main()
