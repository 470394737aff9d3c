"""ZooKeeper: a real server (Debian's zookeeper), a chroot for each test."""

from __future__ import annotations

from typing import ClassVar

from kazoo.client import KazooClient

from meshsdk.discovery.entries import Layout
from meshsdk.discovery.opening import open_registry
from meshsdk.discovery.registry import Registry
from meshsdk.discovery.zookeeper.registry import ZooKeeperRegistry
from tests.contract.registries.lab import Feature, ServerLab
from tests.servers.zookeeper import ZooKeeperServer


class TheLab(ServerLab):
    """Sessions of 3 seconds: long enough for a busy machine, short enough to wait for."""

    name = "zookeeper"
    ttl = 3.0
    lacking: ClassVar = {
        Feature.COMPACT: "ZooKeeper keeps no past: a watcher that was away reads everything again",
    }

    @classmethod
    def launch(cls) -> ZooKeeperServer:
        """Starts a standalone server."""
        return ZooKeeperServer().start()

    def connect(self) -> Registry:
        """Returns a client with a session of its own."""
        parameters = f"session_timeout={self.ttl:g}&timeout=1.5"
        return open_registry(f"zookeeper://{self.server.address}/{self.space}?{parameters}", "the suite")

    def lapse(self, registry: Registry) -> None:
        """Ends the client's session under it: another connection takes it over and closes it."""
        assert isinstance(registry, ZooKeeperRegistry)
        with registry._session.asking("find the session of") as client:
            identity = client.client_id
        usurper = KazooClient(self.server.address, timeout=self.ttl, client_id=identity)
        usurper.start()
        usurper.stop()
        usurper.close()

    def put_raw(self, app: str, key_hint: str, value: bytes) -> None:
        """Makes a persistent node among the instances of `app`, or changes it."""
        path = self._raw_path(app, key_hint)
        with self._client() as client:
            if client.exists(path):
                client.set(path, value)
            else:
                client.create(path, value, makepath=True)

    def remove_raw(self, app: str, key_hint: str) -> None:
        """Deletes that node."""
        with self._client() as client:
            client.delete(self._raw_path(app, key_hint))

    def _raw_path(self, app: str, key_hint: str) -> str:
        return f"{Layout(f'/{self.space}/meshsdk').instances(app)}-/{key_hint}"

    def _client(self) -> _Visitor:
        return _Visitor(self.server.address)


class _Visitor:
    """A plain kazoo client as a context manager."""

    def __init__(self, address: str) -> None:
        self._client = KazooClient(address)

    def __enter__(self) -> KazooClient:
        self._client.start()
        return self._client

    def __exit__(self, *_: object) -> None:
        self._client.stop()
        self._client.close()
