"""Fault drills: five servers in a network namespace of their own, one of them at fault, and every way to call them.

The callers, the control plane and Envoy are in another namespace, joined by a veth pair; the host's is not touched.
Used by test_drills and by `python -m benchmarks drills`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from controlplane.config.documents import parse
from controlplane.config.merge import merge
from tests.e2e.parity.ways import _listener
from tests.e2e.peers import envoy as stock_envoy
from tests.e2e.peers.grpc_process import bootstrap
from tests.e2e.processes import Process, program

PLAIN, XDS, ENVOY, OURS, THREADS = "plain grpcio", "xds:///", "Envoy", "ours", "ours, threads"
WAYS = (PLAIN, XDS, ENVOY, OURS, THREADS)
SECONDS = 0.005  # that a call takes a server
SLOWER = 20
DEADLINE = 2.0  # seconds
_SERVERS = 5
_NEAR, _FAR = "10.78.0.1", tuple(f"10.78.0.{11 + number}" for number in range(_SERVERS))
_PORT = 50051
_XDS_PORT, _ENVOY_PORT = 18000, 18100
_DOWN, _UP = 1.0, 1.5  # seconds of a flapping server
_CONFIGURATION = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: orders}}
spec:
  hosts: [orders]
  ports: [{{number: 50051, name: grpc}}]
  resolution: STATIC
  endpoints: [{endpoints}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: orders}}
spec:
  host: orders
  trafficPolicy:
    loadBalancer: {{simple: LEAST_REQUEST}}
    connectionPool: {{tcp: {{connectTimeout: 1s}}}}
    retryBudget: {{percent: 20, minRetryConcurrency: 10}}
    outlierDetection:
      {{consecutive5xxErrors: 5, interval: 1s, baseEjectionTime: 5s, maxEjectionPercent: 40}}
---
apiVersion: meshsdk.io/v1alpha1
kind: CallPolicy
metadata: {{name: orders}}
spec:
  targetRef: {{kind: Service, name: orders}}
  hedging: {{delay: 50ms, maxAttempts: 3, nonFatalStatusCodes: [UNAVAILABLE]}}
  outlierDetection: {{failurePercentage: {{threshold: 30, minimumHosts: 3, requestVolume: 10}}}}
"""
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.025s",
                "maxBackoff": "0.25s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}


class Called(NamedTuple):
    """One call: when it began, in seconds since the first, how long it took, and its status by name."""

    start: float
    seconds: float
    status: str


def run(*words: str) -> str:
    """Runs a command of the system."""
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout


class Yard:
    """Two namespaces that are joined: callers are in `near`, servers in `far`. A context manager. Needs root."""

    def __init__(self) -> None:
        self.near, self.far = f"msd{os.getpid()}a", f"msd{os.getpid()}b"

    def __enter__(self):
        for name in (self.near, self.far):
            run("ip", "netns", "add", name)
        run("ip", "-n", self.near, "link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", self.far)
        for name, addresses in ((self.near, (_NEAR,)), (self.far, _FAR)):
            for address in addresses:
                run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "v0")
            for link in ("lo", "v0"):
                run("ip", "-n", name, "link", "set", link, "up")
        return self

    def __exit__(self, *_):
        for name in (self.near, self.far):
            for pid in run("ip", "netns", "pids", name).split():
                os.kill(int(pid), signal.SIGKILL)
            run("ip", "netns", "del", name)

    @staticmethod
    def process(space: str, *words: str | Path, env: Mapping[str, str] | None = None) -> Process:
        """Starts a program in one of them."""
        return Process("ip", "netns", "exec", space, *words, env=env)

    def swallow(self, address: str) -> None:
        """Drops every packet to a server from now on: no answer, no refusal."""
        rules = (
            "add table ip drill",
            "add chain ip drill input { type filter hook input priority 0; }",
            f"add rule ip drill input ip daddr {address} drop",
        )
        run("ip", "netns", "exec", self.far, "nft", "; ".join(rules))


