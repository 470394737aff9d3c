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
_ENDING = frozenset("cm")  # those that name the program: what follows is the program's
_VALUED = frozenset("WX")  # those with a value, attached or as the next word
_LONG_VALUED = "--check-hash-based-pycs"


class _UsageError(MeshError):
    """The command line says nothing that could be run."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `meshsdk run`."""
    parser.usage = "meshsdk run [--] PROGRAM [ARGUMENT ...]"
    parser.epilog = (
        "PROGRAM: a Python file (app.py), -m MODULE, or a command that runs Python (python app.py, gunicorn app:app)."
    )
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM", help="the program and its arguments")
    parser.set_defaults(parser=parser)
    parser.prefix_chars = ""  # no word is an option of ours: argparse would take words of the program apart


def main(arguments: argparse.Namespace) -> int:
    """Runs the program in place of this process; returns only after `--help`.

    Raises MeshError, and SystemExit(2) after the usage for a line without a program.
    """
    words = [word for index, word in enumerate(arguments.program) if index or word != "--"]
    if arguments.program[:1] in (["-h"], ["--help"]):
        arguments.parser.print_help()
        return 0
    try:
        command = command_of(words, sys.executable)
    except _UsageError as error:
        arguments.parser.error(str(error))
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
    if not words or words == ["-m"]:
        raise _UsageError("name the program: meshsdk run app.py, or meshsdk run -- python app.py")
    first = words[0]
    if first.startswith("-m") or first.endswith((".py", ".pyz")):
        return [python, *words]
    if first.startswith("-"):
        raise _UsageError(f"{first}: is no option of meshsdk run; write meshsdk run -- python {' '.join(words)}")
    if Path(first).name.startswith("python"):
        _refuse_isolation(words[1:])
    return list(words)


def _refuse_isolation(words: Sequence[str]) -> None:
    """Reads Python's own options as Python does: letters in one word, values attached or as the next word."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word in ("-", "--"):
            return
        if word.startswith("--"):
            if word == _LONG_VALUED:
                next(rest, None)
            continue
        for place, letter in enumerate(word[1:], 2):
            if letter in _ISOLATED:
                raise MeshError(f"python {word}: -I, -E and -S keep the mesh out of the program; leave them away")
            if letter in _ENDING:
                return
            if letter in _VALUED:
                if place == len(word):
                    next(rest, None)
                break


def woven_environment(environ: Mapping[str, str], start: str, pid: str) -> dict[str, str]:
    """Returns the environment in which Python finds `start` first. Programs that the program starts inherit it.

    An empty entry of PYTHONPATH is the working directory, but a PYTHONPATH that is empty has no entry.
    """
    given = environ.get("PYTHONPATH", "")
    rest = [place for place in given.split(os.pathsep) if place != start] if given else []
    return {**environ, "PYTHONPATH": os.pathsep.join([start, *rest]), "MESHSDK_RUN_PID": pid}
