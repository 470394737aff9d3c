"""A fault drill: servers that register, clients under load, control planes between them, and the registry's truth.

Used by the tests test_fault_drills*. Every part is a process of its own. A drill ends with `check_truth` (what every
client uses, and who answers it, is what an independent reader finds in the registry) and `check_accounts` (no call
failed, and the servers executed each call once).
"""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from tests.e2e.control_planes import Served
from tests.e2e.processes import Process, until
from tests.servers.process import free_port

LEASE = 2  # seconds; the least that etcd grants
PATIENCE = 60.0  # seconds; several leases and backoffs on a busy machine
INSTANCES = "/meshsdk/instances/"
Truth = dict[str, str]  # address -> state
_Made = TypeVar("_Made")


class Server:
    """A server process. `address` is where it serves."""

    def __init__(self, kind: str, bootstrap: dict[str, Any]) -> None:
        self.process = _module("drilled_server", bootstrap, kind, str(LEASE))
        self.address = ""

    def wait(self) -> Server:
        """Waits until it serves."""
        self.address = self.process.line()
        return self


class Drill:
    """The processes of one drill. Owned by the test's thread.

    `url` is the registry's as servers and control planes know it, `truth` reads the registry with nothing of ours.
    """

    def __init__(self, stack: ExitStack, folder: Path, url: str, truth: Callable[[], Truth]) -> None:
        self.url = url
        self.truth = truth
        self.servers: list[Server] = []  # those that are to be registered, the oldest first
        self.clients: list[Process] = []
        self.planes: list[Served] = []
        self._stack = stack
        self._folder = folder
        self._started = 0
        self._drained: list[Server] = []
        self._executed = 0
        self._pool = stack.enter_context(ThreadPoolExecutor(8))

    # -- starting -----------------------------------------------------------------------------------------------------

    def start(self, *starts: Callable[[], _Made]) -> list[_Made]:
        """Runs all at once: most of a start is waiting for a process."""
        return [future.result() for future in [self._pool.submit(start) for start in starts]]

    def serve(self, count: int, url: str = "") -> list[Server]:
        """Starts servers, sync and aio in turn, and waits until they serve; they register when they can.

        `url`: of the registry, where it is another way to the same.
        """
        bootstrap = {"node": {"id": "server"}, "meshsdk": {"registries": {"default": {"url": url or self.url}}}}
        made = []
        for _ in range(count):
            self._started += 1
            made.append(Server("sync" if self._started % 2 else "aio", bootstrap))
            self._stack.enter_context(made[-1].process)
        self.servers += made
        return [server.wait() for server in made]

    def plane(self, *arguments: str, xds: str = "") -> Served:
        """Starts a control plane, at `xds` if it is one that was there before."""
        # A port that nobody is given by chance: while it is down, others must not listen there.
        address = xds or f"127.0.0.1:{free_port()}"
        return self._stack.enter_context(Served(self._folder, *arguments, xds=address))

    def direct(self, url: str = "", *, callers: Sequence[str] = ("sync=mesh:///orders", "aio=mesh:///orders")) -> None:
        """Starts a client that follows the registry itself."""
        section = {"registries": {"default": {"url": url or self.url}}}
        self._client({"node": {"id": "direct"}, "meshsdk": section}, callers)

    def through(self, *planes: Served, callers: Sequence[str] = ("sync=xds:///orders", "stock=xds:///orders")) -> None:
        """Starts a client of control planes that are one server with several addresses.

        A list of servers would not do: by gRFC A71 the second is asked only for what the first has never told.
        """
        name = f"ipv4:{','.join(plane.xds for plane in planes)}"
        servers = [{"server_uri": name, "channel_creds": [{"type": "insecure"}]}]
        self._client({"xds_servers": servers, "node": {"id": "through"}}, callers)

    def _client(self, bootstrap: dict[str, Any], callers: Sequence[str]) -> None:
        client = self._stack.enter_context(_module("drilled_client", bootstrap, *callers))
        assert client.line() == "ready"
        self.clients.append(client)

    # -- churn --------------------------------------------------------------------------------------------------------

    def drain(self, count: int = 1) -> None:
        """Has the oldest servers drain; they end by themselves (`check_truth` waits for that)."""
        for server in self.servers[:count]:
            os.kill(server.process.pid, signal.SIGTERM)
        self._drained += self.servers[:count]
        del self.servers[:count]

    def churn(self) -> None:
        """One comes, one goes: begun and not waited for, but that the new one serves."""
        self.serve(1)
        self.drain()

    # -- checking -----------------------------------------------------------------------------------------------------

    def reports(self, question: str = "?") -> dict[str, dict[str, Any]]:
        """Returns what each caller tells, by its name."""
        found: dict[str, dict[str, Any]] = {}
        for number, client in enumerate(self.clients):
            for name, report in json.loads(client.ask(question, PATIENCE)).items():
                found[f"{name} of client {number}"] = report
        return found

    def goes_on(self) -> None:
        """Waits until every caller has made many more calls; none has failed."""
        before = self.reports()
        until(
            lambda: all(report["made"] > before[name]["made"] + 200 for name, report in self.reports().items()),
            "calls go on",
            PATIENCE,
        )
        self.unharmed()

    def unharmed(self) -> None:
        """No call has failed."""
        failures = {name: report["failures"] for name, report in self.reports().items() if report["failures"]}
        assert not failures, json.dumps(failures, indent=1)

    def check_truth(self) -> None:
        """Waits until drained servers have ended, and registry and clients say the same: the servers that run."""
        for server in self._drained:
            self._executed += _ledger(server)
        self._drained.clear()
        expected = {server.address: "ONLINE" for server in self.servers}
        until(lambda: self.truth() == expected, f"the registry has {sorted(expected)}", PATIENCE)
        addresses = sorted(expected)

        def differing() -> dict[str, Any]:
            return {
                name: (report["endpoints"], report["answered"])
                for name, report in self.reports().items()
                if report["answered"] != addresses or report["endpoints"] not in (addresses, None)
            }

        until(lambda: _none(differing()), f"every client uses {addresses}", PATIENCE)
        self.unharmed()

    def check_accounts(self) -> None:
        """Ends the load and the servers: every call was executed, and none twice."""
        reports = self.reports("stop")
        self.unharmed()
        self.drain(len(self.servers))
        self._executed += sum(map(_ledger, self._drained))
        self._drained.clear()
        assert self._executed == sum(report["made"] for report in reports.values())


