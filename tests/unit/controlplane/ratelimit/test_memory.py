"""Counts in this process: what is kept, and what goes when."""

from __future__ import annotations

import asyncio

from controlplane.ratelimit.counters import Hit
from controlplane.ratelimit.memory import MemoryCounters


def add(store: MemoryCounters, *keys: str, ends: int = 60, now: float = 0.0) -> list[int]:
    """Hits each key once."""
    return list(asyncio.run(store.add([Hit(key, 1, ends) for key in keys], now)))


def test_a_window_that_is_over_goes():
    """Counters of a window live to its end and take no room after, also if nobody asks for them again."""
    store = MemoryCounters()
    add(store, "a", "b")
    add(store, "day", ends=86_400)
    assert store.facts().counters == 3
    add(store, "c", ends=120, now=60.0)
    assert store.facts().counters == 2
    assert add(store, "day", ends=86_400, now=61.0) == [2]


def test_bound():
    """A full store drops what was hit longest ago of the window that ends first, and says so."""
    store = MemoryCounters(most=3)
    add(store, "day", ends=86_400)
    add(store, "a", "b")
    add(store, "a")
    assert add(store, "new") == [1]
    assert add(store, "day", ends=86_400) == [2]
    assert add(store, "a") == [3]
    assert store.facts().counters == 3
    assert store.facts().dropped == 1
    assert add(store, "b") == [1]


def test_bound_of_one_window():
    """A store that holds one counter only counts each new one from the start."""
    store = MemoryCounters(most=1)
    assert add(store, "a", "a", "b", "b", "a") == [1, 2, 1, 2, 1]
    assert store.facts().counters == 1
