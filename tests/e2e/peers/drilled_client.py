"""One client process of a fault drill: callers under steady load. Arguments: KIND=TARGET for each caller.

KIND is sync or aio (our SDK, all of the process in one mesh) or stock (grpcio's own xds:///); the bootstrap is the
environment's. Prints a line when every worker has had an answer; then a JSON line for each line that it is asked: by
caller the calls made, the failures, who answered lately, and the endpoints in force (null for stock, which does not
tell). Asked `stop`, it answers when the calls under way have ended, and calls no more.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections import deque
from typing import Any

import grpc
import grpc.aio

import meshsdk

METHOD = "/shop.Orders/Get"
WORKERS = 6  # a caller
PAUSE = 0.03  # seconds between two calls of a worker
LATELY = 200  # calls
DEADLINE = 20.0  # seconds of a call; beyond what a server is frozen


class Caller:
    """Workers that call one after the other. `over` ends them; `busy` are those that have not ended."""

    def __init__(self, kind: str, target: str) -> None:
        self.kind = kind
        self.target = target
        self.channel: grpc.Channel | None = None
        self.over = threading.Event()
        self.ready = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._busy = WORKERS  # guarded by _lock, as is all below
        self._made = 0
        self._failures: list[str] = []
        self._answered: deque[str] = deque(maxlen=LATELY)

    def request(self, worker: int, number: int) -> bytes:
        """Returns a call's id, of which there is one."""
        return f"{os.getpid()}-{self.kind}-{worker}-{number}".encode()

    def done(self, answer: bytes) -> None:
        """A call was answered."""
        with self._lock:
            self._made += 1
            self._answered.append(answer.decode())

    def failed(self, error: grpc.RpcError) -> None:
        """A call failed."""
        with self._lock:
            self._made += 1
            self._failures.append(f"{time.strftime('%X')} {error.code().name}: {error.details()}")

    def ended(self) -> None:
        """A worker has ended."""
        with self._lock:
            self._busy -= 1

    @property
    def busy(self) -> bool:
        """Whether calls are under way."""
        with self._lock:
            return self._busy > 0

    def report(self, mesh: meshsdk.Mesh) -> dict[str, object]:
        """Returns what the process tells."""
        with self._lock:
            facts: dict[str, object] = {"made": self._made, "failures": self._failures[:20]}
            facts["answered"] = sorted(set(self._answered))
        return {**facts, "endpoints": None if self.kind == "stock" else in_force(mesh, self.kind, self.target)}


def work(caller: Caller, call: Any, worker: int) -> None:
    """One thread of a synchronous caller."""
    caller.done(call(caller.request(worker, 0), timeout=DEADLINE, wait_for_ready=True))
    caller.ready.release()
    number = 1
    while not caller.over.is_set():
        try:
            caller.done(call(caller.request(worker, number), timeout=DEADLINE))
        except grpc.RpcError as error:
            caller.failed(error)
        number += 1
        time.sleep(PAUSE)
    caller.ended()


async def awork(caller: Caller, call: Any, worker: int) -> None:
    """One task of an asyncio caller."""
    caller.done(await call(caller.request(worker, 0), timeout=DEADLINE, wait_for_ready=True))
    caller.ready.release()
    number = 1
    while not caller.over.is_set():
        try:
            caller.done(await call(caller.request(worker, number), timeout=DEADLINE))
        except grpc.RpcError as error:
            caller.failed(error)
        number += 1
        await asyncio.sleep(PAUSE)
    caller.ended()


async def all_tasks(caller: Caller, mesh: meshsdk.Mesh) -> None:
    """The loop of an asyncio caller."""
    async with mesh.aio_channel(caller.target) as channel:
        call = channel.unary_unary(METHOD)
        await asyncio.gather(*(awork(caller, call, worker) for worker in range(WORKERS)))
        await asyncio.Event().wait()  # its endpoints can be asked for until the process ends


def begin(caller: Caller, mesh: meshsdk.Mesh) -> None:
    """Starts a caller."""
    if caller.kind == "aio":
        threading.Thread(target=lambda: asyncio.run(all_tasks(caller, mesh)), daemon=True).start()
        return
    channel = grpc.insecure_channel(caller.target) if caller.kind == "stock" else mesh.channel(caller.target)
    caller.channel = channel  # else it would go with the last worker
    call = channel.unary_unary(METHOD)
    for worker in range(WORKERS):
        threading.Thread(target=work, args=(caller, call, worker), daemon=True).start()


def in_force(mesh: meshsdk.Mesh, kind: str, target: str) -> list[str]:
    """Returns the addresses that a caller's picker is made of, whatever their state."""
    engine = mesh._engine
    (scope,) = engine._threads.values() if kind == "sync" else engine._loops.values()
    routes = scope._watched[target].target.routes
    leaves = [leaf for balancer in routes.balancers for leaf in balancer._cluster.leaves if leaf.endpoints is not None]
    return sorted({one.address for leaf in leaves for place in leaf.endpoints.localities for one in place.endpoints})


def main() -> None:
    """Runs until standard input ends."""
    mesh = meshsdk.Mesh()
    callers = [Caller(*argument.split("=", 1)) for argument in sys.argv[1:]]
    for caller in callers:
        begin(caller, mesh)
    for caller in callers:
        for _ in range(WORKERS):
            caller.ready.acquire()
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "stop":
            for caller in callers:
                caller.over.set()
            while any(caller.busy for caller in callers):
                time.sleep(0.01)
        print(json.dumps({f"{each.kind} {each.target}": each.report(mesh) for each in callers}), flush=True)
    os._exit(0)  # loops and channels need no goodbye


if __name__ == "__main__":
    main()
