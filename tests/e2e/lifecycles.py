"""Served processes whose lifecycle a test drives, with their registry. Used by the tests of `serve`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshsdk.discovery.memory import MemoryRegistry
from meshsdk.model.instance import Instance, InstanceState
from tests.contract.registration_server import RegistrationServer
from tests.e2e.control_planes import Served
from tests.e2e.processes import Process, until

SERVER = "tests.e2e.peers.lifecycle_server"  # as a module: a folder with an envoy.py must not be on its path


@dataclass
class Running:
    """One served process."""

    process: Process
    port: int
    health: str

    @property
    def address(self) -> str:
        """As peers dial it."""
        return f"127.0.0.1:{self.port}"

    def ended(self) -> int:
        """Waits until the process ends by itself; returns its exit code."""
        until(lambda: not self.process.running, "the process ended")
        return self.process.stop()

    def ledger(self) -> dict[str, int]:
        """What the process says of its calls on its way out."""
        return json.loads(self.process.line())


@dataclass
class Registered:
    """A registration service in the test's process, and the servers that register with it."""

    plane: RegistrationServer
    folder: Path
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def bootstrap(self) -> dict[str, Any]:
        """For those who register and those who call `mesh:///`."""
        registries = {"default": {"url": f"grpc://{self.plane.address}"}}
        return {"xds_servers": [], "node": {"id": "test"}, "meshsdk": {"registries": registries}}

    @property
    def environment(self) -> dict[str, str]:
        """Of the processes."""
        return {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(self.bootstrap), "MESHSDK_RUN_DIR": str(self.folder)}

    def start(self, *, wait: bool = True, environment: dict[str, str] | None = None, **setup: Any) -> Running:
        """Starts a server (see its DEFAULTS) and, with `wait`, waits until it is ONLINE."""
        env = {**self.environment, **(environment or {})}
        process = self._stack.enter_context(Process(sys.executable, "-m", SERVER, json.dumps(setup), env=env))
        port, health = process.line().split()
        running = Running(process, int(port), health)
        if wait:
            app = setup.get("app", "orders")
            until(lambda: self.state(running.address, app) is InstanceState.ONLINE, f"{running.address} is online")
        return running

    def control_plane(self, config: Path) -> Served:
        """Starts a real one, which outlives the servers started after it."""
        served = Served(config)
        self._stack.callback(served.process.stop)
        return served

    def found(self, address: str, app: str = "orders") -> list[Instance]:
        """What is registered at an address."""
        return [one for one in self.plane.registry.instances(app) if one.address == address]

    def state(self, address: str, app: str = "orders") -> InstanceState | None:
        """The state of the instance at an address; None if there is none."""
        found = self.found(address, app)
        return found[0].state if found else None


@contextmanager
def registered(folder: Path) -> Iterator[Registered]:
    """Runs the registry; processes started with it are ended with it. `folder`: short enough for Unix sockets."""
    server = RegistrationServer(MemoryRegistry())
    server.start()
    world = Registered(server, folder)
    try:
        with world._stack:
            yield world
    finally:
        server.stop()
