"""`meshsdk run` around unchanged applications that serve: they register, and they go without losing a call."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from envoy.service.runtime.v3 import rtds_pb2

import meshsdk
from meshsdk.discovery.opening import open_registry
from meshsdk.model.instance import Instance, InstanceState
from tests.contract.registries.follower import Follower
from tests.e2e.peers.plane import Plane
from tests.e2e.processes import Process, until

RUN = "import sys; from meshsdk.cli import main; sys.exit(main())"
KINDS = ("sync", "aio")
SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Lab:
    """A registry in a file, a control plane that only switches, servers under `meshsdk run`."""

    def __init__(self, folder: Any) -> None:
        self.url = f"sqlite://{folder}/registry.db?poll=0.02"
        self.registry = open_registry(self.url, "the test")
        self.follower = Follower(self.registry, "orders")
        self.plane = Plane()
        self.plane.start()
        self._running: list[Process] = []

    @property
    def bootstrap(self) -> dict[str, Any]:
        """Of clients and servers."""
        server = {"server_uri": f"127.0.0.1:{self.plane.port}", "channel_creds": [{"type": "insecure"}]}
        registries = {"registries": {"default": {"url": self.url}}}
        return {"xds_servers": [server], "node": {"id": "n"}, "meshsdk": registries}

    def switch(self, **sides: bool) -> None:
        """Publishes the traffic switch."""
        layer = rtds_pb2.Runtime(name="meshsdk.traffic_switch")
        layer.layer.update({"client": True, "server": True, **sides})
        self.plane.publish(layer)

    def run(self, kind: str, how: str, **environment: str) -> Process:
        """Starts a server and waits until it is online, unless it is no application of the mesh."""
        process = Process(
            *(sys.executable, "-c", RUN, "run", f"tests/e2e/unwoven/server_{kind}.py", how),
            env={"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(self.bootstrap), "MESHSDK_APP": "orders", **environment},
        )
        self._running.append(process)
        process.port = process.line()
        if environment.get("MESHSDK_APP") != "":
            until(lambda: self.state(process) is InstanceState.ONLINE, "the server is online")
        return process

    def instance(self, process: Process) -> Instance | None:
        """What is registered for a server."""
        known = dict(self.follower.apps.get("orders", {}))
        return next((one for one in known.values() if one.address == f"127.0.0.1:{process.port}"), None)

    def state(self, process: Process) -> InstanceState | None:
        """Its state, None when it is not registered."""
        instance = self.instance(process)
        return None if instance is None else instance.state

    def close(self) -> None:
        """Stops everything."""
        for process in self._running:
            process.stop()
        self.plane.stop()
        self.registry.close()


@pytest.fixture
def lab(tmp_path) -> Iterator[Lab]:
    """The lab, running."""
    made = Lab(tmp_path)
    yield made
    made.close()


class Load:
    """Threads that call `orders` straight from the registry without pause, in all shapes."""

    def __init__(self, lab: Lab, threads: int = 8) -> None:
        self.failed: list[str] = []
        self.answered: Counter[str] = Counter()
        self._over = threading.Event()
        self._numbers = itertools.count()
        self._mesh = meshsdk.Mesh(lab.bootstrap)
        channel = self._mesh.channel("mesh:///orders")
        self._stubs = {shape: getattr(channel, shape)(f"/shop.Orders/{shape}") for shape in SHAPES}
        self._threads = [threading.Thread(target=self._run, args=(SHAPES[n % 4],)) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self, shape: str) -> None:
        while not self._over.is_set():
            request = f"{shape}-{next(self._numbers)}".encode()
            try:
                answer = self._stubs[shape](request if shape.startswith("unary") else iter([request]), timeout=20)
                self.answered.update(
                    [answer.decode()] if shape.endswith("_unary") else [one.decode() for one in answer]
                )
            except grpc.RpcError as error:
                self.failed.append(f"{shape}: {error.code()}: {error.details()}")

    def wait_for_more(self, calls: int = 50) -> None:
        """Waits until so many more calls were answered."""
        before = self.answered.total()
        until(lambda: self.answered.total() > before + calls, "calls go on")

    def stop(self) -> None:
        """Stops the threads."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._mesh.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def asked(process: Process, words: str) -> Any:
    """Gives a command to the application."""
    return json.loads(process.ask(words))


@pytest.mark.parametrize("kind", KINDS)
def test_sigterm_takes_an_unchanged_server_offline_before_it_ends_as_ever(lab, kind):
    """Replaced under load, with Python's own end at SIGTERM: no call is lost, and the exit code is the signal's."""
    old, new = lab.run(kind, "default"), lab.run(kind, "default")
    with Load(lab) as load:
        load.wait_for_more()
        os.kill(old.pid, signal.SIGTERM)
        until(lambda: not old.running, "the old one has ended")
        load.wait_for_more()
    assert load.failed == []
    assert max(load.answered.values()) == 1
    assert old.stop() == -signal.SIGTERM
    assert lab.state(old) is None
    assert asked(new, "seen") > 0


@pytest.mark.parametrize("how", ["handler", "late"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_of_the_application_runs_when_its_server_is_offline(lab, kind, how):
    """Set before the server's start or after it, it is called once the calls have gone, and decides the end."""
    old, _new = lab.run(kind, how), lab.run(kind, "default")
    with Load(lab) as load:
        load.wait_for_more()
        os.kill(old.pid, signal.SIGTERM)
        until(lambda: not old.running, "the old one has ended")
        load.wait_for_more()
    assert load.failed == []
    assert old.stop() == 7
    assert lab.state(old) is None


@pytest.mark.parametrize("kind", KINDS)
def test_stop_by_the_application_goes_offline_within_its_grace(lab, kind):
    """`server.stop(10)` under load: peers leave first, so that no call is lost."""
    old, _new = lab.run(kind, "stop"), lab.run(kind, "default")
    with Load(lab) as load:
        load.wait_for_more()
        assert asked(old, "stop 10") == "stopped"
        load.wait_for_more()
    assert load.failed == []
    until(lambda: lab.state(old) is None, "it is gone from the registry")


@pytest.mark.parametrize("kind", KINDS)
def test_interception_turns_off_and_on_while_the_server_runs(lab, kind):
    """Both turns go through the registry under load, with another instance to take the calls: none is lost."""
    lab.switch()
    turning, staying = lab.run(kind, "default"), lab.run(kind, "default", MESHSDK_INTERCEPT="off")
    assert lab.instance(staying).labels == {"meshsdk.io/interception": "off"}
    with Load(lab) as load:
        for server, labels in ((False, {"meshsdk.io/interception": "off"}), (True, {})):
            lab.switch(server=server)
            until(
                lambda labels=labels: (
                    lab.state(turning) is InstanceState.ONLINE and dict(lab.instance(turning).labels) == labels
                ),
                f"interception is {server}",
            )
            load.wait_for_more()
    assert load.failed == []
    assert max(load.answered.values()) == 1


def test_a_program_without_an_application_name_serves_as_ever(lab):
    """Nothing says which application it is: it is not registered, says so once, and runs."""
    process = lab.run("sync", "default", MESHSDK_APP="")
    with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
        assert channel.unary_unary("/shop.Orders/unary_unary")(b"x", timeout=20) == b"x"
    assert "MESHSDK_APP" in process.errors
    assert lab.instance(process) is None
    assert process.stop() == -signal.SIGTERM
