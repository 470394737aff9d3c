"""Two asyncio loops in two threads and four plain threads over one mesh. Run by tests/e2e/test_mixed_concurrency.py.

Prints `used` once every caller has called, waits for a line, lets all of them call on, and prints the counts as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter

import meshsdk
import meshsdk.aio
from examples import orders_pb2, orders_pb2_grpc

LOOPS, THREADS, ROUNDS, TASKS = 2, 4, 10, 8
TIMEOUT = 20

_lock = threading.Lock()
_passed: Counter[str] = Counter()
_failed: list[str] = []
_first = threading.Barrier(LOOPS + THREADS + 1)
_second = threading.Barrier(LOOPS + THREADS + 1)


def note(kind: str, answer: object) -> None:
    """Counts one call of a kind of caller."""
    with _lock:
        if isinstance(answer, Exception):
            _failed.append(f"{kind}: {answer!r}")
        else:
            _passed[kind] += 1


def blocking() -> None:
    """A plain thread."""
    with meshsdk.channel("xds:///orders") as channel:
        stub = orders_pb2_grpc.OrdersStub(channel)
        request = orders_pb2.GetRequest(order_id="42")
        for gate in (_first, _second):
            for _ in range(ROUNDS):
                try:
                    stub.Get(request, timeout=TIMEOUT)
                    assert len(list(stub.Watch(request, timeout=TIMEOUT))) == 3
                    note("thread", None)
                except Exception as error:  # noqa: BLE001 - counted
                    note("thread", error)
            gate.wait()


async def looping() -> None:
    """A loop of its own."""
    request = orders_pb2.GetRequest(order_id="42")
    async with meshsdk.aio.channel("xds:///orders") as channel:
        stub = orders_pb2_grpc.OrdersStub(channel)

        async def call() -> None:
            try:
                await stub.Get(request, timeout=TIMEOUT)
                assert len([order async for order in stub.Watch(request, timeout=TIMEOUT)]) == 3
                note("loop", None)
            except Exception as error:  # noqa: BLE001 - counted
                note("loop", error)

        for gate in (_first, _second):
            for _ in range(ROUNDS):
                await asyncio.gather(*(call() for _ in range(TASKS)))
            await asyncio.to_thread(gate.wait)


def main() -> None:
    """Starts all, and tells the counts."""
    callers = [threading.Thread(target=asyncio.run, args=(looping(),)) for _ in range(LOOPS)]
    callers += [threading.Thread(target=blocking) for _ in range(THREADS)]
    for caller in callers:
        caller.start()
    _first.wait()
    print("used", flush=True)
    sys.stdin.readline()
    _second.wait()
    for caller in callers:
        caller.join()
    print(json.dumps({"passed": _passed, "failed": _failed}), flush=True)


if __name__ == "__main__":
    main()
