"""`meshsdk offline`: takes served processes of this user offline, over their control sockets; a preStop hook.

Offline means: DRAINING in the registry and to callers, a wait for quiet, out of the registry. The process runs on, and
serves who still calls, until it gets its SIGTERM. Only a process that has ended counts as offline without saying so:
silence does not.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshsdk.errors import LifecycleError
from meshsdk.lifecycle.local_question import GONE, ask
from meshsdk.lifecycle.run_directory import checked_private, pid_of, remove_dead, run_directory, sockets

_PATIENCE = 5.0  # seconds for one answer
_TICK = 0.1  # seconds between looks at a drain
_OFFLINE = "OFFLINE"
_GONE: Mapping[str, Any] = {"state": _OFFLINE}  # what counts as the answer of a process that has ended


@dataclass(frozen=True, slots=True)
class _Found:
    """`report`: its status; None if it did not answer."""

    path: Path
    report: Mapping[str, Any] | None

    def __str__(self) -> str:
        if self.report is None:
            return f"pid {pid_of(self.path)}, which does not answer"
        return f"{self.report.get('app')} (pid {pid_of(self.path)}, {self.report.get('address')})"


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--pid", type=int, help="the process; without --pid and --app: the only one there is")
    chosen.add_argument("--app", help="every process that serves this application")
    parser.add_argument("--wait", action="store_true", help="return when it is offline, and not as soon as it knows")
    parser.add_argument(
        "--timeout", type=_seconds, default=30.0, metavar="S", help="seconds that --wait waits at most (30)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Runs the command. Raises LifecycleError when there is no such process, or it is not offline in time.

    Raises ConfigurationError for a run directory that others can write to.
    """
    deadline = time.monotonic() + (arguments.timeout if arguments.wait else _PATIENCE)
    directory = checked_private(run_directory(os.environ))
    there = _all(directory, deadline)
    wanted = [found for found in there if _matches(found, arguments)]
    silent = [found for found in there if found.report is None and found not in wanted]  # perhaps of this --app
    if not wanted:
        also = f" ({', '.join(map(str, silent))})" if silent and arguments.pid is None else ""
        raise LifecycleError(
            f"no served process{_words(arguments)} in {directory}{also}; is it this user's, and running?"
        )
    if arguments.pid is None and arguments.app is None and len({pid_of(found.path) for found in wanted}) > 1:
        raise LifecycleError(f"several processes are served: {', '.join(map(str, wanted))}; choose by --pid or --app")
    untold = _told(wanted, deadline, again=arguments.wait)
    if untold:
        raise LifecycleError(f"not told to go offline: {', '.join(map(str, untold))}")
    while arguments.wait and (running := [found for found in wanted if not _offline(found.path, deadline)]):
        if time.monotonic() >= deadline:
            raise LifecycleError(f"not offline after {arguments.timeout:g} s: {', '.join(map(str, running))}")
        time.sleep(_TICK)
    return 0


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds, 0 or more")
    return seconds


def _told(wanted: Sequence[_Found], deadline: float, *, again: bool) -> Sequence[_Found]:
    """Tells all to go offline; returns who has not taken it. `again`: asks those until the deadline."""
    while True:
        wanted = [found for found in wanted if not _taken(_ask(found.path, "offline", deadline))]
        if not wanted or not again or time.monotonic() >= deadline:
            return wanted
        time.sleep(_TICK)


def _taken(answer: Mapping[str, Any] | None) -> bool:
    return answer is not None and "state" in answer


def _all(directory: Path, deadline: float) -> list[_Found]:
    found = []
    for path in sockets(directory):
        report = _ask(path, "status", deadline)
        if report is _GONE:
            remove_dead(path)
        else:
            found.append(_Found(path, report))
    return found


def _matches(found: _Found, arguments: argparse.Namespace) -> bool:
    if arguments.pid is not None:
        return bool(pid_of(found.path) == arguments.pid)
    return arguments.app is None or (found.report is not None and found.report.get("app") == arguments.app)


def _words(arguments: argparse.Namespace) -> str:
    if arguments.pid is not None:
        return f" with pid {arguments.pid}"
    return f" of application {arguments.app!r}" if arguments.app is not None else ""


def _offline(path: Path, deadline: float) -> bool:
    """Whether it is offline, or gone altogether. Silence is neither."""
    report = _ask(path, "status", deadline)
    return report is not None and str(report.get("state")) == _OFFLINE


def _ask(path: Path, do: str, deadline: float) -> Mapping[str, Any] | None:
    """Asks once, until the deadline at most; `_GONE` when nobody listens any more, None for no answer."""
    answer = ask(path, {"do": do}, min(deadline, time.monotonic() + _PATIENCE))
    return _GONE if answer is GONE else answer
