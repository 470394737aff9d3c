"""How a request moved a subscription: what a machine tells, and the index of who wants what books. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shift:
    """How a request moved a subscription: names `added` and `dropped`, wildcard turned on or off (None: as it was).

    `collections_added` and `collections_dropped`: keys of glob collections.
    """

    type_url: str
    added: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    wildcard: bool | None = None
    collections_added: frozenset[str] = frozenset()
    collections_dropped: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        moved = self.added or self.dropped or self.collections_added or self.collections_dropped
        return bool(moved) or self.wildcard is not None
