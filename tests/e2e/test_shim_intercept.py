"""Interception in network namespaces of the test's own: switched on and off under load, and nothing is left behind.

`app`: the application, its shim and its calls out. `far`: a control plane, other services and callers. A veth pair
joins them; the host's namespace is not touched.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from meshsdk.errors import MeshError
from meshsdk.shim.control import ask
from tests.e2e.processes import PATIENCE, Process, until

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.timeout(200),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may make network namespaces"),
]

_APP, _FAR = "10.77.0.1", "10.77.0.2"
_NOBODY = "65534"
_PEER = "tests/e2e/peers/across.py"
_PYTHON = [sys.executable, "-c"]
_CONFIGURATION = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: orders}}
spec:
  hosts: [orders]
  ports: [{{number: 50051, name: grpc, protocol: GRPC}}]
  resolution: STATIC
  endpoints: [{{address: {_FAR}, ports: {{grpc: 50052}}}}]
"""
_SWITCH = """
apiVersion: meshsdk.io/v1alpha1
kind: TrafficSwitch
metadata: {name: web-off}
spec: {app: web, client: "off", server: "off"}
"""


def run(*words: str) -> str:
    """Runs a command of the system."""
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=30).stdout


class Spaces:
    """Two namespaces that are joined. A context manager that ends what runs in them and removes them."""

    def __init__(self) -> None:
        self.app, self.far = f"msh{os.getpid()}a", f"msh{os.getpid()}b"

    def __enter__(self):
        for name in (self.app, self.far):
            run("ip", "netns", "add", name)
        run("ip", "-n", self.app, "link", "add", "v0", "type", "veth", "peer", "name", "v0", "netns", self.far)
        for name, address in ((self.app, _APP), (self.far, _FAR)):
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "v0")
            for link in ("lo", "v0"):
                run("ip", "-n", name, "link", "set", link, "up")
        return self

    def __exit__(self, *_):
        for name in (self.app, self.far):
            for pid in run("ip", "netns", "pids", name).split():
                os.kill(int(pid), signal.SIGKILL)
            run("ip", "netns", "del", name)

    def process(self, space: str, *words: str, env: dict[str, str] | None = None) -> Process:
        """Starts a program in one of them; it is waited for by its first line."""
        return Process("ip", "netns", "exec", space, *words, env=env)


def host_rules() -> str:
    """The rules of the host's namespace, by all ways."""
    return "".join(run(*words) for words in (("nft", "list", "ruleset"), ("iptables-legacy", "-t", "nat", "-S")))


def counted(spaces: Spaces) -> int:
    """How many redirects are in force in the application's namespace, by all ways."""
    inside = ("ip", "netns", "exec", spaces.app)
    nft = 0
    for table in run(*inside, "nft", "-a", "list", "tables", "inet").splitlines():
        listed = subprocess.run(
            (*inside, "nft", "list", *table.split()[:3]), capture_output=True, text=True, check=False, timeout=30
        )
        nft += listed.stdout.count(" redirect to ")  # it may have gone meanwhile
    found = [run(*inside, f"iptables{variant}", "-t", "nat", "-S") for variant in ("-nft", "-legacy")]
    return nft + sum(rules.count("REDIRECT --to-ports") for rules in found)


class Scene:
    """All that runs. `out`: the application's own calls to `orders`; `into`: calls from afar to the application."""

    def __init__(self, spaces: Spaces, folder: Path, stack: ExitStack) -> None:
        self.spaces = spaces
        self.folder = folder
        self.failed: list[str] = []  # calls, since a test emptied it
        self.configuration = folder / "config"
        self.configuration.mkdir()
        (self.configuration / "orders.yaml").write_text(_CONFIGURATION)
        code = "import sys; from controlplane.cli import main; sys.exit(main())"
        serve = ("serve", "--config", str(self.configuration), "--xds", f"{_FAR}:18000", "--admin", "127.0.0.1:0")
        enter = stack.enter_context
        self.plane = enter(spaces.process(spaces.far, *_PYTHON, code, *serve))
        peer = (sys.executable, _PEER)
        self.direct = enter(spaces.process(spaces.far, *peer, "serve", f"{_FAR}:50051", "direct"))
        self.meshed = enter(spaces.process(spaces.far, *peer, "serve", f"{_FAR}:50052", "meshed"))
        self.application = enter(spaces.process(spaces.app, *peer, "serve", "0.0.0.0:9000", "application"))
        for process in (self.plane, self.direct, self.meshed, self.application):
            process.line()
        self.shim = self.start_shim()
        stack.callback(lambda: self.shim.stop(25))
        out = ("--uid", _NOBODY, "call", f"{_FAR}:50051", "orders")
        self.out = enter(spaces.process(spaces.app, *peer, *out))
        self.into = enter(spaces.process(spaces.far, *peer, "call", f"{_APP}:9000", "application"))
        self.out.line(), self.into.line()

    def start_shim(self, *options: str, serves: bool = True) -> Process:
        """Starts the shim, in the application's namespace, and waits until it serves, or else has ended."""
        server = {"server_uri": f"{_FAR}:18000", "channel_creds": [{"type": "insecure"}]}
        registry = {"registries": {"default": {"url": f"grpc://{_FAR}:18000"}}}
        bootstrap = {"xds_servers": [server], "node": {"id": "web-1"}, "meshsdk": registry}
        words = ("shim", "--app", "web", "--folder", str(self.folder / "shim"), "--address", f"{_APP}:9000")
        words += ("--inbound", "0.0.0.0:15006=127.0.0.1:9000", "--outbound", "127.0.0.1:15001")
        words += ("--target", "xds:///orders", "--drain", "3")
        code = "import sys; from meshsdk.cli import main; sys.exit(main())"
        environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)}
        shim = self.spaces.process(self.spaces.app, *_PYTHON, code, *words, *options, env=environment)
        if serves:
            shim.line()
        else:
            until(lambda: not shim.running, "the shim to give up")
        return shim

    def intercept(self, turn: str, **more: Any) -> dict[str, Any]:
        """Asks the shim; raises MeshError with its words."""
        return dict(ask(self.folder / "shim" / "control.sock", "intercept", 60, turn=turn, **more))

    def answers(self) -> tuple[set[str], set[str]]:
        """Returns who answered since the last time: calls out, calls in; waits until there are both."""
        found: tuple[set[str], set[str]] = (set(), set())
        deadline = time.monotonic() + PATIENCE
        while not (found[0] and found[1]):
            assert time.monotonic() < deadline, f"calls are answered: {found}; {self.failed[-3:]}"
            for caller, seen in zip((self.out, self.into), found, strict=True):
                report = json.loads(caller.ask("report"))
                self.failed += report["failed"]
                seen.update(report["answers"])
        return found

    def expect(self, out: str, into: str) -> None:
        """Waits until all calls take these ways; meanwhile none fails."""
        seen: list[object] = []

        def settled() -> bool:
            seen.append(self.answers())
            return seen[-1] == ({out}, {into})

        try:
            until(settled, f"calls out answered by {out}, calls in by {into}")
        except AssertionError as error:
            raise AssertionError(f"{error}; {seen[-3:]}; {self.failed[-3:]}") from None
        assert self.failed == []


