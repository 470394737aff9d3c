"""Consul: the fake of its HTTP API (the real server: `lab_consul_server`). It is emptied after each test."""

from __future__ import annotations

import json
from typing import ClassVar

from meshsdk.discovery.opening import open_registry
from meshsdk.discovery.registry import Registry
from tests.contract.registries.lab import Feature, ServerLab
from tests.servers.consul import ConsulServer, FakeConsul


class TheLab(ServerLab):
    """All clients use the same agent."""

    name = "consul"
    ttl = 2.0
    lacking: ClassVar = {
        Feature.COMPACT: "Consul keeps no past: it answers with what there is, and watchers find out what changed",
    }

    server: ConsulServer

    @classmethod
    def launch(cls) -> ConsulServer:
        """Starts the fake."""
        return FakeConsul().start()

    def connect(self) -> Registry:
        """Returns a client."""
        return open_registry(f"consul://{self.address}", "the suite")

    def close(self) -> None:
        """Closes the clients; has the server serve again, and empties it."""
        super().close()
        self.server.empty()

    def put_raw(self, app: str, key_hint: str, value: bytes) -> None:
        """Registers a service of that name without a port, with a text for labels, as some other program might."""
        text = value.decode("ascii", "replace").replace("\ufffd", "?")
        meta = {"meshsdk": "1", "meshsdk_id": key_hint, "meshsdk_state": "ONLINE"}
        meta.update({f"meshsdk_labels_{start // 500}": text[start : start + 500] for start in range(0, len(text), 500)})
        body = {"ID": key_hint, "Name": app, "Meta": meta, "Address": "10.9.9.9", "Port": 0}
        self.server.agent().ask("PUT", "/v1/agent/service/register", body=json.dumps(body).encode())

    def remove_raw(self, app: str, key_hint: str) -> None:
        """Deregisters it."""
        self.server.agent().ask("PUT", f"/v1/agent/service/deregister/{key_hint}")
