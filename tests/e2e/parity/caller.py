"""A caller: our SDK on threads or asyncio, or stock grpcio; the bootstrap is in the environment.

Usage: caller.py sync|aio|stock. A line is JSON: `target`, `requests` (JSON each), `metadata` of each request (or none),
`workers` that call in turn, `deadline` in seconds. The answer is a list of [status, answer, seconds], in the order of
the requests.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio

import meshsdk
import meshsdk.aio

METHOD = "/parity.Echo/Say"
_WORKERS = 64
_Ended = tuple[str, str, float]
_AUTHORITY = [("grpc.default_authority", "parity")]


class Threads:
    """Calls with grpc.Channel."""

    def __init__(self, make: Any) -> None:
        self._make = make
        self._calls: dict[str, Any] = {}
        self._pool = ThreadPoolExecutor(_WORKERS)

    def _one(self, call: Any, request: bytes, metadata: Any, deadline: float) -> _Ended:
        began = time.monotonic()
        try:
            answer = call(request, timeout=deadline, metadata=metadata)
        except grpc.RpcError as error:
            return error.code().name, error.details(), time.monotonic() - began
        return "OK", answer.decode(), time.monotonic() - began

    def ask(self, asked: dict[str, Any]) -> list[_Ended]:
        """Makes the calls."""
        target, workers = asked["target"], asked["workers"]
        if target not in self._calls:
            self._calls[target] = self._make(target).unary_unary(METHOD)
        jobs = list(pairs(asked))
        ended: list[_Ended] = [("", "", 0.0)] * len(jobs)

        def work(first: int) -> None:
            for index in range(first, len(jobs), workers):
                ended[index] = self._one(self._calls[target], *jobs[index], asked["deadline"])

        for done in [self._pool.submit(work, worker) for worker in range(workers)]:
            done.result()
        return ended

    def serve(self) -> None:
        """Answers lines until standard input ends."""
        for line in sys.stdin:
            print(json.dumps(self.ask(json.loads(line))), flush=True)


class Tasks:
    """Calls with grpc.aio.Channel."""

    def __init__(self) -> None:
        self._calls: dict[str, Any] = {}

    async def _one(self, call: Any, request: bytes, metadata: Any, deadline: float) -> _Ended:
        began = time.monotonic()
        try:
            answer = await call(request, timeout=deadline, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details() or "", time.monotonic() - began
        return "OK", answer.decode(), time.monotonic() - began

    async def ask(self, asked: dict[str, Any]) -> list[_Ended]:
        """Makes the calls."""
        target, workers = asked["target"], asked["workers"]
        if target not in self._calls:
            self._calls[target] = meshsdk.aio.channel(target).unary_unary(METHOD)
        jobs = list(pairs(asked))
        ended: list[_Ended] = [("", "", 0.0)] * len(jobs)

        async def work(first: int) -> None:
            for index in range(first, len(jobs), workers):
                ended[index] = await self._one(self._calls[target], *jobs[index], asked["deadline"])

        await asyncio.gather(*(work(worker) for worker in range(workers)))
        return ended

    async def serve(self) -> None:
        """Answers lines until standard input ends."""
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await self.ask(json.loads(line))), flush=True)


def pairs(asked: dict[str, Any]) -> Any:
    """Gives request and metadata of each call."""
    told = asked.get("metadata") or [[]] * len(asked["requests"])
    for request, entries in zip(asked["requests"], told, strict=True):
        yield json.dumps(request).encode(), tuple((key, value) for key, value in entries)


def main() -> None:
    """Runs."""
    kind = sys.argv[1]
    if kind == "aio":
        asyncio.run(Tasks().serve())
    elif kind == "sync":
        Threads(meshsdk.channel).serve()
    else:
        # The authority is of no account behind a proxy with a listener for each service; xds:/// has its own.
        Threads(lambda target: grpc.insecure_channel(target, () if "xds:" in target else _AUTHORITY)).serve()


if __name__ == "__main__":
    main()
