"""Stock grpcio, with its own xDS client, as a process: calls what a line of standard input names.

Usage: grpcio_client.py sync|aio, with GRPC_XDS_BOOTSTRAP_CONFIG set. A line is `TARGET COUNT`; the answer is one JSON
object {"answers": {NAME: calls}, "errors": {"CODE: details": calls}}. Channels are kept, one per target.
A process of its own because grpcio reads the bootstrap once per process.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

import grpc

METHOD = "/test.Echo/Say"
DEADLINE = 2.0  # seconds


def report(answers: Counter, errors: Counter) -> None:
    """Prints the outcome of one line."""
    print(json.dumps({"answers": answers, "errors": errors}), flush=True)


def run_sync() -> None:
    """Serves lines with grpc.Channel."""
    channels: dict[str, grpc.Channel] = {}
    for line in sys.stdin:
        target, count = line.split()
        if target not in channels:
            channels[target] = grpc.insecure_channel(target)
        call = channels[target].unary_unary(METHOD)
        answers, errors = Counter(), Counter()
        for _ in range(int(count)):
            try:
                answers[call(b"", timeout=DEADLINE).decode()] += 1
            except grpc.RpcError as error:
                errors[f"{error.code().name}: {error.details()}"] += 1
        report(answers, errors)


async def run_aio() -> None:
    """Serves lines with grpc.aio.Channel."""
    channels: dict[str, grpc.aio.Channel] = {}
    while line := await asyncio.to_thread(sys.stdin.readline):
        target, count = line.split()
        if target not in channels:
            channels[target] = grpc.aio.insecure_channel(target)
        call = channels[target].unary_unary(METHOD)
        answers, errors = Counter(), Counter()
        for _ in range(int(count)):
            try:
                answers[(await call(b"", timeout=DEADLINE)).decode()] += 1
            except grpc.aio.AioRpcError as error:
                errors[f"{error.code().name}: {error.details()}"] += 1
        report(answers, errors)


if __name__ == "__main__":
    if sys.argv[1] == "aio":
        asyncio.run(run_aio())
    else:
        run_sync()
