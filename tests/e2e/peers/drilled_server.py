"""One server of a fault drill, as an application would write it. Arguments: sync or aio, and the lease in seconds.

Answers every call with its own address. Prints its port when it takes calls and, after the drain, a JSON line: how many
calls it executed, and how often one and the same at most. The registry is the one of the bootstrap in the environment.
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

import meshsdk
import meshsdk.aio
from meshsdk.lifecycle import serve_aio, serve_sync

_WORK = 0.002  # seconds a call takes


class Orders:
    """The service; `executed` counts calls by their id."""

    def __init__(self) -> None:
        self.address = b""
        self.executed: collections.Counter[bytes] = collections.Counter()

    def get(self, request, context):
        """Answers on a thread."""
        self.executed[request] += 1
        time.sleep(_WORK)
        return self.address

    async def aget(self, request, context):
        """Answers on the loop."""
        self.executed[request] += 1
        await asyncio.sleep(_WORK)
        return self.address

    def add_to(self, server, handler) -> str:
        """Adds itself to a server and binds a free port; returns the address."""
        handlers = {"Get": grpc.unary_unary_rpc_method_handler(handler)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", handlers),))
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        self.address = address.encode()
        return address


def serve_threads(orders: Orders) -> None:
    """The program for threads."""
    server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=meshsdk.server_interceptors())
    service = meshsdk.serve(server, app="orders", address=orders.add_to(server, orders.get))
    print(orders.address.decode())
    service.wait()


async def serve_asyncio(orders: Orders) -> None:
    """The program for asyncio."""
    server = grpc.aio.server(interceptors=meshsdk.aio.server_interceptors())
    async with meshsdk.aio.serve(server, app="orders", address=orders.add_to(server, orders.aget)) as service:
        print(orders.address.decode())
        await service.wait()


def main() -> None:
    """Runs until it has drained."""
    kind, lease = sys.argv[1:]
    serve_sync.LEASE_SECONDS = serve_aio.LEASE_SECONDS = float(lease)  # 15 s are too long to watch
    orders = Orders()
    if kind == "sync":
        serve_threads(orders)
    else:
        asyncio.run(serve_asyncio(orders))
    print(json.dumps({"calls": sum(orders.executed.values()), "most": max(orders.executed.values(), default=0)}))


if __name__ == "__main__":
    main()
