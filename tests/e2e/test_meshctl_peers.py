"""A real `meshctl serve` with Istio-style YAML, and every stock xDS client on it: what users start with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.peers.envoy import Envoy
from tests.e2e.peers.grpc_process import grpc_js, stock_grpcio
from tests.e2e.peers.scenarios import Peer, expect_answers
from tests.e2e.processes import entry_point

YAML = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: orders}}
spec:
  hosts: [orders]
  ports: [{{number: 50051, name: grpc, protocol: GRPC}}]
  resolution: STATIC
  endpoints:
  - {{address: 127.0.0.1, ports: {{grpc: {a}}}, labels: {{version: v1}}}}
  - {{address: 127.0.0.1, ports: {{grpc: {b}}}, labels: {{version: v2}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: orders}}
spec:
  host: orders
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: orders}}
spec:
  hosts: [orders]
  http:
  - route:
    - {{destination: {{host: orders, subset: v1}}, weight: {v1}}}
    - {{destination: {{host: orders, subset: v2}}, weight: {v2}}}
"""

Configure = Callable[[int, int], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `meshctl` finds its configuration."""
    return tmp_path_factory.mktemp("config")


@pytest.fixture(scope="module")
def configure(folder: Path, backends: dict[str, int]) -> Configure:
    """Writes the configuration with weights for v1 (backend a) and v2 (backend b)."""

    def write(v1: int, v2: int) -> None:
        unfinished = folder / ".orders.yaml.new"
        unfinished.write_text(YAML.format(**backends, v1=v1, v2=v2))
        unfinished.replace(folder / "orders.yaml")

    return write


@pytest.fixture(scope="module")
def xds_port(folder: Path, configure: Configure) -> Iterator[int]:
    """The xDS port of a `meshctl serve` process, ready."""
    configure(100, 0)
    arguments = ("serve", "--config", str(folder), "--xds", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    with entry_point("controlplane.cli:main", *arguments) as process:
        ready = process.line()
        ports = re.findall(r"127\.0\.0\.1:(\d+)", ready)
        assert ports, ready
        yield int(ports[0])


def start(kind: str, port: int, folder: Path) -> Peer:
    """Starts a foreign client of `kind` on the control plane."""
    if kind.startswith("envoy"):
        return Envoy(port, kind, folder, delta=kind == "envoy-delta", lds=False)
    if kind == "grpc-js":
        return grpc_js(port, kind)
    return stock_grpcio(kind.removeprefix("grpcio-"), port, kind)


@pytest.mark.parametrize(
    "kind",
    [
        "grpcio-sync",
        "grpcio-aio",
        pytest.param("grpc-js", marks=pytest.mark.node),
        pytest.param("envoy-sotw", marks=pytest.mark.envoy),
        pytest.param("envoy-delta", marks=pytest.mark.envoy),
    ],
)
def test_yaml_moves_calls(kind: str, xds_port: int, configure: Configure, tmp_path: Path) -> None:
    """A stock client follows a canary written in YAML: all on v1, then half and half, then all on v2."""
    configure(100, 0)
    peer = start(kind, xds_port, tmp_path)
    try:
        expect_answers(peer, "orders", "a")
        configure(50, 50)
        expect_answers(peer, "orders", "a", "b")
        configure(0, 100)
        expect_answers(peer, "orders", "b")
    finally:
        peer.stop()
