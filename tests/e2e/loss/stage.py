"""A run: etcd, a control plane that follows it, servers that register there, load from processes of their own.

Used by the scenarios of this folder and by `benchmarks.loss`. Ends with `verdict`, the account of every call.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tests.e2e.control_planes import Served
from tests.e2e.drills import entries_of_etcd
from tests.e2e.loss.records import Call, calls, executions
from tests.e2e.loss.shapes import IDEMPOTENT
from tests.e2e.loss.verdict import Verdict, verdict
from tests.e2e.processes import Process, until
from tests.servers.etcd import EtcdServer
from tests.servers.process import free_port

T = TypeVar("T")
ALL_SHAPES = "get,get,watch,get,put,chat"
_PATIENCE = 60.0  # seconds for any one step on a busy machine
_RULES = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: rules}}
spec:
  hosts: [{app}]
  http:
  - match: [{{uri: {{exact: /shop.Orders/Read}}}}]
    retries: {{attempts: 3, retryOn: "unavailable,connect-failure", backoff: 25ms}}
    route: [{{destination: {{host: {app}}}}}]
  - route: [{{destination: {{host: {app}}}}}]
"""
_RUN = "import sys; from meshsdk.cli import main; sys.exit(main())"


@dataclass(frozen=True, slots=True)
class Serving:
    """How servers of a run are started; see the options of `server`. `kind` "": sync and aio in turn.

    `how`: `sdk`, under `meshsdk.serve`; `listed`, with grpcio alone and in the registry; `plain`, out of it; `woven`, a
    plain one under `meshsdk run`. `unheard`: not to be waited for in the registry.
    """

    kind: str = ""
    how: str = "sdk"
    listen: str = "127.0.0.1:0"
    quiet: float = 1.0
    timeout: float = 15.0
    grace: float = 1.0
    lease: float = 15.0
    unheard: bool = False

    def arguments(self, number: int) -> list[str]:
        """Returns the options of the server with this number."""
        kind = self.kind or ("sync", "aio")[number % 2]
        names = ("listen", "quiet", "timeout", "grace", "lease") if self.how == "sdk" else ("listen", "timeout")
        options = [word for name in names for word in (f"--{name}", str(getattr(self, name)))]
        return ["--kind", kind, *options, *(("--listed",) if self.how == "listed" else ())]


class Server:
    """A server process and its ledger. `name` is its node's; `address` is where it serves."""

    def __init__(self, name: str, process: Process, ledger: Path) -> None:
        self.name = name
        self.process = process
        self.ledger = ledger
        self.address = ""

    def begun(self) -> set[str]:
        """Returns the calls that it has begun on so far."""
        return {execution.id for execution in executions(_lines(self.ledger))}

    def terminate(self) -> Server:
        """Tells it to end, as whoever runs it would."""
        os.kill(self.process.pid, signal.SIGTERM)
        return self

    def wait_ended(self) -> None:
        """Waits until it has ended by itself, in order."""
        word = self.process.line(_PATIENCE)
        assert word == "stopped", word
        until(lambda: not self.process.running, f"{self.address} ended")
        assert self.process.stop() == 0, self.process.errors


