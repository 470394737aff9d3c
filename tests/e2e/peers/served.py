"""A server under `serve`, as an application would write it. Arguments: sync or aio, and the quiet time in seconds.

Prints its port when it takes calls and, after the drain, a JSON line with how often each call id was executed at most
and how many there were. The registry is the one of the bootstrap in the environment.
"""

from __future__ import annotations

import asyncio
import collections
import json
import sys
import time
from concurrent import futures

import grpc
import grpc.aio

from meshsdk.interceptors import server_aio, server_sync
from meshsdk.interceptors.rpc import rpc
from meshsdk.lifecycle import serve_aio, serve_sync
from meshsdk.lifecycle.drain import DrainTiming

LEDGER: collections.Counter[bytes] = collections.Counter()


class Orders:
    """Answers with the call's id; a request `hang` takes a minute."""

    @rpc(idempotent=True, timeout="2s")
    def get(self, request, context):
        """Sync."""
        LEDGER[request] += 1
        time.sleep(60 if request == b"hang" else 0.002)
        return request

    @rpc(idempotent=True, timeout="2s")
    async def aget(self, request, context):
        """Asyncio."""
        LEDGER[request] += 1
        await asyncio.sleep(60 if request == b"hang" else 0.002)
        return request


def add_orders(server, handler) -> int:
    """Adds the service, binds a free port and returns it."""
    handlers = {"Get": grpc.unary_unary_rpc_method_handler(handler)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", handlers),))
    return server.add_insecure_port("127.0.0.1:0")


def serve_threads(drain: DrainTiming) -> None:
    """The program for threads: few of them, so that calls queue."""
    server = grpc.server(futures.ThreadPoolExecutor(2), interceptors=server_sync.server_interceptors())
    port = add_orders(server, Orders().get)
    service = serve_sync.serve(server, app="orders", address=f"127.0.0.1:{port}", drain=drain)
    print(port)
    service.wait()


async def serve_asyncio(drain: DrainTiming) -> None:
    """The program for asyncio."""
    server = grpc.aio.server(interceptors=server_aio.server_interceptors())
    port = add_orders(server, Orders().aget)
    async with serve_aio.serve(server, app="orders", address=f"127.0.0.1:{port}", drain=drain) as service:
        print(port)
        await service.wait()


def main() -> None:
    """Runs until it has drained."""
    drain = DrainTiming(quiet=float(sys.argv[2]))
    if sys.argv[1] == "sync":
        serve_threads(drain)
    else:
        asyncio.run(serve_asyncio(drain))
    print(json.dumps({"calls": sum(LEDGER.values()), "most": max(LEDGER.values(), default=0)}))


if __name__ == "__main__":
    main()
