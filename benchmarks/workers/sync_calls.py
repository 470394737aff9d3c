"""Calls over `grpc.Channel`s of every variant in one process, in short rounds that take turns.

Commands: `{"channels": {NAME: TARGET}}` once, then `{"shape": "unary"|"stream", "in_flight", "calls", "rounds"}`. A
target `xds:...` under the name `mesh` gets meshsdk's channel.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

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

_CHANNELS: dict[str, grpc.Channel] = {}
_THREADS = ThreadPoolExecutor(64)


def _open(name: str, target: str) -> grpc.Channel:
    if name == "mesh":
        return meshsdk.Mesh(json.loads(os.environ["MESH_BOOTSTRAP"])).channel(target)
    return grpc.insecure_channel(target, [("grpc.service_config", ROUND_ROBIN)])


def _unary(call: Any, count: int) -> list[float]:
    took = []
    clock = time.perf_counter
    for _ in range(count):
        began = clock()
        call(PAYLOAD, DEADLINE, METADATA)
        took.append(clock() - began)
    return took


def _stream(call: Any, count: int) -> list[float]:
    took = []
    for _ in range(count):
        began = time.perf_counter()
        messages = sum(1 for _ in call(PAYLOAD, DEADLINE, METADATA))
        took.append(time.perf_counter() - began)
        if messages != MESSAGES:
            raise RuntimeError(f"{messages} messages instead of {MESSAGES}")
    return took


def _round(measure: Any, call: Any, in_flight: int, calls: int) -> Round:
    began = time.perf_counter()
    if in_flight == 1:
        took = measure(call, calls)
    else:
        jobs = [_THREADS.submit(measure, call, calls) for _ in range(in_flight)]
        took = [one for job in jobs for one in job.result()]
    return Round(statistics.median(took), len(took) / (time.perf_counter() - began))


def _handle(command: dict[str, Any]) -> dict[str, Any]:
    if "channels" in command:
        _CHANNELS.update({name: _open(name, target) for name, target in command["channels"].items()})
        for channel in _CHANNELS.values():
            for _ in range(50):
                channel.unary_unary(UNARY)(PAYLOAD, DEADLINE, METADATA, wait_for_ready=True)
        return {}
    unary = command["shape"] == "unary"
    calls = {
        name: channel.unary_unary(UNARY) if unary else channel.unary_stream(STREAM)
        for name, channel in _CHANNELS.items()
    }
    found: dict[str, list[Round]] = {name: [] for name in calls}
    for number, name in turns(tuple(calls), command["rounds"] + 1):
        one = _round(_unary if unary else _stream, calls[name], command["in_flight"], command["calls"])
        if number:
            found[name].append(one)
    return answer(found)


if __name__ == "__main__":
    stdio.serve(_handle)
