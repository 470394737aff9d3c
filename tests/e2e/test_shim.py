"""The shim as a process: a stock Envoy that routes and balances as the mesh says, fed and kept up by it."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from meshsdk import testing
from meshsdk.discovery.opening import open_registry
from meshsdk.model.instance import Instance, InstanceState
from meshsdk.shim.envoy.admin import EnvoyAdmin
from tests.e2e.processes import entry_point, until
from tests.e2e.shims import ShimProcess, free_ports

pytestmark = pytest.mark.envoy

_SERVICES = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: stock}
spec:
  hosts: [stock]
  ports: [{number: 50051, name: grpc, protocol: GRPC}]
  resolution: STATIC
  workloadSelector: {labels: {app: stock}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: stock}
spec:
  host: stock
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: stock}
spec:
  hosts: [stock]
  http:
  - match: [{headers: {tier: {exact: gold}}}]
    route: [{destination: {host: stock, subset: v2}}]
  - match: [{params: {"user.tier": {exact: gold}}}]
    route: [{destination: {host: stock, subset: v2}}]
  - route: [{destination: {host: stock, subset: v1}}]
"""


class Setting:
    """A control plane with a registry, and a caller's shim. Endpoints are registered from here."""

    def __init__(self, plane: testing.ControlPlane) -> None:
        self.plane = plane
        self.registry = open_registry(f"grpc://{plane.address}", "the test")
        self._leases = {}

    def bootstrap(self, app: str) -> dict:
        """Returns what a shim of `app` starts from: the control plane is its registry as well."""
        section = {"registries": {"default": {"url": f"grpc://{self.plane.address}"}}}
        return self.plane.bootstrap(app, section=section)

    def put(self, port: int, state: InstanceState = InstanceState.ONLINE, **labels: str) -> None:
        """Registers a backend."""
        instance = Instance("stock", str(port), f"127.0.0.1:{port}", labels=labels, state=state)
        self._leases[port] = self.registry.register(instance, 60)

    def take(self, port: int) -> None:
        """Takes one out."""
        self.registry.deregister(self._leases.pop(port))

    def clear(self) -> None:
        """Takes all out."""
        for port in list(self._leases):
            self.take(port)


@pytest.fixture(scope="module")
def setting() -> Iterator[Setting]:
    """One control plane for all."""
    with testing.control_plane(_SERVICES) as plane:
        made = Setting(plane)
        yield made
        made.registry.close()


@pytest.fixture(scope="module")
def caller(setting: Setting) -> Iterator[ShimProcess]:
    """The shim of an application that calls others."""
    targets = ["xds:///stock", "mesh:///direct", "xds:///nosuch"]
    with ShimProcess("web", setting.bootstrap("web"), targets=targets) as shim:
        yield shim


@pytest.fixture
def stock(setting: Setting, backends: dict[str, int]) -> Iterator[Setting]:
    """Backend `a` is version 1 and `b` version 2 of the service `stock`."""
    setting.put(backends["a"], version="v1")
    setting.put(backends["b"], version="v2")
    yield setting
    setting.clear()


def _answers(shim: ShimProcess, host: str, *metadata: tuple[str, str], count: int = 10) -> set[str]:
    return set(Counter(shim.call(host, *metadata) for _ in range(count)))


def test_routes_by_virtual_service(stock: Setting, caller: ShimProcess) -> None:
    """A VirtualService decides where a call goes, by its header, whatever port the application writes."""
    until(lambda: _answers(caller, "stock") == {"a"}, "version 1 for everyone")
    assert _answers(caller, "stock:50051") == {"a"}
    until(lambda: _answers(caller, "stock", ("tier", "gold")) == {"b"}, "version 2 for gold")


def test_says_what_it_cannot_do(caller: ShimProcess) -> None:
    """Targets that do not exist, hosts that are no target and routes that need message types are named."""
    assert "-> 2 targets, 1 of 3 targets not resolved: nosuch: " in caller.ready
    assert "has no listener 'nosuch'" in caller.call("nosuch")
    assert caller.call("other").startswith("UNAVAILABLE: meshsdk shim: this shim has no target of that name")
    problems = "\n".join(caller.status()["problems"])
    assert "nosuch" in problems
    assert "request fields" in problems


def _updates(admin: EnvoyAdmin) -> dict[str, int]:
    prefix = "cluster.stock|v1."
    return {name.removeprefix(prefix): value for name, value in admin.counters(prefix).items()}


