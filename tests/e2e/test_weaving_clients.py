"""`meshsdk run` around unchanged applications that call: which way their calls take, and that none is lost."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from envoy.service.runtime.v3 import rtds_pb2
from google.protobuf.message import Message

from tests.e2e.peers.plane import Plane
from tests.e2e.peers.resources import client_listener, cluster, endpoints, routes
from tests.e2e.processes import ROOT, Process, until

HOST = socket.gethostname().lower()  # the one name that every machine resolves to itself
SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
RUN = "import sys; from meshsdk.cli import main; sys.exit(main())"
KINDS = ("sync", "aio", "aio intercepted")


class Server:
    """A plain server that answers with its name, and keeps the id of every call it executed."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.executed: Counter[bytes] = Counter()
        self._lock = threading.Lock()
        handlers = {
            "unary_unary": grpc.unary_unary_rpc_method_handler(lambda request, _: self._note(request)),
            "unary_stream": grpc.unary_stream_rpc_method_handler(lambda request, _: iter([self._note(request)])),
            "stream_unary": grpc.stream_unary_rpc_method_handler(lambda requests, _: [*map(self._note, requests)][-1]),
            "stream_stream": grpc.stream_stream_rpc_method_handler(lambda requests, _: map(self._note, requests)),
        }
        self._server = grpc.server(futures.ThreadPoolExecutor(40))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", handlers),))
        self.port = self._server.add_insecure_port("[::]:0")
        self._server.start()

    def _note(self, request: bytes) -> bytes:
        with self._lock:
            self.executed[request] += 1
        return self.name

    def stop(self) -> None:
        """Stops at once."""
        self._server.stop(None).wait()


class Lab:
    """A control plane, a server that the mesh knows, and one that only the application's own target names."""

    def __init__(self) -> None:
        self.plane = Plane()
        self.plane.start()
        self.mesh, self.direct = Server("mesh"), Server("direct")
        self._running: list[Process] = []

    def service(self) -> tuple[Message, ...]:
        """What makes the host a service of the mesh."""
        return (
            cluster("c"),
            endpoints("c", [self.mesh.port]),
            client_listener(HOST, "r"),
            routes("r", {"c": 1}),
        )

    def switch(self, *, client: bool, server: bool = True, **more: Any) -> None:
        """Publishes the traffic switch."""
        layer = rtds_pb2.Runtime(name="meshsdk.traffic_switch")
        layer.layer.update({"client": client, "server": server, **more})
        self.plane.publish(layer)

    def start(self, *words: str, **environment: str) -> Process:
        """Starts a program under `meshsdk run`."""
        server = {"server_uri": f"127.0.0.1:{self.plane.port}", "channel_creds": [{"type": "insecure"}]}
        bootstrap = {"xds_servers": [server], "node": {"id": "app"}}
        variables = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap), **environment}
        process = Process(sys.executable, "-c", RUN, "run", *words, env=variables)
        self._running.append(process)
        return process

    def run(self, kind: str, **environment: str) -> Process:
        """Starts an application under `meshsdk run`, and takes its first line."""
        program, *rest = kind.split()
        process = self.start(
            f"tests/e2e/unwoven/client_{program}.py", f"{HOST}:{self.direct.port}", *rest, **environment
        )
        said = json.loads(process.line())
        assert said["name"] == "__main__"
        assert not [name for name in said["threads"] if name.startswith("meshsdk")], "threads before the first call"
        return process

    def close(self) -> None:
        """Stops everything."""
        for process in self._running:
            process.stop()
        self.plane.stop()
        self.mesh.stop()
        self.direct.stop()


@pytest.fixture
def lab() -> Iterator[Lab]:
    """The lab, running, with the host as a service of the mesh."""
    made = Lab()
    made.plane.publish(*made.service())
    yield made
    made.close()


def ask(process: Process, words: str) -> Any:
    """Gives a command to the application."""
    return json.loads(process.ask(words))


