"""The load generator: callers that call one after the other until they are told to stop. A process of its own.

Run as a module. Every call that ends is a line of `--calls` (see `records`). Says `ready` when every caller has had an
answer; then answers each line of standard input with a JSON line: the counts so far. `stop`:
when the last call has ended. `pause`: when every caller stands still, until `go`. `report`: at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from dataclasses import dataclass, field

from tests.e2e.loss.records import LEFT, OK, Call
from tests.e2e.loss.shapes import Shape, parse

_SHOWN = 10  # failures told in a report


@dataclass(frozen=True, slots=True)
class Plan:
    """What the callers do. `pause`, `deadline`: seconds between two calls, and of a call (None: without)."""

    name: str
    target: str
    client: str
    shapes: tuple[Shape, ...]
    callers: int
    pause: float
    deadline: float | None
    authority: str

    def shape(self, caller: int) -> Shape:
        """Returns the shape that a caller uses."""
        return self.shapes[caller % len(self.shapes)]

    def between(self, caller: int) -> float:
        """Returns a caller's pause: every third calls rarely, and hears of a change long after the others have."""
        return self.pause * (4 if caller % 3 == 2 else 1)


@dataclass(slots=True)
class Tally:
    """Messages of one call as it goes on. Written by the call's own threads, one for each field."""

    id: str
    caller: int
    sent: int = 0
    received: int = 0
    began: float = field(default_factory=time.monotonic)


class Book:
    """What has been done, and what the callers shall do. Any thread."""

    def __init__(self, path: str, callers: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._changed = threading.Condition()
        self._made = 0  # guarded by _changed, as is all below
        self._failed = 0
        self._failures: list[str] = []
        self._answered: set[int] = set()
        self._callers = self._busy = callers
        self._still = 0  # callers that stand still
        self.stopping = False  # one reference; callers and endless streams look at it
        self.paused = False  # the same

    def done(self, tally: Tally, shape: Shape, outcome: str, details: str = "") -> None:
        """A call has ended."""
        ended = time.monotonic()
        call = Call(tally.id, shape.name, outcome, tally.began, ended, tally.sent, tally.received, details)
        os.write(self._file, call.line().encode())
        with self._changed:
            self._made += 1
            if outcome not in (OK, LEFT):
                self._failed += 1
                self._failures.append(call.line().strip())
                del self._failures[:-_SHOWN]

    def answered(self, caller: int) -> None:
        """A caller has had an answer."""
        if caller not in self._answered:
            with self._changed:
                self._answered.add(caller)
                self._changed.notify_all()

    def standing(self, step: int) -> None:
        """A caller stands still (1), or goes on (-1)."""
        self._count("_still", step)

    def over(self) -> None:
        """A caller has ended."""
        self._count("_busy", -1)

    def _count(self, name: str, step: int) -> None:
        with self._changed:
            setattr(self, name, getattr(self, name) + step)
            self._changed.notify_all()

    def wait_ready(self) -> None:
        """Blocks until every caller has had an answer."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._answered) == self._callers)

    def answer(self, command: str) -> dict[str, object]:
        """Does what was asked and returns the counts."""
        if command in ("pause", "go"):
            self.paused = command == "pause"
        if command == "stop":
            self.stopping = True
        with self._changed:
            if command == "stop":
                self._changed.wait_for(lambda: self._busy == 0)
            elif command == "pause":
                self._changed.wait_for(lambda: self._still == self._busy)
            return {"made": self._made, "failed": self._failed, "failures": self._failures}


def main() -> None:
    """Runs until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--name", required=True, help="begins every call's id: one of its own for each process of a run"
    )
    parser.add_argument("--calls", required=True, help="the file to append to")
    parser.add_argument("--target", required=True)
    parser.add_argument("--kind", choices=("sync", "aio"), default="sync")
    parser.add_argument("--client", choices=("mesh", "stock"), default="mesh", help="our SDK, or grpcio's own channel")
    parser.add_argument("--shapes", default="get,get,watch,get,put,chat", help="caller by caller, in turn")
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--pause", type=float, default=0.02)
    parser.add_argument("--deadline", type=float, default=30.0, help="0: none")
    parser.add_argument("--authority", default="", help="of a stock client's connection: what a proxy routes by")
    options = parser.parse_args()
    shapes = tuple(map(parse, options.shapes.split(",")))
    plan = Plan(
        name=options.name,
        target=options.target,
        client=options.client,
        shapes=shapes,
        callers=options.callers,
        pause=options.pause,
        deadline=options.deadline or None,
        authority=options.authority,
    )
    book = Book(options.calls, plan.callers)
    if options.kind == "sync":
        from tests.e2e.loss.load_sync import begin  # noqa: PLC0415 - one of the two is needed
    else:
        from tests.e2e.loss.load_aio import begin  # noqa: PLC0415 - see above
    held = begin(plan, book)
    book.wait_ready()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(book.answer(line.strip())), flush=True)
    del held
    os._exit(0)  # loops and channels need no goodbye


if __name__ == "__main__":
    main()
