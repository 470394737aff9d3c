"""A recording of ADS streams: every message both ways, one line of JSON each. Replayed by `meshsdk.testing.replay`.

    {"at": 0.012, "stream": 1, "server": "cp:18000", "transport": "delta", "from": "client", "message": "<base64>"}

Made where `MESHSDK_XDS_RECORD=FILE` says so, by `XdsClient`; one file for all meshes of a process, begun anew by each
process. `{pid}` in the name stands for the process; without it, a forked child (and a process that finds the file in
use by another one) appends `.PID`. It holds the whole configuration: the file is this user's alone. Never in the way
of a stream: what cannot be written is logged once, and the recording ends.
"""

from __future__ import annotations

import base64
import fcntl
import json
import logging
import math
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
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
    """Writes one file, opened at the first message. `_lock` guards all fields."""

    def __init__(self, *paths: Path) -> None:
        """`paths`: the first one that no other process writes is it."""
        self._paths = paths
        self._lock = threading.Lock()
        self._file = -1  # its descriptor; -1 before the first message
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

    def abandon(self) -> None:
        """In a forked child: the file is the parent's, and a thread of the parent may hold the lock."""
        self._lock = threading.Lock()
        self._over = True
        if self._file >= 0:
            os.close(self._file)

    def _write(self, facts: dict[str, object]) -> None:
        with self._lock:
            if self._over:
                return
            line = json.dumps({"at": round(time.monotonic() - self._begun, 6), **facts}).encode() + b"\n"
            if self._written + len(line) > _MOST:
                self._over = True
                _LOG.warning("%s=%s: %d MB are recorded; recording no more", VARIABLE, self._paths[0], _MOST >> 20)
                return
            try:
                if self._file < 0:
                    self._file = _first_free(self._paths)
                self._written += _put(self._file, line)
            except OSError as error:
                self._over = True
                words = "%s=%s: cannot be written: %s; recording nothing"
                _LOG.warning(words, VARIABLE, self._paths[0], error.strerror)


def _first_free(paths: tuple[Path, ...]) -> int:
    """Opens the first file that no other process records into, empty and this user's alone. Raises OSError."""
    for path in paths[:-1]:
        try:
            return _opened(path)
        except BlockingIOError:
            continue
    return _opened(paths[-1])


def _opened(path: Path) -> int:
    """Links are not followed: who may write the directory must not choose the file that this process overwrites."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(0, "not a file")  # noqa: TRY301 - to be closed like the others
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(file, 0o600)
        os.ftruncate(file, 0)
    except BaseException:
        os.close(file)
        raise
    return file


def _put(file: int, line: bytes) -> int:
    left = memoryview(line)
    while left:
        left = left[os.write(file, left) :]
    return len(line)


_recorders: dict[str, Recorder] = {}  # by what the variable said; guarded by _lock
_lock = threading.Lock()
_forked = False


def recorder(environ: Mapping[str, str]) -> Recorder | None:
    """Returns the process's recorder where the environment asks for one: the same for all who ask for the same file."""
    named = environ.get(VARIABLE)
    if not named:
        return None
    with _lock:
        if named not in _recorders:
            whole = os.path.abspath(named.replace("{pid}", str(os.getpid())))  # noqa: PTH100 - no link is resolved
            path, own = Path(whole), Path(f"{whole}.{os.getpid()}")
            _recorders[named] = Recorder(own) if _forked and "{pid}" not in named else Recorder(path, own)
        return _recorders[named]


def _in_child() -> None:
    global _lock, _forked
    _lock, _forked = threading.Lock(), True
    for one in _recorders.values():
        one.abandon()
    _recorders.clear()


os.register_at_fork(after_in_child=_in_child)


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
    at = float(str(facts["at"]))
    if not math.isfinite(at):
        raise ValueError(f"at {at!r}")
    return Recorded(
        at,
        int(str(facts["stream"])),
        str(facts["server"]),
        transport,
        sender == "client",
        base64.b64decode(str(facts["message"]), validate=True),
    )
