"""A server of a fault drill, as slow and as faulty as it is told to be.

Usage: drill_server.py ADDRESS SECONDS - takes SECONDS for each call; prints its address when it serves. A line of
standard input is JSON: `seconds` a call takes, `failing`: the share of calls that end UNAVAILABLE. Ends with standard
input.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys

import grpc
import grpc.aio


class Server(grpc.GenericRpcHandler):
    """Answers any method. Owned by the loop."""

    def __init__(self, address: str, seconds: float) -> None:
        self._answer = address.encode()
        self.seconds = seconds
        self.failing = 0.0

    def service(self, handler_call_details):
        """Handles every method alike."""
        return grpc.unary_unary_rpc_method_handler(self._handle)

    async def _handle(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        if random.random() < self.failing:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this server fails")
        await asyncio.sleep(self.seconds)
        return self._answer


async def main() -> None:
    """Serves."""
    address, seconds = sys.argv[1:]
    handler = Server(address, float(seconds))
    server = grpc.aio.server(handlers=[handler], options=[("grpc.so_reuseport", 0)])
    server.add_insecure_port(address)
    await server.start()
    print(address, flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        told = json.loads(line)
        handler.seconds = told["seconds"]
        handler.failing = told["failing"]
        print("done", flush=True)
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main())
