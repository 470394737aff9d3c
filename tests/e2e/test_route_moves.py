"""Routes move and what they led to is removed by the same change: calls go on, whoever makes them, over all transports.

What a client follows by name it drops itself when it has what the new routes lead to; what is taken away before that
fails the calls that still go there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.server import stream
from controlplane.server.type_urls import CLUSTER, ENDPOINT, LISTENER, ROUTE
from tests.e2e.control_planes import Served
from tests.e2e.peers import resources
from tests.e2e.peers.keyed_process import KeyedClient, bootstrap
from tests.e2e.processes import python, until
from tests.e2e.xds_bench import Bench

RENAMES = 6
SUBSETS = """\
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders}
spec: {host: orders, subsets: [{name: %s, labels: {version: %s}}]}
"""


def entry(resolution: str, **ports: int) -> str:
    """The service, made of these servers, each of the version of its name."""
    listed = [
        f"  - {{address: 127.0.0.1, ports: {{grpc: {port}}}, labels: {{version: {name}}}}}"
        for name, port in ports.items()
    ]
    return "\n".join(
        [
            "apiVersion: networking.istio.io/v1",
            "kind: ServiceEntry",
            "metadata: {name: orders}",
            "spec:",
            "  hosts: [orders]",
            "  ports: [{number: 1, name: grpc}]",
            f"  resolution: {resolution}",
            "  endpoints:",
            *listed,
            "",
        ]
    )


def route(subset: str = "") -> str:
    """All calls go to a subset, or to the whole service."""
    destination = f"host: orders, subset: {subset}" if subset else "host: orders"
    return f"""\
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: orders}}
spec: {{hosts: [orders], http: [{{route: [{{destination: {{{destination}}}}}]}}]}}
"""


@pytest.fixture
def ports() -> Iterator[dict[str, int]]:
    """Two servers."""
    backend = python("tests/e2e/peers/backend.py", "a", "b")
    yield json.loads(backend.line())
    backend.stop()


@pytest.fixture
def served(tmp_path: Path, ports: dict[str, int]) -> Iterator[Served]:
    """A control plane whose file routes all calls to subset a."""
    (tmp_path / "orders.yaml").write_text(entry("STATIC", **ports) + SUBSETS % ("a", "a") + route("a"))
    with Served(tmp_path) as made:
        yield made


@pytest.fixture
def clients(served: Served) -> Iterator[list[KeyedClient]]:
    """Our SDK over both transports, on threads and on asyncio, and stock grpcio."""
    made = [
        KeyedClient(kind, flavour, node, {**bootstrap(served.xds, node), "meshsdk": {"transport": transport}})
        for kind, flavour, transport in [
            ("mesh", "sync", "delta"),
            ("mesh", "aio", "delta"),
            ("mesh", "sync", "sotw"),
            ("mesh", "aio", "sotw"),
            ("stock", "sync", "sotw"),
        ]
        for node in [f"{kind}-{flavour}-{transport}"]
    ]
    yield made
    for client in made:
        client.process.stop()


def test_calls_go_on_while_clusters_are_renamed(
    tmp_path: Path, ports: dict[str, int], clients: list[KeyedClient]
) -> None:
    """Under load a subset is renamed six times, routes and all, and then its host changes its kind to DNS and back."""
    both = entry("STATIC", **ports)
    steps = [(name, both + SUBSETS % (name, name) + route(name)) for name in ("b", "a") * (RENAMES // 2)]
    steps += [
        ("b", entry("STATIC", b=ports["b"]) + route()),
        ("a", entry("DNS", a=ports["a"]) + route()),
        ("b", entry("STATIC", b=ports["b"]) + route()),
    ]
    for client in clients:
        client.load("orders")
    for name, text in steps:
        (tmp_path / "orders.yaml").write_text(text)
        for client in clients:
            until(lambda: client.call("orders", count=1) == ({name: 1}, {}), f"{client.node} calls {name}")  # noqa: B023
    for client in clients:
        answers, errors = client.unload()
        assert not errors, client.node
        assert set(answers) == {"a", "b"}


def test_client_that_keeps_a_cluster_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that goes on naming a cluster which routes lead to no more hears that it is gone, after a while."""
    monkeypatch.setattr(stream, "LEAVE", 0.05)
    bench = Bench()
    try:
        bench.cache.set([resources.client_listener("s", "s"), resources.routes("s", {"a": 1})])
        bench.cache.set([resources.cluster("a"), resources.endpoints("a", [1])])
        bench.start()
        talk = bench.stream(delta=True)
        for type_url, name in ((LISTENER, "s"), (ROUTE, "s"), (CLUSTER, "a"), (ENDPOINT, "a")):
            talk.subscribe(type_url, name)
            talk.subscribe(type_url, response_nonce=talk.read().nonce)
        with bench.cache.batch():
            bench.cache.set([resources.routes("s", {"b": 1}), resources.cluster("b"), resources.endpoints("b", [1])])
            bench.cache.delete(CLUSTER, "a")
            bench.cache.delete(ENDPOINT, "a")
        moved = talk.read()
        assert (moved.type_url, list(moved.removed_resources)) == (ROUTE, [])
        talk.subscribe(ROUTE, response_nonce=moved.nonce)
        told = [talk.read(), talk.read()]
        assert [(each.type_url, list(each.removed_resources)) for each in told] == [(CLUSTER, ["a"]), (ENDPOINT, ["a"])]
    finally:
        bench.end()
