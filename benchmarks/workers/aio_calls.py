"""The asyncio sibling of `sync_calls`: the same commands over `grpc.aio` channels on one loop."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from typing import Any

import grpc.aio

import meshsdk
from benchmarks.workers import stdio
from benchmarks.workers.rounds import (
    DEADLINE,
    MESSAGES,
    METADATA,
    PAYLOAD,
    ROUND_ROBIN,
    STREAM,
    UNARY,
    Round,
    answer,
    turns,
)

_CHANNELS: dict[str, grpc.aio.Channel] = {}


def _open(name: str, target: str) -> grpc.aio.Channel:
    if name == "mesh":
        return meshsdk.Mesh(json.loads(os.environ["MESH_BOOTSTRAP"])).aio_channel(target)
    return grpc.aio.insecure_channel(target, [("grpc.service_config", ROUND_ROBIN)])


async def _unary(call: Any, count: int) -> list[float]:
    took = []
    clock = time.perf_counter
    for _ in range(count):
        began = clock()
        await call(PAYLOAD, timeout=DEADLINE, metadata=METADATA)
        took.append(clock() - began)
    return took


async def _stream(call: Any, count: int) -> list[float]:
    took = []
    for _ in range(count):
        began = time.perf_counter()
        messages = 0
        async for _ in call(PAYLOAD, timeout=DEADLINE, metadata=METADATA):
            messages += 1
        took.append(time.perf_counter() - began)
        if messages != MESSAGES:
            raise RuntimeError(f"{messages} messages instead of {MESSAGES}")
    return took


async def _round(measure: Any, call: Any, in_flight: int, calls: int) -> Round:
    began = time.perf_counter()
    took = [one for some in await asyncio.gather(*(measure(call, calls) for _ in range(in_flight))) for one in some]
    return Round(statistics.median(took), len(took) / (time.perf_counter() - began))


async def _handle(command: dict[str, Any]) -> dict[str, Any]:
    if "channels" in command:
        _CHANNELS.update({name: _open(name, target) for name, target in command["channels"].items()})
        for channel in _CHANNELS.values():
            call = channel.unary_unary(UNARY)
            for _ in range(50):
                await call(PAYLOAD, timeout=DEADLINE, metadata=METADATA, wait_for_ready=True)
        return {}
    unary = command["shape"] == "unary"
    calls = {
        name: channel.unary_unary(UNARY) if unary else channel.unary_stream(STREAM)
        for name, channel in _CHANNELS.items()
    }
    found: dict[str, list[Round]] = {name: [] for name in calls}
    for number, name in turns(tuple(calls), command["rounds"] + 1):
        one = await _round(_unary if unary else _stream, calls[name], command["in_flight"], command["calls"])
        if number:
            found[name].append(one)
    return answer(found)


async def main() -> None:
    """Serves commands; reads them on another thread, so that the loop stays free."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        stdio.say(await _handle(json.loads(line)))


if __name__ == "__main__":
    asyncio.run(main())
