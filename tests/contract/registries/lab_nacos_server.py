"""Nacos: the real server, for `make test-peers`."""

from __future__ import annotations

from tests.contract.registries import lab_nacos
from tests.servers.nacos import NacosServer, RealNacos


class TheLab(lab_nacos.TheLab):
    """The same suite, so that the fake cannot drift from it."""

    name = "nacos_server"
    peer = True

    @classmethod
    def launch(cls) -> NacosServer:
        """Starts the server."""
        return RealNacos().start()
