"""Consul: the real server, for `make test-peers`. What it shares with the fake is all but the process."""

from __future__ import annotations

from tests.contract.registries import lab_consul
from tests.servers.consul import ConsulServer, RealConsul


class TheLab(lab_consul.TheLab):
    """The same suite, so that the fake cannot drift from it."""

    name = "consul_server"
    peer = True

    @classmethod
    def launch(cls) -> ConsulServer:
        """Starts the server."""
        return RealConsul().start()
