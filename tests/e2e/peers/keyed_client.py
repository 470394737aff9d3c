"""A client whose calls carry a key: our SDK or stock grpcio, threads or asyncio; the bootstrap is in the environment.

Usage: keyed_client.py mesh|stock sync|aio. A line is `TARGET KEY COUNT [METHOD]`, KEY "-" for none; the answer is one
JSON object {"answers": {NAME: calls}, "errors": {"CODE: details": calls}}. `load TARGET KEY` calls without a pause from
eight callers until the line `stop`, which is answered with their counts. METHOD `Hold` is a call that takes 2 s.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter

import grpc
import grpc.aio

import meshsdk
import meshsdk.aio

CALLERS = 8
DEADLINE = 20.0  # seconds: no call of a test may need it


def metadata(key: str) -> tuple[tuple[str, str], ...]:
    """Returns the metadata that carries a key."""
    return () if key == "-" else (("x-user", key),)


class Tally:
    """Outcomes of calls; guarded by the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.answers: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def note(self, answer: str, error: grpc.RpcError | None) -> None:
        """Counts one outcome."""
        with self._lock:
            if error is None:
                self.answers[answer] += 1
            else:
                self.errors[f"{error.code().name}: {error.details()}"] += 1

    def report(self) -> None:
        """Prints the counts."""
        with self._lock:
            print(json.dumps({"answers": self.answers, "errors": self.errors}), flush=True)


class Threads:
    """Calls with grpc.Channel."""

    def __init__(self, make) -> None:
        self._make = make
        self._channels: dict[str, grpc.Channel] = {}

    def call(self, target: str, key: str, method: str, tally: Tally) -> None:
        """Makes one call."""
        if target not in self._channels:
            self._channels[target] = self._make(target)
        call = self._channels[target].unary_unary(f"/test.Echo/{method}")
        try:
            tally.note(call(b"", timeout=DEADLINE, metadata=metadata(key)).decode(), None)
        except grpc.RpcError as error:
            tally.note("", error)

    def serve(self) -> None:
        """Answers lines until standard input ends."""
        stopping = threading.Event()
        load, tally = [], Tally()
        for line in sys.stdin:
            word, *rest = line.split()
            if word == "load":
                stopping.clear()
                tally = Tally()
                self.call(rest[0], rest[1], "Say", tally)  # makes the channel
                load = [
                    threading.Thread(target=self._loop, args=(*rest, tally, stopping), daemon=True)
                    for _ in range(CALLERS)
                ]
                for thread in load:
                    thread.start()
                print("loading", flush=True)
            elif word == "stop":
                stopping.set()
                for thread in load:
                    thread.join()
                tally.report()
            else:
                once = Tally()
                for _ in range(int(rest[1])):
                    self.call(word, rest[0], rest[2] if len(rest) > 2 else "Say", once)
                once.report()

    def _loop(self, target: str, key: str, tally: Tally, stopping: threading.Event) -> None:
        while not stopping.is_set():
            self.call(target, key, "Say", tally)


class Tasks:
    """Calls with grpc.aio.Channel."""

    def __init__(self, make) -> None:
        self._make = make
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def call(self, target: str, key: str, method: str, tally: Tally) -> None:
        """Makes one call."""
        if target not in self._channels:
            self._channels[target] = self._make(target)
        call = self._channels[target].unary_unary(f"/test.Echo/{method}")
        try:
            tally.note((await call(b"", timeout=DEADLINE, metadata=metadata(key))).decode(), None)
        except grpc.aio.AioRpcError as error:
            tally.note("", error)

    async def serve(self) -> None:
        """Answers lines until standard input ends."""
        stopping = asyncio.Event()
        load, tally = [], Tally()
        while line := await asyncio.to_thread(sys.stdin.readline):
            word, *rest = line.split()
            if word == "load":
                stopping.clear()
                tally = Tally()
                await self.call(rest[0], rest[1], "Say", tally)
                load = [asyncio.create_task(self._loop(*rest, tally, stopping)) for _ in range(CALLERS)]
                print("loading", flush=True)
            elif word == "stop":
                stopping.set()
                await asyncio.gather(*load)
                tally.report()
            else:
                once = Tally()
                for _ in range(int(rest[1])):
                    await self.call(word, rest[0], rest[2] if len(rest) > 2 else "Say", once)
                once.report()

    async def _loop(self, target: str, key: str, tally: Tally, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            await self.call(target, key, "Say", tally)


def main() -> None:
    """Runs until standard input ends."""
    kind, flavour = sys.argv[1:]
    if kind == "mesh":
        make, make_aio = meshsdk.channel, meshsdk.aio.channel
    else:
        make, make_aio = grpc.insecure_channel, grpc.aio.insecure_channel
    if flavour == "sync":
        Threads(make).serve()
    else:
        asyncio.run(Tasks(make_aio).serve())


if __name__ == "__main__":
    main()