class Drill:
    """Servers, and callers of every way. The first server is the one at fault."""

    def __init__(self, stack: ExitStack, yard: Yard, folder: Path, ways: tuple[str, ...] = WAYS) -> None:
        self._stack = stack
        self._yard = yard
        addresses = [f"{address}:{_PORT}" for address in _FAR]
        self._servers = [self._serve(address) for address in addresses]
        for server in self._servers:
            server.line()
        endpoints = ", ".join(f"{{address: {address}, ports: {{grpc: {_PORT}}}}}" for address in _FAR)
        configuration = _CONFIGURATION.format(endpoints=endpoints)
        (folder / "config").mkdir()
        (folder / "config" / "orders.yaml").write_text(configuration)
        code = "import sys; from controlplane.cli import main; sys.exit(main())"
        serve = (
            "serve",
            "--config",
            str(folder / "config"),
            "--xds",
            f"127.0.0.1:{_XDS_PORT}",
            "--admin",
            "127.0.0.1:0",
        )
        self._near(sys.executable, "-c", code, *serve).line()
        if ENVOY in ways:
            self._envoy(folder, configuration)
        targets = {
            PLAIN: ("stock", f"ipv4:{','.join(addresses)}", json.dumps(_SERVICE_CONFIG)),
            XDS: ("stock", "xds:///orders"),
            ENVOY: ("stock", f"ipv4:127.0.0.1:{_ENVOY_PORT}"),
            OURS: ("mesh", "xds:///orders"),
            THREADS: ("mesh-threads", "xds:///orders"),
        }
        self._callers = {
            way: self._near(
                sys.executable, "tests/e2e/parity/drill_caller.py", *targets[way], env=bootstrap(_XDS_PORT, way)
            )
            for way in ways
        }
        for caller in self._callers.values():
            assert caller.line() == "ready"

    def _near(self, *words: str | Path, env: Mapping[str, str] | None = None) -> Process:
        return self._stack.enter_context(self._yard.process(self._yard.near, *words, env=env))

    def _serve(self, address: str) -> Process:
        words = (sys.executable, "tests/e2e/parity/drill_server.py", address, str(SECONDS))
        return self._stack.enter_context(self._yard.process(self._yard.far, *words))

    def _envoy(self, folder: Path, configuration: str) -> None:
        described = stock_envoy._bootstrap(_XDS_PORT, "envoy", delta=True, lds=False)
        listener = _listener("orders", merge(parse(configuration, "drill.yaml")).configuration)
        listener["address"] = stock_envoy._socket(_ENVOY_PORT)
        described["static_resources"]["listeners"] = [listener]
        file = folder / "envoy.json"
        file.write_text(json.dumps(described))
        self._near(
            *(program("envoy"), "--config-path", file, "--use-dynamic-base-id", "--concurrency", "1"),
            *("--log-level", "error"),
        )

    def call(self, rate: float, seconds: float, deadline: float = DEADLINE) -> dict[str, list[Called]]:
        """Has all callers call at the same time, each at `rate` a second; returns their calls."""

        def ask(caller: Process) -> list[Called]:
            return [Called(*one) for one in json.loads(caller.ask(f"{rate} {seconds} {deadline}", seconds + 60.0))]

        with ThreadPoolExecutor(len(self._callers)) as pool:
            return dict(zip(self._callers, pool.map(ask, self._callers.values()), strict=True))

    def slow(self) -> Callable[[], None]:
        """One server takes 20 times as long."""
        return self._told(SECONDS * SLOWER, 0.0)

    def failing(self) -> Callable[[], None]:
        """One server fails every other call."""
        return self._told(SECONDS, 0.5)

    def _told(self, seconds: float, failing: float) -> Callable[[], None]:
        assert self._servers[0].ask(json.dumps({"seconds": seconds, "failing": failing})) == "done"
        return lambda: None

    def black_hole(self) -> Callable[[], None]:
        """No packet reaches one server any more."""
        self._yard.swallow(_FAR[0])
        return lambda: None

    def flapping(self) -> Callable[[], None]:
        """One server is killed and started again, over and over. Returns what ends that."""
        over = threading.Event()

        def flap() -> None:
            while not over.is_set():
                self._kill(self._servers[0])
                over.wait(_DOWN)
                self._servers[0] = self._serve(f"{_FAR[0]}:{_PORT}")
                self._servers[0].line()
                over.wait(_UP)

        thread = threading.Thread(target=flap)
        thread.start()

        def end() -> None:
            over.set()
            thread.join()

        return end

    @staticmethod
    def _kill(server: Process) -> None:
        os.kill(server.pid, signal.SIGKILL)  # `ip netns exec` becomes the server
        server.stop()

    @staticmethod
    def healthy() -> Callable[[], None]:
        """All is well."""
        return lambda: None


FAULTS: Mapping[str, Callable[[Drill], Callable[[], None]]] = {
    "none": lambda drill: drill.healthy(),
    f"slow by {SLOWER}x": Drill.slow,
    "failing 50%": Drill.failing,
    "black-holed": Drill.black_hole,
    "flapping": Drill.flapping,
}


@contextmanager
def drilled(folder: Path, fault: str, ways: tuple[str, ...] = WAYS) -> Iterator[Drill]:
    """Starts everything anew, and then the fault."""
    with Yard() as yard, ExitStack() as stack:
        drill = Drill(stack, yard, folder, ways)
        end = FAULTS[fault](drill)
        try:
            yield drill
        finally:
            end()
