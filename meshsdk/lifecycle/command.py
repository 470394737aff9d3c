"""`meshsdk offline`: takes served processes of this user offline, over their control sockets; a preStop hook.

Offline means: DRAINING in the registry and to callers, a wait for quiet, out of the registry. The process runs on, and
serves who still calls, until it gets its SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshsdk.errors import LifecycleError
from meshsdk.lifecycle.run_directory import living, pid_of, run_directory

_PATIENCE = 5.0  # seconds for one answer
_MAX_ANSWER = 65536
_TICK = 0.1  # seconds between looks at a drain


@dataclass(frozen=True, slots=True)
class _Found:
    path: Path
    report: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.report.get('app')} (pid {pid_of(self.path)}, {self.report.get('address')})"


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--pid", type=int, help="the process; without --pid and --app: the only one there is")
    chosen.add_argument("--app", help="every process that serves this application")
    parser.add_argument("--wait", action="store_true", help="return when it is offline, and not as soon as it knows")
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help="seconds that --wait waits at most (30)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Runs the command. Raises LifecycleError when there is no such process, or it is not offline in time."""
    directory = run_directory(os.environ)
    wanted = [found for found in _all(directory) if _matches(found, arguments)]
    if not wanted:
        raise LifecycleError(f"no served process{_words(arguments)} in {directory}; is it this user's, and running?")
    if arguments.pid is None and arguments.app is None and len({pid_of(found.path) for found in wanted}) > 1:
        raise LifecycleError(f"several processes are served: {', '.join(map(str, wanted))}; choose by --pid or --app")
    for found in wanted:
        _ask(found.path, "offline")
    deadline = time.monotonic() + arguments.timeout
    while arguments.wait and (running := [found for found in wanted if not _offline(found.path)]):
        if time.monotonic() >= deadline:
            raise LifecycleError(f"not offline after {arguments.timeout:g} s: {', '.join(map(str, running))}")
        time.sleep(_TICK)
    return 0


def _all(directory: Path) -> list[_Found]:
    found = []
    for path, connection in living(directory, _PATIENCE):
        with connection:
            report = _question(connection, "status")
        if report is not None:
            found.append(_Found(path, report))
    return found


def _matches(found: _Found, arguments: argparse.Namespace) -> bool:
    if arguments.pid is not None:
        return bool(pid_of(found.path) == arguments.pid)
    return arguments.app is None or bool(found.report.get("app") == arguments.app)


def _words(arguments: argparse.Namespace) -> str:
    if arguments.pid is not None:
        return f" with pid {arguments.pid}"
    return f" of application {arguments.app!r}" if arguments.app is not None else ""


def _offline(path: Path) -> bool:
    """Whether it is offline, or gone altogether."""
    report = _ask(path, "status")
    return report is None or str(report.get("state")) == "OFFLINE"


def _ask(path: Path, do: str) -> dict[str, Any] | None:
    """Asks once; None when nobody is there any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(str(path))
        except OSError:
            return None
        return _question(connection, do)


def _question(connection: socket.socket, do: str) -> dict[str, Any] | None:
    answer = b""
    try:
        connection.sendall(json.dumps({"do": do}).encode() + b"\n")
        while not answer.endswith(b"\n") and len(answer) < _MAX_ANSWER:
            part = connection.recv(_MAX_ANSWER)
            if not part:
                return None
            answer += part
        report = json.loads(answer)
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None
