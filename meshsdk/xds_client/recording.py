"""A recording of ADS streams: every message both ways, one line of JSON each. Replayed by `meshsdk.testing.replay`.

    {"at": 0.012, "stream": 1, "server": "cp:18000", "transport": "delta", "from": "client", "message": "<base64>"}

Made where `MESHSDK_XDS_RECORD=FILE` says so, by `XdsClient`. It holds the whole configuration: the file is this user's
alone. Never in the way of a stream: what cannot be written is logged once, and the recording ends.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from meshsdk.errors import ConfigurationError

VARIABLE = "MESHSDK_XDS_RECORD"
_LOG = logging.getLogger(__name__)
_MOST = 256 * 1024 * 1024  # bytes of a file
_MAX_LINE = 200 * 1024 * 1024  # bytes of a line that is read

Tap = Callable[[str, bytes], None]
"""Told who sent ("client" or "server") and the message."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One message. `at`: seconds since the recording began. `transport`: "delta" or "sotw"."""

    at: float
    stream: int
    server: str
    transport: str
    client: bool
    message: bytes


class Recorder:
    """Writes one file, made at the first stream. `_lock` guards all fields."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._streams = 0
        self._written = 0
        self._over = False

    def stream(self, server: str, transport: str) -> Tap:
        """A stream is opened; returns what is to be told its messages."""
        with self._lock:
            self._streams += 1
            number = self._streams

        def tap(sender: str, message: bytes) -> None:
            facts = {"stream": number, "server": server, "transport": transport, "from": sender}
            self._write({**facts, "message": base64.b64encode(message).decode()})

        return tap

    def _write(self, facts: dict[str, object]) -> None:
        with self._lock:
            line = json.dumps({"at": round(time.monotonic() - self._begun, 6), **facts}) + "\n"
            if self._over:
                return
            if self._written + len(line) > _MOST:
                self._over = True
                _LOG.warning("%s=%s: %d MB are recorded; recording no more", VARIABLE, self._path, _MOST >> 20)
                return
            try:
                flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if self._written else os.O_TRUNC)
                with os.fdopen(os.open(self._path, flags, 0o600), "w", encoding="ascii") as file:
                    file.write(line)
            except OSError as error:
                self._over = True
                _LOG.warning("%s=%s: cannot be written: %s; recording nothing", VARIABLE, self._path, error.strerror)
                return
            self._written += len(line)


def recorder(environ: dict[str, str] | os._Environ[str]) -> Recorder | None:
    """Returns a recorder where the environment asks for one; `{pid}` in the name stands for the process."""
    named = environ.get(VARIABLE)
    return Recorder(Path(named.replace("{pid}", str(os.getpid())))) if named else None


def read(path: Path) -> Iterator[Recorded]:
    """Yields the messages of a recording. Raises ConfigurationError with `file:line: what`."""
    try:
        with path.open("rb") as lines:
            number = 0
            while line := lines.readline(_MAX_LINE):
                number += 1
                try:
                    yield _recorded(json.loads(line))
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    raise ConfigurationError(f"{path}:{number}: no line of an xDS recording: {error!r}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def _recorded(facts: dict[str, object]) -> Recorded:
    transport, sender = str(facts["transport"]), str(facts["from"])
    if transport not in ("delta", "sotw") or sender not in ("client", "server"):
        raise ValueError(f"transport {transport[:20]!r}, from {sender[:20]!r}")
    return Recorded(
        float(str(facts["at"])),
        int(str(facts["stream"])),
        str(facts["server"]),
        transport,
        sender == "client",
        base64.b64decode(str(facts["message"]), validate=True),
    )
