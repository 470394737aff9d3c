"""Loads a server at a rate, whatever it answers. A process of overload drills: plain grpcio, so nothing holds it back.

Usage: open_loop.py ADDRESS METHOD DEADLINE RATE:SECONDS... - prints one JSON list, for each phase: `offered` calls;
`ended`: how many of them by status; `seconds`: the same for each second of the phase, by when calls began;
`failed_last`: when the last call began that did not end OK, in seconds since the phase did; `reasons` of refusals
(google.rpc.ErrorInfo) and how many say when to come back (`waits`, google.rpc.RetryInfo).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

import grpc.aio
from google.rpc import error_details_pb2, status_pb2

_TICK = 0.005  # seconds; calls that are due by then begin together
_DETAILS = "grpc-status-details-bin"


class Phase:
    """Some seconds at one rate. Owned by the loop."""

    def __init__(self, rate: float, seconds: float) -> None:
        self._rate, self._length = rate, seconds
        self._calls: list[asyncio.Future[None]] = []
        self._seconds: list[Counter[str]] = [Counter() for _ in range(int(seconds) + 1)]
        self._reasons: Counter[str] = Counter()
        self._waits = 0
        self._failed_last = 0.0

    async def begin_all(self, call: Any, deadline: float) -> None:
        """Begins every call when it is due, and waits for none."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < self._length:
            while len(self._calls) < passed * self._rate:
                self._calls.append(asyncio.ensure_future(self._one(call, deadline, passed)))
            await asyncio.sleep(_TICK)

    async def _one(self, call: Any, deadline: float, start: float) -> None:
        try:
            await call(b"x", timeout=deadline)
        except grpc.aio.AioRpcError as error:
            self._failed_last = max(self._failed_last, start)
            self._seconds[int(start)][error.code().name] += 1
            self._read(error)
        else:
            self._seconds[int(start)]["OK"] += 1

    def _read(self, error: grpc.aio.AioRpcError) -> None:
        for key, value in error.trailing_metadata() or ():
            for detail in status_pb2.Status.FromString(value).details if key == _DETAILS else ():
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    self._reasons[info.reason] += 1
                self._waits += detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR)

    async def report(self) -> dict[str, object]:
        """Waits for the end of every call."""
        await asyncio.gather(*self._calls)
        return {
            "offered": len(self._calls),
            "ended": sum(self._seconds, Counter()),
            "seconds": self._seconds,
            "failed_last": round(self._failed_last, 2),
            "reasons": self._reasons,
            "waits": self._waits,
        }


async def main() -> None:
    """Runs the phases one after another, without a pause."""
    address, method, deadline, *spelt = sys.argv[1:]
    phases = [Phase(*map(float, one.split(":"))) for one in spelt]
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(method)
        for phase in phases:
            await phase.begin_all(call, float(deadline))
        print(json.dumps([await phase.report() for phase in phases]), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
