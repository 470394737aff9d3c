"""What is written down about every call: by its caller one line when it ended, by the server one at begin and end.

Written by `load_sync`, `load_aio` and `server`; read by `verdict`. Text in files that are only ever appended to, with
one write for a line, so that a process killed at any moment has told all that it did.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CALL_ID = "call-id"  # metadata of every call: unique over all callers of a run
OK = "OK"
LEFT = "LEFT"  # the caller itself ended a stream that has no end
RAISED = "RAISED"  # an exception that is no status
WRONG = "WRONG"  # an answer came, and it is not the one that was asked for


@dataclass(frozen=True, slots=True)
class Call:
    """What a caller knows of a call. `began`, `ended`: seconds of the machine's monotonic clock, one for all processes.

    `outcome`: a status code's name, LEFT, RAISED or WRONG. `sent`, `received`: messages that the caller gave and got.
    """

    id: str
    shape: str
    outcome: str
    began: float
    ended: float
    sent: int
    received: int
    details: str = ""

    @property
    def caller(self) -> str:
        """Who made it: one caller makes one call after the other."""
        return self.id.rpartition(".")[0]

    def line(self) -> str:
        """Returns the line that `calls` reads."""
        numbers = f"{self.began:.6f} {self.ended:.6f} {self.sent} {self.received}"
        return f"{self.id} {self.shape} {self.outcome} {numbers} {' '.join(self.details.split())}\n"


@dataclass(frozen=True, slots=True)
class Execution:
    """What a server knows of a call: it began, and perhaps came to its end with so many messages `received`, `sent`."""

    id: str
    ended: bool = False
    received: int = 0
    sent: int = 0


class Ledger:
    """A server's file. Any thread: each line is one write to a file opened for appending."""

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def begin(self, call: str) -> None:
        """A handler has begun on a call."""
        os.write(self._file, f"B {call}\n".encode())

    def end(self, call: str, received: int, sent: int) -> None:
        """The handler has done all of it; the answer, or the last of them, is about to leave."""
        os.write(self._file, f"E {call} {received} {sent}\n".encode())


def calls(lines: Iterable[str]) -> Iterator[Call]:
    """Reads a caller's file."""
    for line in lines:
        call, shape, outcome, began, ended, sent, received, *details = line.split(maxsplit=7)
        yield Call(call, shape, outcome, float(began), float(ended), int(sent), int(received), "".join(details).strip())


def executions(lines: Iterable[str]) -> Iterator[Execution]:
    """Reads a server's file: one for each begin, in order. A call executed twice at once on a server is two."""
    open_: dict[str, int] = {}
    found: list[Execution] = []
    for line in lines:
        what, call, *numbers = line.split()
        if what == "B":
            open_[call] = len(found)
            found.append(Execution(call))
        else:
            found[open_[call]] = Execution(call, True, int(numbers[0]), int(numbers[1]))
    yield from found
