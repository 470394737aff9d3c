"""The control plane's registration service as a registry: over a small server of the tests, made from the proto."""

from __future__ import annotations

import threading
from types import MappingProxyType

import grpc

from meshsdk.discovery.controlplane import ControlPlaneRegistry
from meshsdk.discovery.memory import MemoryRegistry
from tests.contract.registration_server import RegistrationServer
from tests.contract.registries.lab import Feature, Lab
from tests.contract.registries.lab_memory import Clock

_OPTIONS = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50))


class TheLab(Lab):
    """A server for each test: it lives in this process and starts at once. Its truth outlives `stop_server`."""

    name = "controlplane"
    ttl = 15.0
    lacking = MappingProxyType(
        {
            Feature.FREEZE: "the server is a part of this process",
            Feature.COMPACT: "the service has no past: a watch that broke begins with a listing",
            Feature.RAW: "the service refuses what cannot be used when it is registered",
        }
    )

    def __init__(self, server: None) -> None:
        super().__init__(server)
        self.clock = Clock()
        self._truth = MemoryRegistry(self.clock)
        self._service = RegistrationServer(self._truth)
        self._service.start()

    @property
    def address(self) -> str:
        """The server's."""
        return self._service.address

    def threads(self) -> int:
        """Leaves out the server's pool."""
        return sum("ThreadPoolExecutor" not in thread.name for thread in threading.enumerate())

    def connect(self) -> ControlPlaneRegistry:
        """Returns a client with a channel of its own."""
        return ControlPlaneRegistry(grpc.insecure_channel(self._service.address, _OPTIONS), self._service.address)

    def close(self) -> None:
        """Closes the clients, then the server."""
        super().close()
        self._service.stop()

    def elapse(self, seconds: float) -> None:
        """Moves the server's clock."""
        self.clock.now += seconds
        self._truth.expire()

    def stop_server(self) -> None:
        """Breaks all streams and serves no more."""
        self._service.stop()

    def start_server(self) -> None:
        """Serves again on the same port."""
        self._service.start()
