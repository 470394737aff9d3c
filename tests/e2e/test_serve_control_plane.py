"""`serve` with the real control plane as its registry, and stock gRPC `xds:///` callers on the other end."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from meshsdk.discovery.controlplane import ControlPlaneRegistry
from meshsdk.model.instance import Instance, InstanceState
from tests.e2e.processes import Process, entry_point, python, until

SERVED = "tests/e2e/peers/served.py"


class Plane:
    """A `meshctl serve` without configuration: what registers is all there is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = 0
        self.start()

    def start(self) -> None:
        """Starts it, on the port of the first time."""
        arguments = ("--config", str(self._folder), "--xds", f"127.0.0.1:{self.port}", "--admin", "127.0.0.1:0")
        self.process = entry_point("controlplane.cli:main", "serve", *arguments)
        ready = self.process.line()
        self.port = int(re.findall(r"127\.0\.0\.1:(\d+)", ready)[0])

    @property
    def environment(self) -> dict[str, str]:
        """The bootstrap of its clients."""
        server = {"server_uri": f"127.0.0.1:{self.port}", "channel_creds": [{"type": "insecure"}]}
        text = json.dumps({"xds_servers": [server], "node": {"id": "test"}})
        return {"GRPC_XDS_BOOTSTRAP_CONFIG": text}

    def instances(self) -> dict[str, Instance]:
        """What is registered as `orders`, by address, as a watcher is told."""
        told: list[Instance] = []
        seen: list[bool] = []
        registry = ControlPlaneRegistry(grpc.insecure_channel(f"127.0.0.1:{self.port}"), "test")
        registry.watch("orders", "", lambda increment: (told.extend(increment.put), seen.append(True)))
        until(lambda: seen, "the watch was answered")
        registry.close()
        return {instance.address: instance for instance in told}


@pytest.fixture
def plane(tmp_path) -> Iterator[Plane]:
    """The control plane, running."""
    started = Plane(tmp_path)
    yield started
    started.process.stop()


def served(plane: Plane, kind: str) -> tuple[Process, str]:
    """Starts a served process; returns it and its address once it is ONLINE."""
    process = python(SERVED, kind, "1.0", env=plane.environment)
    address = f"127.0.0.1:{process.line()}"
    until(lambda: online(plane, address), f"{address} is online")
    return process, address


def online(plane: Plane, address: str) -> bool:
    """Whether the control plane holds the address ONLINE."""
    instance = plane.instances().get(address)
    return instance is not None and instance.state is InstanceState.ONLINE


def test_a_rolling_restart_under_stock_callers_loses_no_call(plane):
    """An application that only registered is called by `xds:///orders`; its instances are replaced one by one."""
    target = ("xds:///orders", "/shop.Orders/Get")
    with ExitStack() as stack:

        def instance(kind: str) -> tuple[Process, str]:
            process, address = served(plane, kind)
            return stack.enter_context(process), address

        running = [instance("sync"), instance("aio")]
        load = stack.enter_context(python("tests/e2e/peers/xds_load.py", *target, env=plane.environment))
        assert load.line() == "ready"
        for kind, (old, address) in zip(("aio", "sync"), running, strict=True):
            instance(kind)
            os.kill(old.pid, signal.SIGTERM)
            old.line()
            assert address not in plane.instances()
            made = json.loads(load.ask("?"))["made"]
            until(lambda made=made: json.loads(load.ask("?"))["made"] > made + 100, "calls go on")
        assert json.loads(load.ask("?"))["failures"] == []


def test_a_control_plane_that_restarts_is_registered_with_again(plane):
    """The control plane is killed and comes back empty: the instance is there again, under the same id."""
    process, address = served(plane, "sync")
    with process:
        before = plane.instances()[address]
        os.kill(plane.process.pid, signal.SIGKILL)
        plane.process.stop()
        plane.start()
        until(lambda: online(plane, address), "registered again")
        assert plane.instances()[address].id == before.id
        registry = ControlPlaneRegistry(grpc.insecure_channel(f"127.0.0.1:{plane.port}"), "test")
        assert registry.map_service("shop.Orders") == ("orders",)
        found = registry.get_revision("orders", before.revision)
        assert [(method.name, dict(method.options)) for method in found.methods] == [
            ("/shop.Orders/Get", {"idempotent": True, "timeout": 2.0})
        ]
        registry.close()
