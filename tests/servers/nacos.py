"""Nacos as a child process, on loopback ports that are free at first: the real server, or the fake of its protocol.

`make test` uses the fake (`nacos_fake.py`), `make test-peers` the real one (scripts/peers.sh: from Maven Central).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from meshsdk.discovery.nacos import NacosRegistry, open_url
from meshsdk.errors import RegistryError
from tests.e2e.processes import ROOT, until

_PEER = ROOT / ".cache" / "peers" / "nacos"


class NacosServer:
    """`address` is `host:port` of HTTP, the same over restarts; gRPC is 1000 above it. Registrations do not survive."""

    patience = 30.0  # seconds for a start

    def __init__(self) -> None:
        """Starts it and waits until it serves."""
        self.folder = Path(tempfile.mkdtemp(prefix="meshsdk-nacos-"))
        self.port = _free_ports()
        self._child: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        """Where it is."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it on what it has stored, and waits until it serves; nothing to do where it runs."""
        if self._child is not None:
            return
        with (self.folder / "log").open("wb") as log:
            self._child = subprocess.Popen(
                self._command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            until(self._serves, "Nacos serves", self.patience)
        except AssertionError as error:
            log_end = (self.folder / "log").read_text(encoding="utf-8", errors="replace")[-2000:]
            self.close()
            raise AssertionError(f"{error}; its log ends with:\n{log_end}") from None

    def kill(self) -> None:
        """Ends it with SIGKILL; configurations stay, registrations do not."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()

    def freeze(self) -> None:
        """Stops its threads; connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undoes `freeze`."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends it and removes what it stored."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def open(self, parameters: str = "") -> NacosRegistry:
        """Returns a client."""
        return open_url(urlsplit(f"nacos://{self.address}?{parameters}"))

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _serves(self) -> bool:
        if self._child is None or self._child.poll() is not None:
            raise AssertionError("it ended")
        registry = self.open("timeout=1")
        try:
            return not registry.map_service("none")
        except RegistryError as error:
            raise AssertionError(str(error)) from None
        finally:
            registry.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            os.kill(self._child.pid, number)


class FakeNacos(NacosServer):
    """The fake."""

    def _command(self) -> list[str]:
        script = Path(__file__).with_name("nacos_fake.py")
        return [sys.executable, str(script), str(self.port), str(self.folder / "configurations")]


class RealNacos(NacosServer):
    """One server in standalone mode with its embedded database."""

    patience = 180.0

    def _command(self) -> list[str]:
        properties = {
            "nacos.standalone": "true",
            "nacos.home": str(self.folder),
            "user.home": str(self.folder),  # where it logs
            "nacos.inetutils.ip-address": "127.0.0.1",
            "server.address": "127.0.0.1",
            "server.port": str(self.port),
            "server.servlet.contextPath": "/nacos",
        }
        classpath = (_PEER / "classpath").read_text(encoding="utf-8").strip()
        options = [f"-D{name}={value}" for name, value in properties.items()]
        return ["java", "-Xmx400m", "-XX:TieredStopAtLevel=1", *options, "-cp", f"{_PEER}:{classpath}", "NacosServer"]


def _free_ports() -> int:
    """Returns a port that is free together with those that Nacos derives from it (-1000, +1000, +1001)."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1]) // 2 + 2000
        if all(_is_free(port + offset) for offset in (-1000, 0, 1000, 1001)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
