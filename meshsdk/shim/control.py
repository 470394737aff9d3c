"""The shim's control socket: a Unix socket for this user's own processes, one line of JSON for each command.

`{"command": "status"}` is answered by `{"ok": true, ...}` or `{"ok": false, "error": "..."}`. `running` gives the
handlers, `command` asks. Knows nothing of what commands do.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from meshsdk.errors import ConfigurationError, LifecycleError, MeshError

_LOG = logging.getLogger("meshsdk.shim")
_LONGEST = 64 * 1024  # bytes of a line
_CONNECTIONS = 16  # at once
_PATIENCE = 10.0  # seconds for a connected peer to say what it wants

Answer = Mapping[str, object]
Handler = Callable[[Mapping[str, object]], Answer]


class ControlSocket:
    """Methods are for any thread. `_stopping` is set once."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._stopping = threading.Event()
        self._slots = threading.BoundedSemaphore(_CONNECTIONS)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._run, name="meshsdk-shim-control", daemon=True)

    def start(self) -> None:
        """Listens. Raises LifecycleError."""
        self._path.unlink(missing_ok=True)
        try:
            self._socket.bind(str(self._path))  # in a folder that only this user may enter
            self._path.chmod(0o600)
            self._socket.listen(_CONNECTIONS)
        except OSError as error:
            raise LifecycleError(f"cannot listen on {self._path}: {error.strerror or error}") from None
        self._thread.start()

    def stop(self) -> None:
        """Ends it; commands under way go on."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            if not self._slots.acquire(blocking=False):
                self._turn_away(connection)
                continue
            threading.Thread(target=self._serve, args=(connection,), name="meshsdk-shim-asked", daemon=True).start()

    def _turn_away(self, connection: socket.socket) -> None:
        """Says that it is busy; a new connection's buffer takes one line at once."""
        try:
            with connection:
                connection.settimeout(0.0)
                words = f"the shim is busy with {_CONNECTIONS} commands; ask again"
                connection.sendall(json.dumps({"ok": False, "error": words}).encode() + b"\n")
        except OSError as error:
            _LOG.info("a command on %s could not be turned away: %s", self._path, error)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(_PATIENCE)
                _check_peer(connection)
                answer = self._answer(_line(connection))
                connection.sendall(json.dumps(answer).encode() + b"\n")
        except (OSError, MeshError) as error:
            _LOG.info("a command on %s was not carried through: %s", self._path, error)
        finally:
            self._slots.release()

    def _answer(self, line: bytes) -> Answer:
        try:
            asked = json.loads(line)
        except (ValueError, RecursionError):
            return {"ok": False, "error": "that is not a line of JSON"}
        try:
            return {"ok": True, **self._handler(asked)(asked)}
        except MeshError as error:
            return {"ok": False, "error": str(error)}
        except Exception as error:  # noqa: BLE001 - the shim must outlive a defect in one command
            _LOG.exception("a command failed; please report it")
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}

    def _handler(self, asked: object) -> Handler:
        name = asked.get("command") if isinstance(asked, dict) else None
        handler = self._handlers.get(name) if isinstance(name, str) else None
        if handler is None:
            raise ConfigurationError(f"no command {name!r}; there are {', '.join(sorted(self._handlers))}")
        return handler


def ask(path: Path, command: str, timeout: float, **fields: object) -> Answer:
    """Has a shim carry out a command and returns its answer. Raises LifecycleError with the reason it did not."""
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            with contextlib.suppress(BrokenPipeError):  # it was turned away, and the answer says why
                connection.sendall(json.dumps({"command": command, **fields}).encode() + b"\n")
            answer = json.loads(_line(connection))
    except TimeoutError:
        raise LifecycleError(f"the shim at {path} has not answered within {timeout:g} s") from None
    except (OSError, ValueError) as error:
        raise LifecycleError(f"no shim answers at {path}: {error}") from None
    if not isinstance(answer, dict) or not answer.get("ok"):
        words = answer.get("error") if isinstance(answer, dict) else None
        raise LifecycleError(str(words or "the shim refused, without a word"))
    return answer


def _check_peer(connection: socket.socket) -> None:
    """The folder keeps others out; this holds where someone has opened it."""
    facts = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid = struct.unpack("3i", facts)[1]
    if uid not in (0, os.getuid()):
        raise LifecycleError(f"user {uid} may not command this shim")


def _line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        part = connection.recv(_LONGEST)
        data += part
        if not part or len(data) > _LONGEST:
            break
    return data
