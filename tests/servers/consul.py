"""Consul as a child process, on loopback ports that are free at first: the real server, or the fake of its HTTP API.

`make test` uses the fake (`consul_fake.py`), `make test-peers` the real one (scripts/consul.sh builds it). Both keep
their data in a directory of their own, which survives `kill` and `start`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from meshsdk.discovery.consul.agent import Agent
from meshsdk.discovery.consul.place import Place
from meshsdk.errors import RegistryError
from tests.e2e.processes import program
from tests.servers.process import ServerProcess, free_port


class ConsulServer(ServerProcess):
    """`port` is of the HTTP API."""

    kind = "Consul"

    def agent(self) -> Agent:
        """Returns a client for what a test does to it by hand."""
        return Agent(Place("127.0.0.1", self.port, timeout=5.0))

    def empty(self) -> None:
        """Removes all services and keys."""
        agent = self.agent()
        services = agent.ask("GET", "/v1/agent/services").json()
        assert isinstance(services, dict)
        for identifier in services:
            agent.ask("PUT", f"/v1/agent/service/deregister/{identifier}")
        agent.ask("DELETE", "/v1/kv/", {"recurse": ""})

    def _answers(self) -> bool:
        """Whether its node is in the catalog: it has a leader then, and takes registrations."""
        try:
            return bool(self.agent().ask("GET", "/v1/health/state/any").json())
        except RegistryError as error:
            raise AssertionError(str(error)) from None


class FakeConsul(ConsulServer):
    """The fake. `token`: what it asks for; `pem`: file of a key and certificate for localhost, to serve https with."""

    def __init__(self, token: str = "", pem: str = "") -> None:
        super().__init__()
        self._token = token
        self._pem = pem

    def _command(self) -> list[str]:
        script = Path(__file__).with_name("consul_fake.py")
        arguments = [self._token, *([self._pem] if self._pem else [])]
        return [sys.executable, str(script), str(self.port), str(self.folder / "journal"), *arguments]

    def _answers(self) -> bool:
        return "serving" in self.log and (bool(self._token or self._pem) or super()._answers())


class RealConsul(ConsulServer):
    """One agent that is its own server."""

    def _command(self) -> list[str]:
        config = self.folder / "config.json"
        if not config.exists():
            ports = {"http": self.port, "server": free_port(), "serf_lan": free_port()}
            off = dict.fromkeys(("dns", "serf_wan", "grpc", "grpc_tls"), -1)
            settings = {
                "ports": {**ports, **off},
                "performance": {"raft_multiplier": 1},  # elections within a second
                "limits": {"http_max_conns_per_client": 1000},
            }
            config.write_text(json.dumps(settings), encoding="utf-8")
        return [
            *(program("consul"), "agent", "-server", "-bootstrap-expect=1", "-node=one", "-bind=127.0.0.1"),
            *("-client=127.0.0.1", f"-data-dir={self.folder / 'data'}", f"-config-file={config}"),
        ]
