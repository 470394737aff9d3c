"""A process that calls through the SDK what lines of standard input name, and ends as programs do: without a close.

Usage: counted_client.py sync|aio, with GRPC_XDS_BOOTSTRAP_CONFIG set. A line is `TARGET COUNT`; the answer is one JSON
object {status: calls}.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

import grpc

import meshsdk
import meshsdk.aio

METHOD = "/test.Echo/Say"
DEADLINE = 20.0  # seconds


def run_sync() -> None:
    """Serves lines with blocking calls."""
    for line in sys.stdin:
        target, count = line.split()
        call = meshsdk.channel(target).unary_unary(METHOD)
        ends = Counter()
        for _ in range(int(count)):
            try:
                call(b"", timeout=DEADLINE)
                ends["OK"] += 1
            except grpc.RpcError as error:
                ends[error.code().name] += 1
        print(json.dumps(ends), flush=True)


async def run_aio() -> None:
    """Serves lines on an event loop."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        target, count = line.split()
        call = meshsdk.aio.channel(target).unary_unary(METHOD)
        ends = Counter()
        for _ in range(int(count)):
            try:
                await call(b"", timeout=DEADLINE)
                ends["OK"] += 1
            except grpc.aio.AioRpcError as error:
                ends[error.code().name] += 1
        print(json.dumps(ends), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "aio":
        asyncio.run(run_aio())
    else:
        run_sync()
