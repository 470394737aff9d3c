"""Steady load as a process: `load.py CALLERS CALLS_PER_SECOND`. Every fourth call is of a gold user.

Prints one JSON line a tenth of a second: answers by version and tier, and failures in words. Ends with its stdin.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter

import grpc

import meshsdk
from examples import orders_pb2, orders_pb2_grpc

_REPORT_EVERY = 0.1


class Load:
    """Callers in threads and what they saw since the last report; `_seen` and `_failed` are guarded by `_lock`."""

    def __init__(self, callers: int, rate: float) -> None:
        """`rate`: calls per second of all callers together."""
        self._stub = orders_pb2_grpc.OrdersStub(meshsdk.channel("xds:///orders"))
        self._pause = callers / rate
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()
        self._failed: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(n,), daemon=True) for n in range(callers)]

    def run(self) -> None:
        """Calls until stdin closes."""
        threading.Thread(target=self._until_stdin_closes, daemon=True).start()
        for thread in self._threads:
            thread.start()
        while not self._stop.wait(_REPORT_EVERY):
            self._report()
        for thread in self._threads:
            thread.join()
        self._report()

    def _call(self, number: int) -> None:
        due = time.monotonic() + self._pause * number / len(self._threads)
        count = number
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += self._pause
            count += 1
            tier = "gold" if count % 4 == 0 else "basic"
            request = orders_pb2.GetRequest(order_id=str(count), user=orders_pb2.User(tier=tier))
            try:
                answer = self._stub.Get(request, timeout=5)
            except grpc.RpcError as error:
                with self._lock:
                    self._failed.append(f"{error.code().name}: {error.details()}")
            else:
                with self._lock:
                    self._seen[f"{answer.version}/{tier}"] += 1

    def _report(self) -> None:
        with self._lock:
            seen, self._seen = self._seen, Counter()
            failed, self._failed = self._failed, []
        print(json.dumps({"seen": seen, "failed": failed}), flush=True)

    def _until_stdin_closes(self) -> None:
        sys.stdin.read()
        self._stop.set()


if __name__ == "__main__":
    Load(int(sys.argv[1]), float(sys.argv[2])).run()
