"""The backend of B1 and B7: one asyncio gRPC server on two ports. Echoes unary calls, streams 1,000 messages.

Says `{"ports": [a, b]}`, then serves until standard input closes.
"""

from __future__ import annotations

import asyncio
import sys

import grpc
import grpc.aio

from benchmarks.workers import stdio

_MESSAGES = 1000


async def _echo(request, context):
    return request


async def _stream(request, context):
    for _ in range(_MESSAGES):
        yield request


class _Methods(grpc.GenericRpcHandler):
    def service(self, handler_call_details):
        """Streams for methods named Watch, echoes for all others."""
        if handler_call_details.method.endswith("/Watch"):
            return grpc.unary_stream_rpc_method_handler(_stream)
        return grpc.unary_unary_rpc_method_handler(_echo)


async def main() -> None:
    """Serves."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_Methods(),))
    ports = [server.add_insecure_port("127.0.0.1:0") for _ in range(2)]
    await server.start()
    stdio.say({"ports": ports})
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main())
