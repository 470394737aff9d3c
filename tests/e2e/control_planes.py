"""`meshctl` as processes: its commands, and control planes that are always stopped. Used by the tests of tests/e2e."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.e2e.processes import ROOT, entry_point


def meshctl(*arguments: str, stdin: str = "", server: str = "") -> subprocess.CompletedProcess[str]:
    """Runs one command to its end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("MESHCTL_SERVER", None)
    if server:
        environment["MESHCTL_SERVER"] = server
    return subprocess.run(
        [sys.executable, "-m", "controlplane.cli", *arguments],
        input=stdin,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


class Served:
    """A `meshctl serve` process and the addresses it printed."""

    def __init__(self, config: Path, *arguments: str, xds: str = "127.0.0.1:0") -> None:
        ports = ("--xds", xds, "--admin", "127.0.0.1:0")
        self.process = entry_point("controlplane.cli:main", "serve", "--config", str(config), *ports, *arguments)
        try:
            self.ready = self.process.line()
        except AssertionError:
            self.process.stop()
            raise
        self.xds, self.admin = re.findall(r"127\.0\.0\.1:\d+", self.ready)

    def ask(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a command against this control plane."""
        return meshctl(*arguments, stdin=stdin, server=self.admin)

    def status(self) -> dict[str, object]:
        """Returns the status."""
        return json.loads(self.ask("status", "-o", "json").stdout)

    def over_http(self, path: str) -> object:
        """Returns what the admin interface answers, without starting a command: for conditions that are polled."""
        connection = http.client.HTTPConnection(self.admin, timeout=5)
        connection.request("GET", path)
        value = json.loads(connection.getresponse().read())
        connection.close()
        return value

    def apply(self, text: str) -> int:
        """Applies YAML without starting a command; returns the status (200, or 422 where it is refused)."""
        connection = http.client.HTTPConnection(self.admin, timeout=20)
        connection.request("POST", "/v1/resources?file=f.yaml", text)
        status = connection.getresponse().status
        connection.close()
        return status

    def metrics(self) -> dict[str, float]:
        """Returns the samples of a scrape, by name and labels as Prometheus writes them."""
        connection = http.client.HTTPConnection(self.admin, timeout=5)
        connection.request("GET", "/metrics", headers={"Host": "controlplane.example:18001"})
        text = connection.getresponse().read().decode()
        connection.close()
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()
