"""Asks one Envoy through its admin interface, which is a Unix socket in the shim's folder and nowhere else."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import final

from meshsdk.errors import LifecycleError

_TIMEOUT = 5.0  # seconds
_LARGEST = 16 * 1024 * 1024  # bytes of an answer
_OK = 200


class EnvoyUnreachable(LifecycleError):
    """Envoy's admin interface does not answer, or not as it should."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("envoy", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(str(self._path))


@final
class EnvoyAdmin:
    """Methods are for any thread; each raises EnvoyUnreachable."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ready(self) -> bool:
        """Whether Envoy serves: it has been told its clusters and listeners."""
        try:
            return self.get("/ready").strip() == "LIVE"
        except EnvoyUnreachable:
            return False

    def version(self) -> str:
        """Returns the version of Envoy, such as `1.40.0`."""
        text = self.get("/server_info")
        try:
            return str(json.loads(text)["version"]).split("/")[1]
        except (ValueError, KeyError, IndexError):
            raise EnvoyUnreachable("Envoy's /server_info has no version") from None

    def listeners(self) -> frozenset[str]:
        """Returns the names of the listeners that are active."""
        try:
            found = json.loads(self.get("/listeners?format=json")).get("listener_statuses", [])
            return frozenset(str(one["name"]) for one in found)
        except (ValueError, KeyError):
            raise EnvoyUnreachable("Envoy's /listeners cannot be read") from None

    def counters(self, prefix: str) -> Mapping[str, int]:
        """Returns counters and gauges whose names start with `prefix`."""
        found: dict[str, int] = {}
        for line in self.get(f"/stats?filter=^{prefix.replace('.', '%5C.')}").splitlines():
            name, _, value = line.partition(": ")
            if value.isdigit():
                found[name] = int(value)
        return found

    def drain_listeners(self, *, inbound_only: bool) -> None:
        """Begins the graceful end: callers are told by GOAWAY or `connection: close`, listeners end with drain time."""
        self.post("/drain_listeners?graceful" + ("&inboundonly" if inbound_only else ""))

    def get(self, path: str) -> str:
        """Returns a page."""
        return self._ask("GET", path)

    def post(self, path: str) -> str:
        """Does what a page does, and returns it."""
        return self._ask("POST", path)

    def _ask(self, method: str, path: str) -> str:
        try:
            with closing(_Connection(self._path)) as connection:
                connection.request(method, path)
                response = connection.getresponse()
                text = response.read(_LARGEST).decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise EnvoyUnreachable(f"Envoy's admin interface does not answer: {error}") from None
        if response.status != _OK:
            raise EnvoyUnreachable(f"Envoy answers {path} with {response.status}: {text[:200].strip()}")
        return text