_DIRECT = (f"direct {_APP}", f"application {_FAR}")  # the caller is seen
_THROUGH = (f"meshed {_APP}", "application 127.0.0.1")  # Envoy is seen


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """Everything, started once; the host's rules are the same afterwards."""
    before = host_rules()
    folder = Path(tempfile.mkdtemp(prefix="msh-"))
    try:
        with Spaces() as spaces, ExitStack() as stack:
            yield Scene(spaces, folder, stack)
        assert host_rules() == before
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("way", ["nft", "iptables-nft", "iptables-legacy"])
def test_on_and_off_under_load(scene: Scene, way: str) -> None:
    """Calls in both directions take the way through Envoy and back to the direct one; none fails, none is doubled."""
    scene.expect(*_DIRECT)
    for _ in range(2):  # asked twice, it is the same
        told = scene.intercept("on", ports=[50051], way=way)
        assert (told["client"], told["server"], told["redirects"], told["way"]) == (True, True, 2, way)
        assert counted(scene.spaces) == 2
    scene.answers()
    until(lambda: _THROUGH[0] in scene.answers()[0], "a new connection through Envoy")
    until(lambda: _THROUGH[1] in scene.answers()[1], "a new connection from afar through Envoy")
    assert scene.intercept("off")["redirects"] == 0
    assert counted(scene.spaces) == 0
    scene.expect(*_DIRECT)
    for server in (scene.direct, scene.meshed, scene.application):
        assert json.loads(server.ask("report"))["doubled"] == []


def test_the_control_plane_switches(scene: Scene) -> None:
    """A TrafficSwitch turns off what `on` has set up, and without it interception is on again."""
    scene.intercept("on", ports=[50051], networks=["10.77.0.0/16"])
    file = scene.configuration / "switch.yaml"
    file.write_text(_SWITCH)
    try:
        until(lambda: counted(scene.spaces) == 0, "no redirects")
        scene.expect(*_DIRECT)
    finally:
        file.unlink()
    until(lambda: counted(scene.spaces) == 2, "redirects again")
    scene.intercept("off")


def test_a_shim_that_ends_leaves_no_rules(scene: Scene) -> None:
    """Killed, its rules go when the next one starts, and are back when one listens; ended, it takes them out first.

    Meanwhile what `offline` took offline is not brought back by interception.
    """
    control = scene.folder / "shim" / "control.sock"
    ask(control, "offline", 60)
    scene.intercept("on", ports=[50051])
    assert ask(control, "status", 10)["application"]["state"] == "OFFLINE"  # type: ignore[index]
    for pid in run("ip", "netns", "pids", scene.spaces.app).split():
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"meshsdk.cli" in command:
            os.kill(int(pid), signal.SIGKILL)
    until(lambda: not scene.shim.running, "the shim to be gone")
    scene.shim.stop()
    assert counted(scene.spaces) == 2
    assert scene.start_shim("--envoy", "/bin/false", serves=False).stop() == 1
    assert counted(scene.spaces) == 0
    scene.shim = scene.start_shim()
    assert scene.intercept("status")["redirects"] == 2
    assert scene.shim.stop(25) == 0
    assert counted(scene.spaces) == 0
    scene.shim = scene.start_shim()
    for caller in (scene.out, scene.into):
        caller.ask("report")  # calls failed while there was no shim
    scene.expect(*_DIRECT)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"ports": [70000]}, "from 1 to 65535"),
        ({"ports": [15001]}, "the shim's own outbound listener"),
        ({"ports": [50051], "networks": ["10.0.0.1/8"]}, "has host bits set"),
        ({"ports": [50051], "networks": ["fd00::/8"]}, "names no IPv4 network"),
        ({"ports": [50051], "way": "magic"}, "--way is one of"),
        ({"turn": "sideways"}, "say on, off or status"),
    ],
)
def test_what_cannot_be_intercepted(scene: Scene, asked: dict[str, Any], words: str) -> None:
    """One clear line, and nothing is intercepted."""
    with pytest.raises(MeshError, match=words):
        scene.intercept(**{"turn": "on", **asked})
    assert counted(scene.spaces) == 0
