"""A real etcd server (Debian etcd-server) on free loopback ports, with its data in a directory of its own.

Used by the contract suite of registries and by end-to-end tests. It can be stopped, killed, frozen and started again
on the same ports and data.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from meshsdk.discovery.etcd.client import EtcdClient
from meshsdk.discovery.etcd.place import place_of
from meshsdk.errors import RegistryError
from tests.e2e.processes import program, until


def free_port() -> int:
    """Returns a loopback port that nothing listens on now.

    It is none that the system gives to outgoing connections: those could take it while the server is down.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


class EtcdServer:
    """One member. `cluster`: peer URLs of all members by name, where there are several. `tls`: (certificate, key)."""

    def __init__(
        self,
        *flags: str,
        name: str = "m0",
        cluster: Mapping[str, str] | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="meshsdk-etcd-"))
        self.name = name
        self.port = free_port()
        self._cluster = cluster or {name: f"http://127.0.0.1:{free_port()}"}
        self._tls = tls
        self._flags = flags
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """`host:port` for clients: a name where there is a certificate for it."""
        return f"{'localhost' if self._tls else '127.0.0.1'}:{self.port}"

    @property
    def parameters(self) -> str:
        """What a URL needs so that a client trusts the server."""
        return f"ca={self._tls[0]}" if self._tls else "tls=0"

    @property
    def pid(self) -> int:
        """The process id; it must run."""
        assert self._child is not None
        return self._child.pid

    @property
    def log(self) -> str:
        """What the server wrote."""
        return (self._folder / "log").read_text(errors="replace")

    def launch(self) -> None:
        """Starts the process and does not wait for it."""
        client, peer = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}", self._cluster[self.name]
        members = ",".join(f"{name}={url}" for name, url in self._cluster.items())
        command = [
            *(program("etcd"), "--name", self.name, "--data-dir", str(self._folder / "data")),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *(("--cert-file", str(self._tls[0]), "--key-file", str(self._tls[1])) if self._tls else ()),
            *("--initial-cluster", members, "--initial-cluster-state", "new"),
            *("--unsafe-no-fsync", "--logger", "zap", "--log-level", "warn", *self._flags),
        ]
        # Debian's package sets ETCD_* for its service; a test's server takes nothing from the environment.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        with (self._folder / "log").open("ab") as log:
            self._child = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def start(self) -> EtcdServer:
        """Starts the process, unless it runs, and waits until it answers; returns itself."""
        if self._child is None:
            self.launch()
        self.wait()
        return self

    def wait(self) -> None:
        """Waits until the member answers."""
        client = EtcdClient(place_of(urlsplit(f"etcd://{self.address}?timeout=1&{self.parameters}")))

        def answers() -> bool:
            assert self._child is not None
            assert self._child.poll() is None, f"etcd ended: {self.log[-2000:]}"
            try:
                return client.get("/") is None
            except RegistryError as error:
                return "user name is empty" in str(error)  # it answers: with a demand for a login

        try:
            until(answers, f"etcd on {self.address} answers")
        finally:
            client.close()

    def stop(self) -> None:
        """Ends it in order; the data stays."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once; the data stays."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stops it from doing anything; its connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """Ends it and removes its data; may be called again."""
        self._end(signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._child is None:
            return
        self._child.send_signal(number)
        self._child.send_signal(signal.SIGCONT)
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None


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
