"""`meshsdk shim` as a process, in a folder and on ports of its own. Used by tests of the shim and of its upgrades."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from meshsdk.shim.control import ask
from meshsdk.shim.envoy.admin import EnvoyAdmin
from tests.e2e.processes import Process, entry_point


def free_ports(count: int) -> list[int]:
    """Returns ports of loopback that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class ShimProcess:
    """One shim, `ready` when made unless it cannot be. A context manager that stops it."""

    def __init__(
        self,
        app: str,
        bootstrap: Mapping[str, Any],
        *options: str,
        application: int = 0,
        targets: Sequence[str] = (),
        wait: bool = True,
    ) -> None:
        """`application`: the port of an application behind an inbound listener; `targets`: of an outbound one."""
        self.folder = Path(tempfile.mkdtemp(prefix="shim-"))  # pytest's own are too long for a Unix socket
        self.inbound, self.outbound = free_ports(2)
        words = ["--app", app, "--folder", str(self.folder), *options]
        if application:
            words += ["--inbound", f"127.0.0.1:{self.inbound}=127.0.0.1:{application}"]
        if targets:
            words += ["--outbound", f"127.0.0.1:{self.outbound}", *(f"--target={one}" for one in targets)]
        environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)}
        self.process: Process = entry_point("meshsdk.cli:main", "shim", "run", *words, env=environment)
        self._channels: dict[str, grpc.Channel] = {}
        self.ready = ""
        if wait:
            try:
                self.ready = self.process.line()
            except AssertionError:
                self.stop()
                raise

    def status(self) -> Mapping[str, Any]:
        """Returns what the shim says of itself."""
        return ask(self.folder / "control.sock", "status", 10)

    def admin(self) -> EnvoyAdmin:
        """Returns the admin interface of the Envoy that serves."""
        return EnvoyAdmin(self.folder / f"admin-{self.status()['envoy']['epoch']}.sock")

    def call(self, host: str, *metadata: tuple[str, str], timeout: float = 5.0) -> str:
        """Calls `host` through the outbound listener, as the application would; returns the answer, or the error."""
        if host not in self._channels:
            options = [("grpc.default_authority", host)]
            self._channels[host] = grpc.insecure_channel(f"127.0.0.1:{self.outbound}", options)
        try:
            return self._channels[host].unary_unary("/test.Echo/Say")(b"", timeout, metadata).decode()
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"

    def stop(self, seconds: float = 25.0) -> int:
        """Ends it as an orchestrator does, and returns its exit code."""
        for channel in self._channels.values():
            channel.close()
        code = self.process.stop(seconds)
        shutil.rmtree(self.folder, ignore_errors=True)
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