def _module(name: str, bootstrap: dict[str, Any], *arguments: str) -> Process:
    # As a module: beside a script, peers/envoy.py would hide the package of that name.
    environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)}
    return Process(sys.executable, "-m", f"tests.e2e.peers.{name}", *arguments, env=environment)


def _ledger(server: Server) -> int:
    """Waits until a server has drained; returns how many calls it executed, each of them once."""
    told = json.loads(server.process.line(PATIENCE))
    assert told["most"] <= 1
    until(lambda: not server.process.running, f"{server.address} ended")
    assert server.process.stop() == 0
    return int(told["calls"])


def _none(differing: dict[str, Any]) -> bool:
    assert not differing, differing
    return True


# -- independent readers ----------------------------------------------------------------------------------------------


def truth_of_etcd(address: str) -> Truth:
    """Returns what etcd holds."""
    return {entry["address"]: entry["state"] for entry in entries_of_etcd(address)}


def entries_of_etcd(address: str) -> list[dict[str, Any]]:
    """Returns the instances that etcd holds, as they are written there, by its HTTP gateway."""
    asked = {"key": base64.b64encode(INSTANCES.encode()), "range_end": base64.b64encode(INSTANCES[:-1].encode() + b"0")}
    body = json.dumps({name: value.decode() for name, value in asked.items()}).encode()
    with urllib.request.urlopen(f"http://{address}/v3/kv/range", body, timeout=5) as answer:
        found = json.load(answer).get("kvs", [])
    return [json.loads(base64.b64decode(entry["value"])) for entry in found]


def truth_of_zookeeper(address: str, chroot: str) -> Truth:
    """Returns what ZooKeeper holds, by kazoo alone."""
    client = KazooClient(f"{address}{chroot}")
    client.start(10)
    try:
        root = f"{INSTANCES}orders/-"
        return dict(_told(client.get(f"{root}/{name}")[0]) for name in client.get_children(root))
    except NoNodeError as error:
        raise AssertionError(f"it went while it was read: {error}") from None
    finally:
        client.stop()
        client.close()


def _told(text: bytes) -> tuple[str, str]:
    value = json.loads(text)
    return value["address"], value["state"]


@contextmanager
def frozen(*processes: Process) -> Iterator[None]:
    """Processes do nothing meanwhile; their connections stay open."""
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process.pid, signal.SIGCONT)
