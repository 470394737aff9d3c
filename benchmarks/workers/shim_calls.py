"""Calls through listeners of every variant from one process, in short rounds that take turns; says p50 and p99.

Commands: `{"ports": {NAME: PORT}}` once, then `{"in_flight", "calls", "rounds"}`.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from benchmarks.spread import quantile
from benchmarks.workers import stdio
from benchmarks.workers.rounds import DEADLINE, METADATA, PAYLOAD, UNARY, turns

_CALLS: dict[str, Any] = {}
_THREADS = ThreadPoolExecutor(64)
_WARM = 300


def _unary(call: Any, count: int) -> list[float]:
    took = []
    clock = time.perf_counter
    for _ in range(count):
        began = clock()
        call(PAYLOAD, DEADLINE, METADATA)
        took.append(clock() - began)
    return took


def _handle(command: dict[str, Any]) -> dict[str, Any]:
    if "ports" in command:
        for name, port in command["ports"].items():
            channel = grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.default_authority", "orders")])
            _CALLS[name] = channel.unary_unary(UNARY)
            _unary(_CALLS[name], _WARM)
        return {}
    in_flight, calls = command["in_flight"], command["calls"]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in _CALLS}
    for number, name in turns(tuple(_CALLS), command["rounds"] + 1):
        jobs = [_THREADS.submit(_unary, _CALLS[name], calls) for _ in range(in_flight)]
        took = [one for job in jobs for one in job.result()]
        if number:
            found[name].append({"p50": quantile(took, 0.5), "p99": quantile(took, 0.99)})
    return found


if __name__ == "__main__":
    stdio.serve(_handle)
