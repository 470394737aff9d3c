"""Consul as a child process, on loopback ports that are free at first: the real server, or the fake of its HTTP API.

`make test` uses the fake (`consul_fake.py`), `make test-peers` the real one (scripts/consul.sh builds it). Both keep
their data in a directory of their own, which survives `kill` and `start`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from meshsdk.discovery.consul.agent import Agent
from meshsdk.discovery.consul.place import Place
from meshsdk.errors import RegistryError
from tests.e2e.processes import program, until


class ConsulServer:
    """`address` is `host:port` of the HTTP API, the same over restarts."""

    def __init__(self) -> None:
        """Starts it and waits until it serves."""
        self._folder = Path(tempfile.mkdtemp(prefix="meshsdk-consul-"))
        self._port = _free_port()
        self._child: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        """Where its HTTP API is."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts it on what it has stored, and waits until it serves; nothing to do where it runs."""
        if self._child is not None:
            return
        with (self._folder / "log").open("wb") as log:
            self._child = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            until(self._serves, "Consul serves")
        except AssertionError as error:
            log_end = (self._folder / "log").read_text(encoding="utf-8", errors="replace")[-2000:]
            self.close()
            raise AssertionError(f"{error}; its log ends with:\n{log_end}") from None

    def kill(self) -> None:
        """Ends it with SIGKILL; what it stored stays."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()

    def freeze(self) -> None:
        """Stops its threads; connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undoes `freeze`."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends it and removes what it stored."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def agent(self) -> Agent:
        """Returns a client for what a test does to it by hand."""
        return Agent(Place("127.0.0.1", self._port, timeout=5.0))

    def empty(self) -> None:
        """Removes all services and keys."""
        agent = self.agent()
        services = agent.ask("GET", "/v1/agent/services").json()
        assert isinstance(services, dict)
        for identifier in services:
            agent.ask("PUT", f"/v1/agent/service/deregister/{identifier}")
        agent.ask("DELETE", "/v1/kv/", {"recurse": ""})

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _serves(self) -> bool:
        if self._child is None or self._child.poll() is not None:
            raise AssertionError("it ended")
        return self._healthy()

    def _healthy(self) -> bool:
        """Whether its node is in the catalog: it has a leader then, and takes registrations."""
        try:
            return bool(self.agent().ask("GET", "/v1/health/state/any").json())
        except RegistryError as error:
            raise AssertionError(str(error)) from None

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            os.kill(self._child.pid, number)


class FakeConsul(ConsulServer):
    """The fake. `token`: what it asks for; `pem`: file of a key and certificate for localhost, to serve https with."""

    def __init__(self, token: str = "", pem: str = "") -> None:
        self._token = token
        self._pem = pem
        super().__init__()

    def _command(self) -> list[str]:
        script = Path(__file__).with_name("consul_fake.py")
        arguments = [self._token, *([self._pem] if self._pem else [])]
        return [sys.executable, str(script), str(self._port), str(self._folder / "journal"), *arguments]

    def _serves(self) -> bool:
        return "serving" in (self._folder / "log").read_text(encoding="utf-8") and super()._serves()

    def _healthy(self) -> bool:
        return bool(self._token or self._pem) or super()._healthy()


class RealConsul(ConsulServer):
    """One agent that is its own server."""

    def _command(self) -> list[str]:
        config = self._folder / "config.json"
        if not config.exists():
            ports = {"http": self._port, "server": _free_port(), "serf_lan": _free_port()}
            off = dict.fromkeys(("dns", "serf_wan", "grpc", "grpc_tls"), -1)
            settings = {
                "ports": {**ports, **off},
                "performance": {"raft_multiplier": 1},  # elections within a second
                "limits": {"http_max_conns_per_client": 1000},
            }
            config.write_text(json.dumps(settings), encoding="utf-8")
        return [
            *(program("consul"), "agent", "-server", "-bootstrap-expect=1", "-node=one", "-bind=127.0.0.1"),
            *("-client=127.0.0.1", f"-data-dir={self._folder / 'data'}", f"-config-file={config}"),
        ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
