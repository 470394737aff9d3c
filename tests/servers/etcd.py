"""A real etcd server (Debian etcd-server) for the contract suite of registries, end-to-end tests and benchmarks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from meshsdk.discovery.etcd.client import EtcdClient
from meshsdk.discovery.etcd.place import place_of
from meshsdk.errors import RegistryError
from tests.e2e.processes import program
from tests.servers.process import ServerProcess, free_port


class EtcdServer(ServerProcess):
    """One member. `cluster`: peer URLs of all members by name, where there are several. `tls`: (certificate, key)."""

    kind = "etcd"

    def __init__(
        self,
        *flags: str,
        name: str = "m0",
        cluster: Mapping[str, str] | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self._cluster = cluster or {name: f"http://127.0.0.1:{free_port()}"}
        self._tls = tls
        self._flags = flags

    @property
    def address(self) -> str:
        """`host:port` for clients: a name where there is a certificate for it."""
        return f"{'localhost' if self._tls else '127.0.0.1'}:{self.port}"

    @property
    def parameters(self) -> str:
        """What a URL needs so that a client trusts the server."""
        return f"ca={self._tls[0]}" if self._tls else "tls=0"

    def _command(self) -> list[str]:
        client, peer = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}", self._cluster[self.name]
        members = ",".join(f"{name}={url}" for name, url in self._cluster.items())
        return [
            *(program("etcd"), "--name", self.name, "--data-dir", str(self.folder / "data")),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *(("--cert-file", str(self._tls[0]), "--key-file", str(self._tls[1])) if self._tls else ()),
            *("--initial-cluster", members, "--initial-cluster-state", "new"),
            *("--unsafe-no-fsync", "--logger", "zap", "--log-level", "warn", *self._flags),
        ]

    def _environment(self) -> Mapping[str, str]:
        # Debian's package sets ETCD_* for its service; a test's server takes nothing from the environment.
        return {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}

    def _answers(self) -> bool:
        client = EtcdClient(place_of(urlsplit(f"etcd://{self.address}?timeout=1&{self.parameters}")))
        try:
            return client.get("/") is None
        except RegistryError as error:
            return "user name is empty" in str(error)  # it answers: with a demand for a login
        finally:
            client.close()


def cluster_of(count: int) -> list[EtcdServer]:
    """Starts a cluster of members that elect within a second, and waits until each answers."""
    peers = {f"m{n}": f"http://127.0.0.1:{free_port()}" for n in range(count)}
    flags = ("--heartbeat-interval", "50", "--election-timeout", "500")
    members = [EtcdServer(*flags, name=name, cluster=peers) for name in peers]
    try:
        for member in members:
            member.launch()
        for member in members:
            member.wait()
    except BaseException:
        for member in members:
            member.remove()
        raise
    return members
