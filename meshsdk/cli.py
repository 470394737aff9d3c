"""`meshsdk`: the commands for programs and machines that are in the mesh. Each is loaded by name when it is asked for.

Exit codes: 0 done, 1 refused or failed with one clear line on stderr, 2 wrong usage. Decides nothing itself.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from meshsdk.errors import MeshError
from meshsdk.version import VERSION


@dataclass(frozen=True, slots=True)
class _Command:
    """`module` has `configure(parser)` and `main(arguments) -> exit code`."""

    module: str
    summary: str


_COMMANDS = {
    "run": _Command("meshsdk.instrument.command", "run an unchanged program inside the mesh"),
    "doctor": _Command("meshsdk.sight.doctor_command", "say what a process in the mesh has, lacks and ignores"),
    "explain": _Command("meshsdk.sight.explain_command", "say where a call goes, and why"),
    "offline": _Command("meshsdk.lifecycle.command", "take a served process offline without losing a call"),
    "shim": _Command("meshsdk.shim.command", "put an application in another language into the mesh"),
}


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command; `words`: without the program's name, None: those of this process."""
    given = list(sys.argv[1:] if words is None else words)
    chosen = next((word for word in given if not word.startswith("-")), "")
    arguments = _parser(chosen).parse_args(given)
    try:
        return int(_module(arguments.command).main(arguments))
    except MeshError as error:
        print(f"meshsdk {arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser(chosen: str) -> argparse.ArgumentParser:
    """Builds the parser; only the chosen command's module is imported for its options."""
    parser = argparse.ArgumentParser(prog="meshsdk", description="A service mesh inside the process.")
    parser.add_argument("--version", action="version", version=f"meshsdk {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in _COMMANDS.items():
        options = commands.add_parser(name, help=command.summary, description=command.summary.capitalize() + ".")
        if name == chosen:
            _module(name).configure(options)
    return parser


def _module(name: str) -> Any:
    return importlib.import_module(_COMMANDS[name].module)
