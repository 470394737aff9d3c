"""Nacos as a child process, on loopback ports that are free at first: the real server, or the fake of its protocol.

`make test` uses the fake (`nacos_fake.py`), `make test-peers` the real one (scripts/peers.sh: from Maven Central).
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

from meshsdk.discovery.nacos import NacosRegistry, open_url
from meshsdk.errors import RegistryError
from tests.e2e.processes import ROOT
from tests.servers.process import ServerProcess, free_port, is_free

_PEER = ROOT / ".cache" / "peers" / "nacos"


class NacosServer(ServerProcess):
    """`port` is of HTTP; gRPC is 1000 above it. Configurations survive a restart, registrations do not."""

    kind = "Nacos"

    def __init__(self) -> None:
        super().__init__(_free_ports())

    def open(self, parameters: str = "") -> NacosRegistry:
        """Returns a client."""
        return open_url(urlsplit(f"nacos://{self.address}?{parameters}"))

    def _answers(self) -> bool:
        registry = self.open("timeout=1")
        try:
            return not registry.map_service("none")
        except RegistryError as error:
            raise AssertionError(str(error)) from None
        finally:
            registry.close()


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
        port = free_port()
        if all(is_free(port + offset) for offset in (-1000, 1000, 1001)):
            return port
