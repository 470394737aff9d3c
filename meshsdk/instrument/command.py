"""`meshsdk run`: replaces itself by the program, prepared so that Python runs `start/sitecustomize` in it first.

The program keeps this process: its id, standard streams, signals and exit code are what they are without the mesh.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from meshsdk.errors import MeshError

_START = Path(__file__).parent / "start"
_ISOLATED = frozenset("IES")  # Python's options by which it reads neither PYTHONPATH nor sitecustomize


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `meshsdk run`."""
    parser.usage = "meshsdk run [--] PROGRAM [ARGUMENT ...]"
    parser.epilog = (
        "PROGRAM: a Python file (app.py), -m MODULE, or a command that runs Python (python app.py, gunicorn app:app)."
    )
    parser.add_argument("-m", dest="module", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM", help="the program and its arguments")


def main(arguments: argparse.Namespace) -> int:
    """Runs the program in place of this process; returns only by raising MeshError."""
    words = [word for index, word in enumerate(arguments.program) if index or word != "--"]
    if arguments.module is not None:
        words = ["-m", *arguments.module]
    command = command_of(words, sys.executable)
    executable = shutil.which(command[0])
    if executable is None:
        raise MeshError(f"{command[0]}: there is no such program")
    environment = woven_environment(os.environ, str(_START), str(os.getpid()))
    sys.stdout.flush()
    try:
        os.execve(executable, command, environment)  # noqa: S606 - running the user's program is the command
    except OSError as error:
        raise MeshError(f"{executable}: cannot be run: {error.strerror}") from error


def command_of(words: Sequence[str], python: str) -> list[str]:
    """Returns the command to run. A file of Python or `-m` runs with this Python; anything else is a command itself.

    Raises MeshError for no program at all, and for a Python told to look at nothing from outside.
    """
    if not words:
        raise MeshError("name the program: meshsdk run app.py, or meshsdk run -- python app.py")
    first = words[0]
    if first == "-m" or first.endswith((".py", ".pyz")):
        return [python, *words]
    if first.startswith("-"):
        raise MeshError(f"{first}: is no option of meshsdk run; write meshsdk run -- python {' '.join(words)}")
    if Path(first).name.startswith("python"):
        _refuse_isolation(words[1:])
    return list(words)


def _refuse_isolation(words: Sequence[str]) -> None:
    for word in words:
        if not word.startswith("-") or word in ("-", "-c", "-m"):
            return
        if not word.startswith("--") and not _ISOLATED.isdisjoint(word[1:]):
            raise MeshError(f"python {word}: -I, -E and -S keep the mesh out of the program; leave them away")


def woven_environment(environ: Mapping[str, str], start: str, pid: str) -> dict[str, str]:
    """Returns the environment in which Python finds `start` first. Programs that the program starts inherit it."""
    rest = [place for place in environ.get("PYTHONPATH", "").split(os.pathsep) if place and place != start]
    return {**environ, "PYTHONPATH": os.pathsep.join([start, *rest]), "MESHSDK_RUN_PID": pid}
