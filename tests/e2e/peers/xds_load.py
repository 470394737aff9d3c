"""Steady load on a service through `xds:///`: 8 threads.

Arguments: the target, the method, and `mesh` for our SDK in place of stock grpcio.

Prints a line when every thread has had an answer, then one JSON line of counts for each line it is asked.
"""

from __future__ import annotations

import json
import sys
import threading

import grpc

import meshsdk

THREADS = 8


class Load:
    """The callers and their counts, guarded by the lock."""

    def __init__(self, target: str, method: str, *kind: str) -> None:
        channel = meshsdk.channel(target) if kind else grpc.insecure_channel(target)
        self._get = channel.unary_unary(method)
        self._lock = threading.Lock()
        self.made = 0
        self.failures: list[str] = []
        self.ready = threading.Barrier(THREADS + 1)
        for _ in range(THREADS):
            threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        self._get(b"first", timeout=20, wait_for_ready=True)
        self.ready.wait()
        while True:
            problem = ""
            try:
                self._get(b"x", timeout=10)
            except grpc.RpcError as error:
                problem = f"{error.code().name}: {error.details()}"
            with self._lock:
                self.made += 1
                self.failures += [problem] if problem else []


def main() -> None:
    """Runs until standard input ends."""
    load = Load(*sys.argv[1:])
    load.ready.wait()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps({"made": load.made, "failures": load.failures[:20]}), flush=True)


if __name__ == "__main__":
    main()
