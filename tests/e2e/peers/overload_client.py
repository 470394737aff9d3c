"""Loads a server at a fixed rate, whatever it answers: the open loop of an overload drill, as plain grpcio.

Arguments: address, method, deadline in seconds, phases of `rate:seconds`. Prints a JSON line for each phase when all
are over: calls offered, and how many of them ended with each status.
"""

from __future__ import annotations

import asyncio
import collections
import json
import sys
import time

import grpc.aio

_TICK = 0.005  # seconds; calls that are due by then start together


async def phase(call, rate: float, seconds: float, deadline: float) -> list[asyncio.Future[str]]:
    """Starts the calls of one phase when they are due, and waits for none."""
    started: list[asyncio.Future[str]] = []
    begin = time.monotonic()
    while (passed := time.monotonic() - begin) < seconds:
        while len(started) < passed * rate:
            started.append(asyncio.ensure_future(ending(call, deadline)))
        await asyncio.sleep(_TICK)
    return started


async def ending(call, deadline: float) -> str:
    """Makes a call; returns the name of its status."""
    try:
        await call(b"x", timeout=deadline)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def main() -> None:
    """Runs the phases one after another, without a pause."""
    address, method, deadline, *phases = sys.argv[1:]
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(method)
        started = []
        for spelt in phases:
            rate, _, seconds = spelt.partition(":")
            started.append((spelt, await phase(call, float(rate), float(seconds), float(deadline))))
        for spelt, calls in started:
            ended = collections.Counter(await asyncio.gather(*calls))
            print(json.dumps({"phase": spelt, "offered": len(calls), **ended}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