def test_endpoints_one_by_one(setting: Setting, caller: ShimProcess, backends: dict[str, int]) -> None:
    """Endpoints that come, drain and go reach Envoy as single LEDS resources; its EDS resource does not change."""
    setting.put(backends["a"], version="v1")
    until(lambda: _answers(caller, "stock") == {"a"}, "the first endpoint")
    admin = caller.admin()
    before = _updates(admin)
    try:
        setting.put(backends["b"], version="v1")
        until(lambda: _answers(caller, "stock") == {"a", "b"}, "both")
        setting.put(backends["a"], InstanceState.DRAINING, version="v1")
        until(lambda: _answers(caller, "stock") == {"b"}, "the one that does not drain")
        until(lambda: f":{backends['a']}" not in admin.get("/clusters"), "Envoy to forget the endpoint that drains")
        after = _updates(admin)
        assert after["leds.update_success"] == before["leds.update_success"] + 2
        assert after["update_success"] == before["update_success"]
    finally:
        setting.clear()


_MOVES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: stock}}
spec:
  hosts: [stock]
  http:
  - route: [{{destination: {{host: stock, subset: {}}}}}]
"""


def test_routes_move_without_a_lost_call(backends: dict[str, int]) -> None:
    """Under load the route moves to a cluster that Envoy has never had, and back: no call fails in between."""
    with testing.control_plane(_SERVICES) as plane:
        here = Setting(plane)
        plane.apply(_MOVES.format("v1"))
        here.put(backends["a"], version="v1")
        here.put(backends["b"], version="v2")
        with ShimProcess("web", here.bootstrap("web"), targets=["xds:///stock"]) as shim:
            until(lambda: _answers(shim, "stock") == {"a"}, "version 1")
            seen: Counter[str] = Counter()
            over = threading.Event()

            def call() -> None:
                while not over.is_set():
                    seen[shim.call("stock")] += 1

            caller = threading.Thread(target=call)
            caller.start()
            try:
                for subset, name in [("v2", "b"), ("v1", "a")] * 3:
                    plane.apply(_MOVES.format(subset))
                    until(lambda name=name: _answers(shim, "stock", count=3) == {name}, f"version {subset}")
            finally:
                over.set()
                caller.join()
            assert set(seen) == {"a", "b"}
        here.registry.close()


def test_straight_from_the_registry(setting: Setting, caller: ShimProcess, backends: dict[str, int]) -> None:
    """A `mesh:` target takes its endpoints from the registry, and nothing of it from the control plane."""
    one, two = (Instance("direct", name, f"127.0.0.1:{backends[name]}") for name in ("a", "b"))
    leases = [setting.registry.register(one, 60)]
    until(lambda: _answers(caller, "direct") == {"a"}, "the registered instance")
    leases.append(setting.registry.register(two, 60))
    setting.registry.set_state(leases[0], InstanceState.DRAINING)
    until(lambda: _answers(caller, "direct") == {"b"}, "the other")
    for lease in leases:
        setting.registry.deregister(lease)


def test_a_killed_envoy_is_started_again(stock: Setting, caller: ShimProcess) -> None:
    """Envoy dies; another one serves the same on the same ports."""
    until(lambda: _answers(caller, "stock") == {"a"}, "version 1 for everyone")
    before = caller.status()["envoy"]["pid"]
    os.kill(before, signal.SIGKILL)
    until(lambda: caller.status()["envoy"]["pid"] != before and caller.status()["envoy"]["ready"], "another Envoy")
    until(lambda: _answers(caller, "stock") == {"a"}, "calls as before")


def test_an_unreachable_endpoint_costs_no_call(stock: Setting, caller: ShimProcess, backends: dict[str, int]) -> None:
    """A request that could not leave the machine goes to another endpoint."""
    closed = free_ports(1)[0]
    stock.put(closed, version="v1")
    until(lambda: f":{closed}" in caller.admin().get("/clusters"), "the dead endpoint to reach Envoy")
    assert _answers(caller, "stock", count=30) == {"a"}


def test_the_application_is_registered_while_it_is_well(setting: Setting) -> None:
    """The application's instance is ONLINE when its probe succeeds, OFFLINE while not, and gone after the end."""
    port = free_ports(1)[0]
    seen: dict[str, Instance] = {}

    def follow(increment) -> None:
        for gone in increment.removed:
            seen.pop(gone, None)
        seen.update({one.id: one for one in increment.put})

    watch = setting.registry.watch("ledger", "", follow)
    with ShimProcess("ledger", setting.bootstrap("ledger"), "--health", "tcp", application=port) as shim:
        until(lambda: [one.state for one in seen.values()] == [InstanceState.OFFLINE], "an instance that is not well")
        server = grpc.server(None)
        server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        until(lambda: [one.state for one in seen.values()] == [InstanceState.ONLINE], "the instance to be well")
        assert [one.address for one in seen.values()] == [f"127.0.0.1:{shim.inbound}"]
        assert shim.status()["application"]["state"] == "ONLINE"
        until(lambda: _enrolled(setting, "ledger"), "the shim itself to be registered")
        server.stop(0)
        assert shim.stop() == 0
    until(lambda: not seen, "the instance to be gone")
    watch.cancel()


