"""The shapes of calls in a run, and what each sends and expects. Shared by both load generators and the server. Pure.

A shape is written NAME or NAME:AMOUNT. `get`, `read` (declared idempotent): unary, AMOUNT seconds of work. `watch`:
server streaming, `put`: client streaming, `chat`: both, of AMOUNT messages; `watch:-1` never ends. Messages have
numbers, and a gap is an error.
"""

from __future__ import annotations

from dataclasses import dataclass

SERVICE = "shop.Orders"
IDEMPOTENT = ("read",)
PACE = 0.02  # seconds between two messages of a stream
_AMOUNTS = {"get": 0.002, "read": 0.002, "watch": 5.0, "put": 5.0, "chat": 5.0}


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape. `amount`: seconds of work for unary calls, messages for streams (below 0: without end)."""

    name: str
    amount: float

    @property
    def method(self) -> str:
        """The path on the wire."""
        return f"/{SERVICE}/{self.name.capitalize()}"

    @property
    def messages(self) -> int:
        """How many messages a stream has in its longer direction."""
        return int(self.amount)


def parse(text: str) -> Shape:
    """Reads a shape; KeyError for a name that is none."""
    name, _, amount = text.partition(":")
    return Shape(name, float(amount) if amount else _AMOUNTS[name])


class Gap(Exception):
    """A message is missing, doubled, or not the one that was asked for."""


def message(index: int) -> bytes:
    """Returns the message number `index` of a stream."""
    return str(index).encode()


def check(received: bytes, index: int) -> None:
    """Raises Gap unless the message is number `index`."""
    if received != message(index):
        raise Gap(f"message {index} is {received[:40]!r}")
