"""What proves to Nacos who is asking, and TLS. Called by `session`.

A user's name and password are exchanged over HTTP for a token, which goes with every message and is fetched anew before
it ends. Neither is ever logged.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import grpc

from meshsdk.discovery.nacos.place import Place
from meshsdk.errors import RegistryError

_MAX_ANSWER = 64 * 1024  # bytes
_EARLY = 0.8  # of its life after which a token is fetched anew
_PATHS = ("/nacos/v1/auth/login", "/nacos/v3/auth/user/login")  # of Nacos 2, and of 3


class Login:
    """The credentials of one registry. Usable from any thread; files are read when they are needed."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._token = ""  # guarded by _lock
        self._until = 0.0  # guarded by _lock; monotonic seconds

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Returns what the channel is secured with, None for nothing. RegistryError for a file that cannot be read."""
        if not self._place.tls:
            return None
        return grpc.ssl_channel_credentials(_read(self._place.ca) if self._place.ca else None)

    def headers(self, timeout: float) -> dict[str, str]:
        """Returns what goes with a message; a token is fetched within `timeout` seconds. RegistryError if refused."""
        if not self._place.user:
            return {}
        with self._lock:
            if time.monotonic() >= self._until:
                self._token, life = self._fetch(timeout)
                self._until = time.monotonic() + life * _EARLY
            return {"accessToken": self._token}

    def forget(self) -> None:
        """The token was refused: the next message fetches another."""
        with self._lock:
            self._until = 0.0

    def _fetch(self, timeout: float) -> tuple[str, float]:
        password = _read(self._place.password_file).decode().partition("\n")[0].rstrip("\r")
        form = urllib.parse.urlencode({"username": self._place.user, "password": password}).encode()
        problem = "no server"
        for server in self._place.servers:
            for path in _PATHS:
                url = f"{'https' if self._place.tls else 'http'}://{server.http}{path}"
                try:
                    with urllib.request.urlopen(url, form, timeout=timeout) as answer:  # noqa: S310 - http(s) by the above
                        found = json.loads(answer.read(_MAX_ANSWER))
                    return str(found["accessToken"]), float(found.get("tokenTtl", 18_000))
                except (urllib.error.URLError, OSError) as error:
                    problem = str(error)
                except (ValueError, KeyError, TypeError, AttributeError):
                    problem = "the answer has no accessToken"
        raise RegistryError(f"cannot log in to {self._place.words} as {self._place.user}: {problem}")


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise RegistryError(f"cannot read {path}: {error.strerror}") from None