def each(process: Process) -> set[str]:
    """Calls in each shape; returns who answered."""
    return {who for answers in ask(process, "each").values() for who in answers}


def meshed(process: Process) -> None:
    """Waits until calls take the mesh: on a busy machine the first may not wait for its configuration long enough."""
    until(lambda: each(process) == {"mesh"}, "calls take the mesh")


@pytest.mark.parametrize("kind", KINDS)
def test_calls_to_a_known_host_take_the_mesh(lab, kind):
    """Channel made at import, an interceptor of its own: all four shapes reach what the mesh says, and it sees them."""
    process = lab.run(kind)
    meshed(process)
    seen, direct = ask(process, "seen"), lab.direct.executed.total()
    assert each(process) == {"mesh"}
    assert ask(process, "seen") - seen == {"sync": 4, "aio": 0, "aio intercepted": 1}[kind]
    assert lab.direct.executed.total() == direct


@pytest.mark.parametrize("kind", KINDS)
def test_switching_under_load_loses_and_doubles_nothing(lab, kind):
    """Twenty turns of the switch while calls of all shapes run: none fails, none is executed twice."""
    lab.switch(client=True)
    process = lab.run(kind)
    meshed(process)
    before_load = (lab.mesh.executed + lab.direct.executed).total()
    ask(process, "load 8")
    for turn in range(20):
        on = bool(turn % 2)
        server = lab.mesh if on else lab.direct
        before = sum(server.executed.values())
        lab.switch(client=on)
        until(lambda server=server, before=before: sum(server.executed.values()) > before + 20, f"turn {turn} is taken")
    told = ask(process, "rest")
    assert told["failed"] == []
    executed = lab.mesh.executed + lab.direct.executed
    assert set(executed.values()) == {1}
    assert sum(told["who"].values()) == executed.total() - before_load


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_finishes_on_the_way_it_began(lab, kind):
    """A stream that runs as the switch turns goes on where it is, there and back; new calls go the other way."""
    process = lab.run(kind)
    meshed(process)
    ask(process, "stream")
    assert ask(process, "next") == "mesh"
    lab.switch(client=False)
    until(lambda: each(process) == {"direct"}, "new calls go direct")
    assert ask(process, "next") == "mesh"
    assert ask(process, "end") == []
    ask(process, "stream")
    assert ask(process, "next") == "direct"
    lab.switch(client=True)
    until(lambda: each(process) == {"mesh"}, "new calls take the mesh")
    assert ask(process, "next") == "direct"
    assert ask(process, "end") == []


def test_without_a_control_plane_calls_take_the_direct_path(lab):
    """Nothing answers where the bootstrap points to: calls go direct, one line says so; once it answers, the mesh."""
    lab.plane.stop()
    process = lab.run("sync")
    assert each(process) == {"direct"}
    assert each(process) == {"direct"}
    assert process.errors.count("calls take the direct path") == 1
    lab.plane.start()
    until(lambda: each(process) == {"mesh"}, "the mesh is used")


@pytest.mark.parametrize("kind", KINDS)
def test_a_host_that_is_no_service_is_called_directly_until_it_becomes_one(lab, kind):
    """The control plane does not know the host: no fallback is reported; when it does know it, calls take the mesh."""
    lab.plane.withdraw(*lab.service())
    process = lab.run(kind)
    assert each(process) == {"direct"}
    assert "direct path: listener" not in process.errors
    lab.plane.publish(*lab.service())
    until(lambda: each(process) == {"mesh"}, "the mesh is used")
    lab.plane.withdraw(*lab.service())
    until(lambda: each(process) == {"mesh"}, "a configuration that was taken back is kept (gRFC A88)")


def test_a_process_started_off_is_off_until_the_control_plane_decides_otherwise(lab):
    """MESHSDK_INTERCEPT=off holds against the control plane's default, not against its decision."""
    lab.switch(client=True)
    process = lab.run("sync", MESHSDK_INTERCEPT="off")
    assert each(process) == {"direct"}
    lab.switch(client=True, decided=["client"])
    until(lambda: each(process) == {"mesh"}, "it is on")


