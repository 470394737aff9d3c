"""The main job on one machine: a control plane, three instances in two versions, a client under steady load.

While the client calls, a canary shifts from 90/10 to 0/100, a rule on a request field takes effect, one instance is
drained and replaced, and one is killed. Every line of the table is a second. Run: make demo
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import meshsdk.testing
from meshsdk.testing import ControlPlane

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CALLERS, CALLS_PER_SECOND = 8, 200

SUBSETS = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders}
spec:
  host: orders
  trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
"""
HEAD = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
"""
GOLD = """
  - match: [{params: {"user.tier": {exact: gold}}}]
    route: [{destination: {host: orders, subset: v2}}]
"""
SPLIT = """
  - route:
    - {destination: {host: orders, subset: v1}, weight: %d}
    - {destination: {host: orders, subset: v2}, weight: %d}
"""


class Seen:
    """What the load process reported, by phase. Guarded by `_lock`; a thread feeds it."""

    def __init__(self, load: subprocess.Popen[str]) -> None:
        """Starts to read the reports."""
        self._load = load
        self._lock = threading.Lock()
        self._second: Counter[str] = Counter()
        self.phase = ""
        self.answers: dict[str, Counter[str]] = {}
        self.failures: dict[str, list[str]] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def begin(self, phase: str) -> None:
        """Counts what comes under `phase` from now on."""
        with self._lock:
            self.phase = phase
            self.answers[phase] = Counter()
            self.failures[phase] = []

    def second(self) -> Counter[str]:
        """Returns what came since the last time."""
        with self._lock:
            second, self._second = self._second, Counter()
            return second

    def _read(self) -> None:
        for line in self._load.stdout or ():
            report = json.loads(line)
            with self._lock:
                self._second.update(report["seen"])
                self._second["failed"] += len(report["failed"])
                self.answers[self.phase].update(report["seen"])
                self.failures[self.phase].extend(report["failed"])


class Demo:
    """The processes of the demo and its table."""

    def __init__(self, plane: ControlPlane, stack: ExitStack, seconds: int) -> None:
        """`seconds` per phase; processes end with `stack`."""
        self._plane = plane
        self._stack = stack
        self._seconds = seconds
        self._instances: dict[str, subprocess.Popen[str]] = {}

    def run(self) -> int:
        """Runs all phases; returns the exit code: 1 if a call failed outside of the kill."""
        for name, version in (("orders-1", "v1"), ("orders-2", "v2"), ("orders-3", "v2")):
            self._start(name, version)
        self._plane.apply(SUBSETS + "---" + HEAD + SPLIT % (90, 10))
        load = self._process("load.py", str(CALLERS), str(CALLS_PER_SECOND), app="web")
        seen = Seen(load)
        print(f"{'phase':<34} {'v1/s':>6} {'v2/s':>6} {'gold v1':>8} {'gold v2':>8} {'failed':>7}")
        self._phase(seen, "canary 90/10")
        self._plane.apply(HEAD + GOLD + SPLIT % (90, 10))
        self._phase(seen, "gold users to v2 (request field)")
        self._plane.apply(HEAD + GOLD + SPLIT % (0, 100))
        self._phase(seen, "canary 0/100")
        self._instances["orders-2"].terminate()
        self._phase(seen, "orders-2 drained (SIGTERM)")
        self._start("orders-2b", "v2")
        self._phase(seen, "orders-2b in its place")
        self._instances["orders-3"].kill()
        self._phase(seen, "orders-3 killed (SIGKILL)")
        if load.stdin is not None:
            load.stdin.close()
        load.wait(10)
        return self._conclude(seen)

    def _phase(self, seen: Seen, name: str) -> None:
        seen.begin(name)
        seen.second()
        for _ in range(self._seconds):
            time.sleep(1)
            second = seen.second()
            v1, v2 = (sum(n for key, n in second.items() if key.startswith(version)) for version in ("v1", "v2"))
            gold = second["v1/gold"], second["v2/gold"]
            print(f"{name:<34} {v1:>6} {v2:>6} {gold[0]:>8} {gold[1]:>8} {second['failed']:>7}", flush=True)

    def _conclude(self, seen: Seen) -> int:
        print()
        lost = 0
        for phase, answers in seen.answers.items():
            failed = seen.failures[phase]
            print(f"{phase:<34} {sum(answers.values()):>6} calls answered, {len(failed)} failed")
            for words, count in Counter(failed).items():
                print(f"    {count} x {words}")
            if "SIGKILL" not in phase:
                lost += len(failed)
        drained = self._instances["orders-2"].wait(20)
        print(f"\ndrained instance exited {drained}; calls lost outside of the kill: {lost}")
        return 1 if lost or drained else 0

    def _start(self, name: str, version: str) -> None:
        process = self._process("server.py", name, version, app="orders")
        if process.stdout is None or process.stdout.readline() != "online\n":
            sys.exit(f"{name} did not come online")
        self._instances[name] = process

    def _process(self, script: str, *arguments: str, app: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(self._plane.bootstrap(app)),
        }
        process = subprocess.Popen(
            [sys.executable, str(HERE / script), *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process


def main() -> int:
    """Runs the demo; `--quick` gives each phase two seconds."""
    seconds = 2 if "--quick" in sys.argv[1:] else 5
    with meshsdk.testing.control_plane() as plane, ExitStack() as stack:
        return Demo(plane, stack, seconds).run()


if __name__ == "__main__":
    sys.exit(main())
