"""Asks a process of this machine over its local socket. Used by `meshsdk offline`, `doctor` and `explain`."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CONNECTING = 5.0  # seconds
_TICK = 0.1  # seconds that the last wait for an answer takes at least
_PART = 65536
GONE: Mapping[str, Any] = {"gone": True}
"""The answer of a process that has ended: nobody listens any more."""


def ask(path: Path, question: Mapping[str, object], until: float, most: int = _PART) -> Mapping[str, Any] | None:
    """Asks once, until `until` (monotonic) at the latest; returns the answer, `GONE`, or None for no answer.

    `most`: bytes of the answer; of a longer one, that it is too long is the answer: `{"problem": "..."}`.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_CONNECTING)
        try:
            connection.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return GONE
        except OSError:  # its queue is full: it is there, and does not answer
            return None
        try:
            return _exchange(connection, question, until, most)
        except (OSError, ValueError, RecursionError):
            return None


def _exchange(
    connection: socket.socket, question: Mapping[str, object], until: float, most: int
) -> Mapping[str, Any] | None:
    connection.sendall(json.dumps(question).encode() + b"\n")
    answer = bytearray()
    while not answer.endswith(b"\n"):
        connection.settimeout(max(_TICK, until - time.monotonic()))
        part = connection.recv(_PART)
        if not part:
            return None
        if len(answer) + len(part) > most:
            return {"problem": f"its answer is longer than the {most} bytes that are read"}
        answer += part
    report = json.loads(answer)
    return report if isinstance(report, dict) else None
