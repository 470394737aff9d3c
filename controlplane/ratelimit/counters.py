"""The port to whatever keeps counts. `memory` and `redis_store` are its adapters; `limiter` calls it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Hit:
    """Add `hits` to the counter `key`, whose window ends at `ends` (unix seconds); nothing of it is needed after."""

    key: str
    hits: int
    ends: int


class CountersDown(Exception):
    """Nothing can be counted at present; says why."""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """How a store fares. `problem`: why it cannot count, "" while it can.

    `counters` that it holds, None where that is not known here; `dropped` before their end.
    """

    problem: str = ""
    counters: int | None = None
    dropped: int = 0

    @property
    def up(self) -> bool:
        """Whether it counts."""
        return not self.problem


class CounterStore(Protocol):
    """Counters by key. Used on one event loop, but for `facts`."""

    async def add(self, hits: Sequence[Hit], now: float) -> Sequence[int]:
        """Adds all hits, each at once, and returns the counts after each. Raises CountersDown, in bounded time."""
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...

    def facts(self) -> StoreFacts:
        """Returns how it fares. From any thread."""
        ...
