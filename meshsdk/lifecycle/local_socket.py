"""A Unix socket of this user's on which a process answers questions: one line of JSON asks, one line answers.

The control socket of a service and the admin socket of a process are such. Questions are answered one after the other
on a thread of their own; a peer that is slow to ask or to read holds it up for a second each. What is no question, and
one that cannot be answered, is answered with `{"problem": "..."}`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from meshsdk.lifecycle.run_directory import checked_length, living, private, run_directory

Answer = Callable[[Mapping[str, Any]], Mapping[str, object]]
"""Given a question, returns its answer as JSON values."""

_LOG = logging.getLogger("meshsdk.lifecycle")
_MAX_LINE = 64 * 1024  # bytes of a question
_MOST_WORDS = 200  # characters of an error
_PATIENCE = 1.0  # seconds for a peer to ask its whole question, and to read the answer
_numbers = itertools.count()  # its `next` is atomic


class LocalSocket:
    """Listens from `__init__` to `close`. Raises ConfigurationError and OSError where it cannot."""

    def __init__(self, answer: Answer, suffix: str) -> None:
        """`suffix`: of the socket's name in the run directory; says what kind of questions it takes."""
        self._answer = answer
        directory = private(run_directory(os.environ))
        for _, connection in living(directory, timeout=0.0, suffix=suffix):
            connection.close()
        self.path = checked_length(directory / f"{os.getpid()}-{next(_numbers)}{suffix}")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # By its name only once it listens: whoever finds a name where nobody listens takes it for one of the dead.
        unnamed = checked_length(self.path.with_suffix(f"{suffix}-"))
        self._listener.bind(str(unnamed))
        unnamed.chmod(0o600)
        self._listener.listen(8)
        unnamed.rename(self.path)
        self._closed = False  # written by `close` only
        self._thread = threading.Thread(target=self._run, name=f"meshsdk{suffix}", daemon=True)
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

    def forget(self) -> None:
        """In a forked child: the thread and the name are the parent's; only the copy of the socket is closed."""
        self._closed = True
        self._listener.close()

    def _run(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            with connection:
                try:
                    answer = self._answered(_line(connection, time.monotonic() + _PATIENCE))
                    connection.settimeout(_PATIENCE)  # of all of it: sendall counts it down
                    connection.sendall(answer.encode() + b"\n")
                except Exception as error:  # noqa: BLE001 - whatever it was, the next question is answered
                    _LOG.debug("local socket %s: a question came to nothing: %s", self.path.name, error)

    def _answered(self, question: bytes) -> str:
        try:
            asked = json.loads(question)
        except (ValueError, RecursionError):
            return json.dumps({"problem": "not a line of JSON"})
        if not isinstance(asked, dict):
            return json.dumps({"problem": "not an object of JSON"})
        try:
            return json.dumps(self._answer(asked))
        except Exception as error:  # noqa: BLE001 - whatever it was, who asked is told
            _LOG.warning("local socket %s: a question could not be answered", self.path.name, exc_info=True)
            return json.dumps({"problem": f"cannot be answered: {type(error).__name__}: {str(error)[:_MOST_WORDS]}"})


def _line(connection: socket.socket, deadline: float) -> bytes:
    """Reads up to the end of a line, of the stream or of what a question may be. Raises TimeoutError."""
    question = b""
    while b"\n" not in question and len(question) <= _MAX_LINE:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the question did not end in time")
        connection.settimeout(left)
        part = connection.recv(_MAX_LINE)
        if not part:
            break
        question += part
    return question
