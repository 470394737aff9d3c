"""The control plane's registration service as a registry: the real one, with its instances in a SQLite file."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import MappingProxyType

from controlplane import embedded
from meshsdk.discovery.opening import open_registry
from meshsdk.discovery.registry import Registry
from tests.contract.registries.lab import Feature, Lab


class TheLab(Lab):
    """A control plane for each test: what registers there knows no prefix that would keep tests apart."""

    name = "embedded"
    ttl = 1.0
    lacking = MappingProxyType(
        {
            Feature.FREEZE: "the server is a part of this process; a frozen one is met in tests/e2e",
            Feature.COMPACT: "the service has no past: a watch that broke begins with a listing",
            Feature.RAW: "the service refuses what cannot be used when it is registered",
        }
    )

    def __init__(self, server: None) -> None:
        super().__init__(server)
        self._folder = Path(tempfile.mkdtemp(prefix="meshsdk-embedded-"))
        self._address = "127.0.0.1:0"
        self.start_server()

    @property
    def address(self) -> str:
        """The server's."""
        return self._address

    def connect(self) -> Registry:
        """Returns a client with a connection of its own."""
        return open_registry(f"grpc://{self.address}", "the suite")

    def close(self) -> None:
        """Closes the clients, then the server."""
        super().close()
        self.stop_server()
        shutil.rmtree(self._folder)

    def stop_server(self) -> None:
        """Stops it without grace; its file keeps what it knew."""
        self._plane.stop(0)

    def start_server(self) -> None:
        """Starts it on its file, and again on its port."""
        self._plane = embedded.start(xds=self._address, store=f"sqlite:{self._folder / 'store.db'}")
        self._address = self._plane.xds_address
