"""etcd: a real server (Debian etcd-server), a key prefix for each test."""

from __future__ import annotations

from meshsdk.discovery.entries import Layout
from meshsdk.discovery.etcd.client import EtcdClient
from meshsdk.discovery.etcd.place import Place
from meshsdk.discovery.opening import open_registry
from meshsdk.discovery.registry import Registry
from tests.contract.registries.lab import ServerLab
from tests.servers.etcd import EtcdServer


class TheLab(ServerLab):
    """Has every feature."""

    name = "etcd"
    ttl = 2.0  # etcd's least with its default election timeout

    @classmethod
    def launch(cls) -> EtcdServer:
        """Starts a server of one member."""
        return EtcdServer().start()

    def connect(self) -> Registry:
        """Returns a client with a connection of its own."""
        return open_registry(f"etcd://{self.server.address}?prefix=/{self.space}", "the suite")

    def compact(self) -> None:
        """Forgets everything but the present."""
        client = self._client()
        client.compact(client.put(f"/{self.space}/compacted", b"").revision)
        client.close()

    def put_raw(self, app: str, key_hint: str, value: bytes) -> None:
        """Writes a key among the instances of `app`."""
        client = self._client()
        client.put(self._raw_key(app, key_hint), value)
        client.close()

    def remove_raw(self, app: str, key_hint: str) -> None:
        """Removes that key."""
        client = self._client()
        client.delete(self._raw_key(app, key_hint))
        client.close()

    def _raw_key(self, app: str, key_hint: str) -> str:
        return f"{Layout(f'/{self.space}').instances(app)}-/{key_hint}"

    def _client(self) -> EtcdClient:
        return EtcdClient(Place((self.server.address,)))