def test_channels_that_no_service_can_match_are_the_very_ones_of_grpcio(lab, tmp_path):
    """Addresses, local hosts, other schemes: what the program gets is what grpc would have given it."""
    program = tmp_path / "types.py"
    program.write_text(
        "import grpc\n"
        "def kind(channel): return type(channel).__module__.split('.')[0]\n"
        "plain = ['127.0.0.1:1', 'unix:/x', 'localhost:1', 'ipv4:127.0.0.1:1', '[::1]:1', 'dns://1.2.3.4/orders']\n"
        "print({kind(grpc.insecure_channel(target)) for target in plain}, kind(grpc.insecure_channel('orders:1')))\n"
        "print(kind(grpc.secure_channel('orders', grpc.ssl_channel_credentials())))\n"
    )
    process = lab.start(str(program))
    assert process.line() == "{'grpc'} meshsdk"
    assert process.line() == "meshsdk"


def test_the_program_runs_as_python_would_run_it(lab, tmp_path):
    """Arguments, standard input, exit code, another sitecustomize, and a Python program that it starts."""
    (tmp_path / "sitecustomize.py").write_text("import builtins\nbuiltins.custom = 'customised'\n")
    (tmp_path / "program.py").write_text(
        "import subprocess, sys, grpc\n"
        "print(__name__, __file__ == sys.argv[0], sys.argv[1:], input(), custom, flush=True)\n"
        "code = 'import grpc; print(type(grpc.insecure_channel(\"orders:1\")).__name__)'\n"
        "print(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip())\n"
        "sys.exit(3)\n"
    )
    place = f"{tmp_path}:{ROOT}"
    process = lab.start("--", sys.executable, str(tmp_path / "program.py"), "-m", "--x", PYTHONPATH=place)
    assert process.ask("typed") == "__main__ True ['-m', '--x'] typed customised"
    assert process.line() == "WovenChannel"
    until(lambda: not process.running, "it ends")
    assert process.stop() == 3


def test_a_program_without_grpc_pays_for_a_finder_only(lab, tmp_path):
    """Nothing is imported for the mesh before grpc is; looking for grpc is no import; its module is as ever."""
    program = tmp_path / "late.py"
    program.write_text(
        "import importlib.util, sys\n"
        "def present(): return sorted({'wrapt', 'meshsdk', 'grpc'} & sys.modules.keys())\n"
        "def ours(): return [one for one in sys.meta_path if type(one).__module__ == 'sitecustomize']\n"
        "print(present(), importlib.util.find_spec('grpc').name, len(ours()), flush=True)\n"
        "import grpc\n"
        "print(type(grpc.insecure_channel('orders:1')).__name__, len(ours()))\n"
        "print(type(grpc.__loader__).__name__, grpc.__spec__.loader is grpc.__loader__)\n"
    )
    process = lab.start(str(program))
    assert process.line() == "[] grpc 1"
    assert process.line() == "WovenChannel 0"
    assert process.line() == "SourceFileLoader True"


def test_a_forked_child_has_ways_of_its_own(lab, tmp_path):
    """A channel made at import is called, then called in a child and in the parent: both take the mesh."""
    program = tmp_path / "forking.py"
    program.write_text(
        "import os, sys, grpc\n"
        "stub = grpc.insecure_channel(sys.argv[1]).unary_unary('/shop.Orders/unary_unary')\n"
        "def call(words):\n"
        "    while stub(words, timeout=20) != b'mesh': pass\n"  # the first may not wait long enough: see meshed
        "    print(words.decode(), flush=True)\n"
        "call(b'before')\n"
        "if (child := os.fork()) == 0:\n"
        "    call(b'child')\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "call(b'after')\n"
    )
    process = lab.start(str(program), f"{HOST}:{lab.direct.port}")
    assert [process.line() for _ in range(3)] == ["before", "child", "after"]
