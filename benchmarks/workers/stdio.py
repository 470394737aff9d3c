"""The protocol between a benchmark and its worker processes: a line of JSON asks, a line of JSON answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

Command = dict[str, Any]


def say(answer: Command) -> None:
    """Writes one answer."""
    print(json.dumps(answer), flush=True)


def serve(handle: Callable[[Command], Command]) -> None:
    """Answers each line of standard input until it closes."""
    for line in sys.stdin:
        say(handle(json.loads(line)))
