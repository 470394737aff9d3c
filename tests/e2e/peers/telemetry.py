"""A front service whose calls go on to `orders` through the mesh, watched as its environment says.

Run by tests/e2e/test_telemetry.py: `telemetry.py sync|aio`. Prints its port and that of its Prometheus endpoint (0:
none); after the line `fork` on its standard input, those of a child that has made a call; ends with its input.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from concurrent import futures

import grpc
import grpc.aio

import meshsdk
import meshsdk.aio
from examples import orders_pb2, orders_pb2_grpc

TIMEOUT = 25


class Front(orders_pb2_grpc.OrdersServicer):
    """Answers what `orders` answers."""

    def __init__(self) -> None:
        self.orders = orders_pb2_grpc.OrdersStub(meshsdk.channel("xds:///orders"))

    def Get(self, request, context):
        """Calls on, on the thread of the inbound call."""
        return self.orders.Get(request, timeout=TIMEOUT)


class AioFront(orders_pb2_grpc.OrdersServicer):
    """The same in a task of the inbound call's own task."""

    def __init__(self) -> None:
        self.orders = orders_pb2_grpc.OrdersStub(meshsdk.aio.channel("xds:///orders"))

    async def Get(self, request, context):
        """Calls on."""
        return await asyncio.create_task(self._ask(request))

    async def _ask(self, request):
        return await self.orders.Get(request, timeout=TIMEOUT)


def tell(port: int) -> None:
    """Prints the ports."""
    os.write(1, f"ports {port} {meshsdk.telemetry.prometheus_port() or 0}\n".encode())


def forked() -> None:
    """Prints the ports of a child once it has called, and waits for it to end."""
    child = os.fork()
    if child == 0:
        with meshsdk.channel("xds:///orders") as channel:
            orders_pb2_grpc.OrdersStub(channel).Get(orders_pb2.GetRequest(order_id="child"), timeout=TIMEOUT)
        tell(0)
        sys.stdin.readline()
        os._exit(0)
    os.waitpid(child, 0)


def main_sync() -> None:
    """Serves with threads."""
    server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=meshsdk.server_interceptors())
    orders_pb2_grpc.add_OrdersServicer_to_server(Front(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    tell(port)
    for line in sys.stdin:
        if line.strip() == "fork":
            server.stop(None).wait()
            forked()
    server.stop(None).wait()


async def main_aio() -> None:
    """Serves on an event loop."""
    server = grpc.aio.server(interceptors=meshsdk.aio.server_interceptors())
    orders_pb2_grpc.add_OrdersServicer_to_server(AioFront(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    tell(port)
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(over.set)), daemon=True).start()
    await over.wait()
    await server.stop(None)


if __name__ == "__main__":
    if sys.argv[1] == "sync":
        main_sync()
    else:
        asyncio.run(main_aio())