class Stage:
    """The processes of one run, ended with `stack`. Owned by one thread."""

    def __init__(self, stack: ExitStack, folder: Path, serving: Serving | None = None, app: str = "orders") -> None:
        self.app = app
        self.serving = serving or Serving()
        self.servers: list[Server] = []  # those that are to serve, the oldest first
        self.loads: list[Process] = []
        self._stack = stack
        self._folder = folder
        self._ledgers: list[Path] = []
        self._calls: list[Path] = []
        self._pool = stack.enter_context(ThreadPoolExecutor(8))
        self.config = folder / "config"
        self.config.mkdir()
        (self.config / "rules.yaml").write_text(_RULES.format(app=app))
        self.etcd = EtcdServer()
        stack.callback(self.etcd.remove)
        self.etcd.start()
        self.url = f"etcd://{self.etcd.address}?tls=0&timeout=1"
        self._xds = f"127.0.0.1:{free_port()}"  # the same when it comes back
        self.plane = self.start_plane()

    def together(self, *steps: Callable[[], T]) -> list[T]:
        """Runs all at once: most of a step is waiting for a process."""
        return [future.result() for future in [self._pool.submit(step) for step in steps]]

    # -- the registry and the control plane ---------------------------------------------------------------------------

    def start_plane(self) -> Served:
        """Starts the control plane, where it was before."""
        self.plane = self._stack.enter_context(Served(self.config, "--registry", f"main={self.url}", xds=self._xds))
        return self.plane

    def kill_plane(self) -> None:
        """Ends the control plane at once."""
        os.kill(self.plane.process.pid, signal.SIGKILL)
        self.plane.process.stop()

    @contextmanager
    def without(self, away: str) -> Iterator[None]:
        """Kills `the control plane` or `the registry` and brings it back where it was."""
        if away == "the control plane":
            self.kill_plane()
            yield
            self.start_plane()
        else:
            self.etcd.kill()
            yield
            self.etcd.start()

    def registered(self) -> dict[str, str]:
        """Returns address -> state as etcd itself tells."""
        return {address: entry["state"] for address, entry in self.entries().items()}

    def entries(self) -> dict[str, dict[str, Any]]:
        """Returns address -> entry as etcd itself tells."""
        return {entry["address"]: entry for entry in entries_of_etcd(self.etcd.address)}

    def settled(self) -> None:
        """Waits until the registry has the servers that are to serve, ONLINE, and nobody else."""
        expected = {server.address: "ONLINE" for server in self.servers}
        until(lambda: self.registered() == expected, f"the registry has {sorted(expected)}", _PATIENCE)

    def bootstrap(self, node: str, app: str) -> dict[str, Any]:
        """Returns the bootstrap of a process: both ways to the same registry."""
        return {
            "xds_servers": [{"server_uri": self._xds, "channel_creds": [{"type": "insecure"}]}],
            "node": {"id": node, "cluster": app},
            "meshsdk": {"registries": {"default": {"url": self.url}}},
        }

    def _module(self, name: str, bootstrap: dict[str, Any], *arguments: str, woven: bool = False) -> Process:
        environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)}
        weaving = ("-c", _RUN, "run") if woven else ()
        process = Process(sys.executable, *weaving, "-m", f"tests.e2e.loss.{name}", *arguments, env=environment)
        return self._stack.enter_context(process)

    # -- servers ------------------------------------------------------------------------------------------------------

    def begin(self, **changes: Any) -> Server:
        """Starts a server, not waiting for it and not counting on it; `changes` to this run's `Serving`."""
        serving = replace(self.serving, **changes)
        number = len(self._ledgers)
        name = f"server-{number}"
        ledger = self._folder / f"ledger-{number}"
        ledger.touch()
        self._ledgers.append(ledger)
        arguments = ("--ledger", str(ledger), "--app", self.app, *serving.arguments(number))
        module = "server" if serving.how == "sdk" else "plain_server"
        process = self._module(module, self.bootstrap(name, self.app), *arguments, woven=serving.how == "woven")
        return Server(name, process, ledger)

    def online(self, server: Server) -> Server:
        """Waits until a server serves and the registry has it."""
        self.up(server)
        until(lambda: self.registered().get(server.address) == "ONLINE", f"{server.address} is online", _PATIENCE)
        return server

    @staticmethod
    def up(server: Server) -> Server:
        """Waits until a server serves."""
        server.address = server.process.line(_PATIENCE)
        return server

    def serve(self, count: int, **changes: Any) -> list[Server]:
        """Starts servers and waits for them."""
        servers = [self.begin(**changes) for _ in range(count)]
        self.servers += servers
        serving = replace(self.serving, **changes)
        wait = self.up if serving.unheard or serving.how == "plain" else self.online
        return [wait(server) for server in servers]

    def drain(self, count: int = 1) -> list[Server]:
        """Tells the oldest servers to end; they are waited for by their `wait_ended`."""
        leaving = [server.terminate() for server in self.servers[:count]]
        del self.servers[:count]
        return leaving

    def roll(self, restarts: int, **changes: Any) -> None:
        """Replaces the oldest server by a new one, so many times; the next is started while one drains."""
        coming = self.begin(**changes)
        for left in range(restarts, 0, -1):
            self.servers.append(self.online(coming))
            leaving = self.drain()
            if left > 1:
                coming = self.begin(**changes)
            for server in leaving:
                server.wait_ended()

    def roll_in_place(self, restarts: int) -> None:
        """The same without a spare: the new one takes the place, and the port, of the old one once that has ended.

        It must be called before the next one goes: callers come back after a while only.
        """
        for _ in range(restarts):
            (leaving,) = self.drain()
            leaving.wait_ended()
            (coming,) = self.serve(1, listen=leaving.address)
            until(lambda server=coming: server.begun(), f"{coming.address} is called", _PATIENCE)

    # -- load ---------------------------------------------------------------------------------------------------------

    def load(self, target: str, *options: str, woven: bool = False) -> Process:
        """Starts a load generator, with `options` of `load`; `woven`: under `meshsdk run`, as the application `web`."""
        number = len(self._calls)
        path = self._folder / f"calls-{number}"
        self._calls.append(path)
        arguments = ("--name", f"c{number}", "--calls", str(path), "--target", target, *options)
        process = self._module("load", self.bootstrap(f"load-{number}", "web"), *arguments, woven=woven)
        self.loads.append(process)
        return process

    def wait_load(self) -> None:
        """Waits until every caller of every process has had an answer."""
        for load in self.loads:
            word = load.line(_PATIENCE)
            assert word == "ready", word

    def callers(self, targets: Sequence[str], *options: str, count: int = 16) -> None:
        """Starts `count` callers of each target on threads and as many on asyncio, and waits for them."""
        for target in targets:
            for kind in ("sync", "aio"):
                self.load(target, "--kind", kind, "--callers", str(count), *options)
        self.wait_load()

    def both_ways(self, count: int = 16) -> None:
        """64 callers: through the control plane and straight from the registry."""
        self.callers((f"xds:///{self.app}", f"mesh:///{self.app}"), count=count)

    def counts(self, command: str = "report") -> list[dict[str, Any]]:
        """Returns what each load generator tells."""
        return self.together(*(lambda one=load: json.loads(one.ask(command, _PATIENCE)) for load in self.loads))

    def goes_on(self, more: int = 50) -> None:
        """Waits until each load generator has had so many more answers."""

        def answered() -> list[int]:
            return [report["made"] - report["failed"] for report in self.counts()]

        before = answered()
        until(
            lambda: all(now >= then + more for now, then in zip(answered(), before, strict=True)),
            "calls go on",
            _PATIENCE,
        )

    def known(self) -> None:
        """Waits until every load generator calls every server that is to serve."""
        every = {f"c{number}" for number in range(len(self.loads))}

        def missing() -> list[str]:
            called = {server.address: {call.partition(".")[0] for call in server.begun()} for server in self.servers}
            return [f"{address} by {every - callers}" for address, callers in called.items() if every - callers]

        def none() -> bool:
            assert not (found := missing()), found
            return True

        until(none, "every server is called by all", _PATIENCE)

    # -- the end ------------------------------------------------------------------------------------------------------

    def stop_load(self) -> None:
        """Has the callers finish what they do."""
        self.counts("stop")

    def verdict(self, ending: Sequence[Server] = ()) -> Verdict:
        """Ends the load, then the servers; returns the account of all calls."""
        self.stop_load()
        for server in (*self.drain(len(self.servers)), *ending):
            server.wait_ended()
        ledgers = [list(executions(_lines(path))) for path in self._ledgers]
        return verdict(self.made(), ledgers, IDEMPOTENT)

    def made(self) -> list[Call]:
        """Returns the calls that have ended so far."""
        return [call for path in self._calls for call in calls(_lines(path))]


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def now() -> float:
    """Returns the clock that calls are timed by."""
    return time.monotonic()
