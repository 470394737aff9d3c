"""Calls of the SDK under a global rate limit: from YAML to a refused call, with real processes at both ends."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

import meshsdk
from tests.e2e.control_planes import Served
from tests.e2e.processes import PATIENCE, Process, until
from tests.servers.process import free_port

SERVICE = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}]
  ports: [{{number: {port}, name: grpc, protocol: GRPC}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
---
"""
POLICY = """\
apiVersion: meshsdk.io/v1alpha1
kind: RateLimit
metadata: {{name: shop}}
spec:
  domain: shop
  descriptors:
  - key: user
    rateLimit: {{unit: day, requestsPerUnit: 3}}
---
apiVersion: meshsdk.io/v1alpha1
kind: CallPolicy
metadata: {{name: orders}}
spec:
  targetRef: {{kind: Service, name: orders}}
  rateLimit:
    domain: shop
    {where}
    timeout: 10s
    failureMode: {failure}
    status: RESOURCE_EXHAUSTED
    descriptors:
    - entries: [{{header: x-user, key: user}}]
"""


@dataclass(frozen=True)
class Shop:
    """A control plane that limits calls of `orders`, and what clients need to find it."""

    plane: Served
    bootstrap: dict


@pytest.fixture
def shop(
    request: pytest.FixtureRequest, backends: dict[str, int], tmp_path: Path
) -> Iterator[Callable[[str, str], Shop]]:
    """Starts one, which is asked by its `service` or its `address`, with a failure mode."""
    running: list[Served] = []

    def start(how: str, failure: str) -> Shop:
        port = free_port()
        where = "service: limits" if how == "service" else f"address: 127.0.0.1:{port}"
        entries = SERVICE.format(name="orders", port=backends["a"]) + SERVICE.format(name="limits", port=port)
        (tmp_path / "shop.yaml").write_text(entries + POLICY.format(where=where, failure=failure))
        running.append(Served(tmp_path, xds=f"127.0.0.1:{port}"))
        server = {"server_uri": running[-1].xds, "channel_creds": [{"type": "insecure"}]}
        return Shop(running[-1], {"xds_servers": [{**server, "server_features": ["xds_v3"]}], "node": {"id": "web"}})

    yield start
    for plane in running:
        plane.process.stop()


def calls(mesh: meshsdk.Mesh, facade: str, *users: str) -> list[str]:
    """Calls `orders` as these users, one after the other; returns how each call ended."""
    found: list[str] = []
    if facade == "sync":
        with mesh.channel("xds:///orders") as channel:
            method = channel.unary_unary("/test.Echo/Say")
            for user in users:
                try:
                    method(b"", timeout=PATIENCE, metadata=(("x-user", user),))
                    found.append("OK")
                except grpc.RpcError as error:
                    found.append(f"{error.code().name}: {error.details()}")
        return found

    async def call() -> None:
        async with mesh.aio_channel("xds:///orders") as channel:
            method = channel.unary_unary("/test.Echo/Say")
            for user in users:
                try:
                    await method(b"", timeout=PATIENCE, metadata=(("x-user", user),))
                    found.append("OK")
                except grpc.RpcError as error:
                    found.append(f"{error.code().name}: {error.details()}")

    asyncio.run(call())
    return found


REFUSED = "RESOURCE_EXHAUSTED: rate limit of shop: 3 per day for user"


@pytest.mark.parametrize("how", ["service", "address"])
def test_calls_are_refused(shop: Callable[[str, str], Shop], how: str):
    """Threads and asyncio spend one allowance; a call beyond it is refused in words, that of another user goes on."""
    with meshsdk.Mesh(shop(how, "DENY").bootstrap) as mesh:
        assert calls(mesh, "sync", "anna", "anna") == ["OK"] * 2
        assert calls(mesh, "aio", "anna", "anna", "bob") == ["OK", REFUSED, "OK"]
        assert calls(mesh, "sync", "anna", "bob") == [REFUSED, "OK"]


@pytest.mark.parametrize("failure", ["ALLOW", "DENY"])
def test_service_is_away(shop: Callable[[str, str], Shop], failure: str):
    """Without the service the failure mode decides: calls go on, or end UNAVAILABLE with its words."""
    shop_ = shop("address", failure)
    with meshsdk.Mesh(shop_.bootstrap) as mesh:
        assert calls(mesh, "sync", *["anna"] * 4) == [*["OK"] * 3, REFUSED]
        with mesh.channel("xds:///orders") as kept:
            kept.unary_unary("/test.Echo/Say")(b"", timeout=PATIENCE)  # from here on the configuration is in force
            shop_.plane.process.stop()
            ended = calls(mesh, "sync", "anna") + calls(mesh, "aio", "anna")
    if failure == "ALLOW":
        assert ended == ["OK"] * 2
    else:
        assert all(each.startswith("UNAVAILABLE: rate limit service 127.0.0.1:") for each in ended), ended


@pytest.mark.parametrize("how", ["service", "address"])
def test_fork(shop: Callable[[str, str], Shop], how: str):
    """A child of a process that asks asks on connections of its own: parent and child spend one allowance."""
    program = ("-m", "tests.e2e.peers.limited_forks")  # as a script it would find envoy.py beside it
    with Process(sys.executable, *program, json.dumps(shop(how, "DENY").bootstrap)) as process:
        assert [process.line() for _ in range(4)] == ["parent OK", "child OK", "parent OK", "parent RESOURCE_EXHAUSTED"]
        until(lambda: not process.running, "the parent to end")
        assert process.stop() == 0, process.errors
