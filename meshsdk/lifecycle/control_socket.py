"""The control socket of one service: a Unix socket of this user's that `meshsdk offline` talks to.

One line of JSON asks (`{"do": "status"}` or `{"do": "offline"}`), one line answers with the service's report. Questions
are answered one after the other on a thread of their own; a silent peer holds it up for a second.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping

from meshsdk.lifecycle.run_directory import SUFFIX, checked_length, living, private, run_directory

Report = Callable[[], Mapping[str, object]]

_LOG = logging.getLogger("meshsdk.lifecycle")
_MAX_LINE = 4096  # bytes of a question
_PATIENCE = 1.0  # seconds for a peer to ask and to read
_numbers = itertools.count()  # its `next` is atomic


class ControlSocket:
    """Listens from `__init__` to `close`. Raises ConfigurationError and OSError where it cannot."""

    def __init__(self, report: Report, offline: Callable[[], None]) -> None:
        self._report = report
        self._offline = offline
        directory = private(run_directory(os.environ))
        for _, connection in living(directory, timeout=0.0):
            connection.close()
        self.path = checked_length(directory / f"{os.getpid()}-{next(_numbers)}{SUFFIX}")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self.path.chmod(0o600)
        self._listener.listen(8)
        self._closed = False  # written by `close` only
        self._thread = threading.Thread(target=self._run, name="meshsdk-control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listens no more; idempotent. Any thread."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
            self._thread.join(2 * _PATIENCE)
            self._listener.close()
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _run(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            with connection:
                connection.settimeout(_PATIENCE)
                try:
                    self._answer(connection)
                except (OSError, ValueError, TypeError) as error:
                    _LOG.debug("control socket: a question came to nothing: %s", error)

    def _answer(self, connection: socket.socket) -> None:
        question = b""
        while b"\n" not in question and len(question) <= _MAX_LINE:
            part = connection.recv(_MAX_LINE)
            if not part:
                return
            question += part
        asked = json.loads(question)
        do = asked.get("do") if isinstance(asked, dict) else None
        if do == "offline":
            self._offline()
        answer = self._report() if do in ("status", "offline") else {"problem": f"unknown question {str(do)[:40]!r}"}
        connection.sendall(json.dumps(answer).encode() + b"\n")
