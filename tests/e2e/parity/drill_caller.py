"""A caller of a fault drill: begins calls at a fixed rate, whatever becomes of those before.

Usage: drill_caller.py mesh|mesh-threads|stock TARGET [SERVICE_CONFIG]; the bootstrap is in the environment. Prints
"ready" after calls have gone well. A line `RATE SECONDS DEADLINE` is answered with a JSON list of [start, seconds,
status] of each call that was begun in those seconds; start in seconds since the first.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio

import meshsdk
import meshsdk.aio

METHOD = "/drill.Echo/Say"
_WARM = 30  # calls that have to go well in turn
_TICK = 0.002  # seconds; calls that are due by then begin together
_THREADS = 256
_Ended = tuple[float, float, str]


def channel(kind: str, target: str, config: str) -> Any:
    """Makes the channel of a kind."""
    if kind == "mesh":
        return meshsdk.aio.channel(target)
    if kind == "mesh-threads":
        return meshsdk.channel(target)
    options = [("grpc.service_config", config)] if config else []
    return grpc.aio.insecure_channel(target, [*options, ("grpc.default_authority", "orders")])


async def paced(rate: float, seconds: float, begin: Callable[[float], asyncio.Future[_Ended]]) -> list[_Ended]:
    """Begins calls when they are due; returns how all of them ended."""
    calls: list[asyncio.Future[_Ended]] = []
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        while len(calls) < passed * rate:
            calls.append(begin(began))
        await asyncio.sleep(_TICK)
    return await asyncio.gather(*calls)


class Tasks:
    """Calls of grpc.aio."""

    def __init__(self, opened: Any) -> None:
        self._call = opened.unary_unary(METHOD)

    async def _one(self, began: float, deadline: float) -> _Ended:
        start = time.monotonic()
        try:
            await self._call(b"x", timeout=deadline)
        except grpc.aio.AioRpcError as error:
            return start - began, time.monotonic() - start, error.code().name
        return start - began, time.monotonic() - start, "OK"

    def begin(self, began: float, deadline: float) -> asyncio.Future[_Ended]:
        """Begins a call."""
        return asyncio.ensure_future(self._one(began, deadline))


class Threads:
    """Calls of grpc, on threads that are there already."""

    def __init__(self, opened: Any) -> None:
        self._call = opened.unary_unary(METHOD)
        self._pool = ThreadPoolExecutor(_THREADS)
        met = threading.Barrier(_THREADS)
        for waiting in [self._pool.submit(met.wait) for _ in range(_THREADS)]:
            waiting.result()

    def _one(self, began: float, deadline: float) -> _Ended:
        start = time.monotonic()
        try:
            self._call(b"x", timeout=deadline)
        except grpc.RpcError as error:
            return start - began, time.monotonic() - start, error.code().name
        return start - began, time.monotonic() - start, "OK"

    def begin(self, began: float, deadline: float) -> asyncio.Future[_Ended]:
        """Begins a call."""
        return asyncio.wrap_future(self._pool.submit(self._one, began, deadline))


async def main() -> None:
    """Runs."""
    kind, target, config = (*sys.argv[1:], "")[:3]
    opened = channel(kind, target, config)
    calls = Threads(opened) if kind == "mesh-threads" else Tasks(opened)
    well = 0
    while well < _WARM:
        ended = await calls.begin(time.monotonic(), 1.0)
        well = well + 1 if ended[2] == "OK" else 0
        await asyncio.sleep(0 if ended[2] == "OK" else 0.05)
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        rate, seconds, deadline = map(float, line.split())
        ended = await paced(rate, seconds, lambda began, deadline=deadline: calls.begin(began, deadline))
        print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
