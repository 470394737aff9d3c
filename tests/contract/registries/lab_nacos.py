"""Nacos: a fake of its protocol (tests/servers/nacos_fake.py), a namespace for each test.

`make test-peers` runs the same suite against the real server (`lab_nacos_server.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

from meshsdk.discovery.nacos import NacosRegistry
from meshsdk.discovery.opening import open_registry
from meshsdk.discovery.registry import Lease, Registry
from meshsdk.model.instance import Instance
from tests.contract.registries.lab import Feature, ServerLab
from tests.e2e.processes import until
from tests.servers.nacos import FakeNacos, NacosServer


class TheLab(ServerLab):
    """A registration lapses with its connection and not with time: `elapse` lets none pass."""

    name = "nacos"
    ttl = 3.0
    lacking = MappingProxyType(
        {
            Feature.COMPACT: "Nacos keeps no past: it pushes the present",
        }
    )

    def __init__(self, server: NacosServer) -> None:
        super().__init__(server)
        self._other: Registry | None = None
        self._raw: dict[str, dict[str, dict[str, object]]] = {}  # what others left: by application and hint

    @classmethod
    def launch(cls) -> NacosServer:
        """Starts the server."""
        return FakeNacos().start()

    def connect(self) -> Registry:
        """Returns a client with a connection of its own."""
        url = f"nacos://{self.server.address}?namespace={self.space}&services_poll=0.2&timeout=2&grace=5"
        return open_registry(url, "the suite")

    def fill(self, instances: Iterable[Instance], ttl: float) -> list[Lease]:
        """Registers them as one batch: each registration of a process publishes all of its instances of a service."""
        assert isinstance(self.writer, NacosRegistry)
        return self.writer._published.add(instances)

    def elapse(self, seconds: float) -> None:
        """Time alone lapses nothing."""

    def lapse(self, registry: Registry) -> None:
        """Ends the client's connection under it, and waits until it has another one."""
        assert isinstance(registry, NacosRegistry)
        session = registry._session
        epoch = session.epoch
        session.drop(epoch)
        until(lambda: session.epoch > epoch, "a new connection")

    def put_raw(self, app: str, key_hint: str, value: bytes) -> None:
        """Registers an instance with a state that is none, by another connection; the hint is its host."""
        metadata = {"meshsdk.id": key_hint, "meshsdk.state": value.decode(errors="replace")}
        host = {"ip": key_hint, "port": 1, "ephemeral": True, "clusterName": "DEFAULT", "metadata": metadata}
        self._raw.setdefault(app, {})[key_hint] = {**host, "weight": 1.0, "healthy": True, "enabled": True}
        self._publish_raw(app)

    def remove_raw(self, app: str, key_hint: str) -> None:
        """Removes that instance."""
        del self._raw[app][key_hint]
        self._publish_raw(app)

    def _publish_raw(self, app: str) -> None:
        if self._other is None:
            self._other = self.open()
        assert isinstance(self._other, NacosRegistry)
        service = {"namespace": self.space, "groupName": "DEFAULT_GROUP", "serviceName": app}
        asked = {"module": "naming", "type": "batchRegisterInstance", "instances": list(self._raw[app].values())}
        self._other._session.ask("leave at", "BatchInstanceRequest", service | asked)
