"""Two versions of a Node.js service and a Node.js client, each behind a shim: routed by a header, called from Python.

Run as the README beside this file says. Prints what the clients saw, as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import meshsdk.testing
from examples import orders_pb2, orders_pb2_grpc
from meshsdk.testing import ControlPlane

HERE = Path(__file__).parent
NODE = os.environ.get("NODE") or shutil.which("node") or "node"
CONFIGURATION = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: orders}
spec:
  hosts: [orders]
  ports: [{number: 50051, name: grpc, protocol: GRPC}]
  resolution: STATIC
  workloadSelector: {labels: {app: orders}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders}
spec:
  host: orders
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
  - match: [{headers: {tier: {exact: gold}}}]
    route: [{destination: {host: orders, subset: v2}}]
  - route: [{destination: {host: orders, subset: v1}}]
"""


def free_port() -> int:
    """Returns a port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def process(*command: str, **environment: str) -> Iterator[str]:
    """Runs a program until the end of the block; gives its first line, which says that it is ready."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        line = child.stdout.readline()
        if not line:
            raise RuntimeError(f"{command[0]} ended with exit code {child.wait()}")
        yield line
    finally:
        child.terminate()
        child.wait(30)
        child.stdout.close()


@contextmanager
def shim(plane: ControlPlane, app: str, *options: str) -> Iterator[None]:
    """Runs `meshsdk shim` for one application."""
    program = [sys.executable, "-c", "import sys; from meshsdk.cli import main; sys.exit(main())"]
    with tempfile.TemporaryDirectory(prefix="shim-") as folder:
        words = ["shim", "--app", app, "--folder", f"{folder}/run", *options]
        with process(*program, *words, GRPC_XDS_BOOTSTRAP_CONFIG=json.dumps(plane.bootstrap(app))):
            yield


def main() -> None:
    """Starts everything, calls, and prints the answers."""
    outbound = free_port()
    with meshsdk.testing.control_plane(CONFIGURATION) as plane, ExitStack() as stack:
        for name, version in (("node-1", "v1"), ("node-2", "v2")):
            application, inbound = free_port(), free_port()
            stack.enter_context(process(NODE, str(HERE / "server.js"), str(application), name, version))
            way = f"127.0.0.1:{inbound}=127.0.0.1:{application}"
            stack.enter_context(shim(plane, "orders", "--inbound", way, "--label", f"version={version}"))
        stack.enter_context(shim(plane, "web", "--outbound", f"127.0.0.1:{outbound}", "--target", "xds:///orders"))
        mesh = stack.enter_context(plane.mesh("batch"))
        stub = orders_pb2_grpc.OrdersStub(mesh.channel("xds:///orders"))
        answer = stub.Get(orders_pb2.GetRequest(order_id="7"), timeout=20, wait_for_ready=True)
        found = {"python": answer.served_by}
        for tier in ("", "gold"):
            command = [NODE, str(HERE / "client.js"), str(outbound), tier]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
            found[f"node {tier}".strip()] = json.loads(done.stdout)
        print(json.dumps(found))


if __name__ == "__main__":
    main()