def test_without_the_control_plane(backends: dict[str, int]) -> None:
    """The control plane goes away, and then Envoy dies: calls go where they went before."""
    with testing.control_plane(_SERVICES) as plane:
        here = Setting(plane)
        here.put(backends["a"], version="v1")
        with ShimProcess("web", here.bootstrap("web"), targets=["xds:///stock"]) as shim:
            until(lambda: _answers(shim, "stock") == {"a"}, "version 1 for everyone")
            here.registry.close()
            plane.stop()
            assert _answers(shim, "stock") == {"a"}
            before = shim.status()["envoy"]["pid"]
            os.kill(before, signal.SIGKILL)
            until(lambda: shim.status()["envoy"]["pid"] != before and shim.status()["envoy"]["ready"], "another Envoy")
            until(lambda: _answers(shim, "stock") == {"a"}, "calls as before")


def test_a_killed_shim_leaves_nothing_in_the_way(setting: Setting) -> None:
    """The shim is killed: the next one in its folder ends the Envoy that was left behind, and takes over its ports."""
    with ShimProcess("web", setting.bootstrap("web"), targets=["xds:///stock"]) as shim:
        envoy = shim.status()["envoy"]["pid"]
        os.kill(shim.process.pid, signal.SIGKILL)
        again = ["--folder", str(shim.folder), "--outbound", f"127.0.0.1:{shim.outbound}", "--target=xds:///stock"]
        environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(setting.bootstrap("web"))}
        with entry_point("meshsdk.cli:main", "shim", "--app", "web", *again, env=environment) as second:
            assert "ready with Envoy" in second.line()
            assert not _runs(envoy)
            assert shim.call("stock").startswith("UNAVAILABLE")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_one_shim_in_a_folder(setting: Setting, caller: ShimProcess) -> None:
    """A second shim in the same folder is refused."""
    options = ["--app", "web", "--folder", str(caller.folder), "--outbound", "127.0.0.1:1", "--target=xds:///stock"]
    environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(setting.bootstrap("web"))}
    with entry_point("meshsdk.cli:main", "shim", *options, env=environment) as second:
        until(lambda: not second.running, "the end")
        assert "a shim is running in" in until(lambda: second.errors, "an error")


def _enrolled(setting: Setting, app: str) -> bool:
    """Whether a shim of the application says which Envoy it runs."""
    found: list[Instance] = []
    watch = setting.registry.watch("meshsdk.shim", "", lambda increment: found.extend(increment.put))
    try:
        mine = until(lambda: [one for one in found if one.labels.get("meshsdk.io/app") == app], "any", 2)
    finally:
        watch.cancel()
    return mine[-1].labels["meshsdk.io/version"].startswith("1.") and mine[-1].labels["meshsdk.io/phase"] == "running"


def _fails(setting: Setting, port: int, *options: str) -> str:
    """Starts a shim that cannot start; returns the last line of its errors."""
    environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(setting.bootstrap("web2"))}
    with tempfile.TemporaryDirectory(prefix="shim-") as folder:
        words = ["--app=web2", f"--folder={folder}/run", f"--outbound=127.0.0.1:{port}", "--target=xds:///stock"]
        with entry_point("meshsdk.cli:main", "shim", *words, *options, env=environment) as process:
            until(lambda: not process.running, "the shim to give up")
            assert process.stop() == 1
            return process.errors.splitlines()[-1]


def test_what_is_no_envoy_is_one_line(setting: Setting) -> None:
    """A program that is no Envoy: exit code 1 and one line that says so."""
    words = _fails(setting, free_ports(1)[0], "--envoy", "/bin/false")
    assert words.startswith("meshsdk shim: ")
    assert "false" in words


def test_a_port_that_is_taken_is_one_line(setting: Setting, backends: dict[str, int]) -> None:
    """A listener's port is another program's: exit code 1 and one line that names the port."""
    words = _fails(setting, backends["a"])
    assert words == f"meshsdk shim: --outbound: cannot listen on 127.0.0.1:{backends['a']}: Address already in use"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--app", "x"], "neither --inbound nor --outbound"),
        (["--app", "x", "--outbound", "10.0.0.1:99", "--target", "xds:///a"], "for this machine only"),
        (["--outbound", "127.0.0.1:99"], "--app is missing"),
        (["--app", "x", "--inbound", "127.0.0.1:99"], "write LISTEN=TARGET"),
    ],
)
def test_wrong_words(options: list[str], words: str) -> None:
    """A mistake on the command line is one line and exit code 2."""
    with entry_point("meshsdk.cli:main", "shim", *options) as process:
        until(lambda: not process.running, "the end")
        assert words in until(lambda: process.errors, "an error")
        assert len(process.errors.splitlines()) == 1
        assert process.stop() == 2
