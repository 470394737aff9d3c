"""Counts in this process: a `CounterStore` for one control plane. Bounded; a restart forgets them."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.ratelimit.counters import Hit, StoreFacts

_MOST = 200_000  # counters; some 60 MB


class MemoryCounters:
    """Counters by the end of their window, so that a window which is over goes as a whole.

    When full, that counter goes which was not hit for longest of the window that ends soonest: it would have gone first
    anyway. Owned by the event loop of its calls; `facts` reads numbers that they keep.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._windows: dict[int, dict[str, int]] = {}  # end -> counts, the one hit last at the end
        self._held = 0
        self._dropped = 0

    async def add(self, hits: Sequence[Hit], now: float) -> Sequence[int]:
        """See `CounterStore`. Never fails."""
        for end in [end for end in self._windows if end <= now]:
            self._held -= len(self._windows.pop(end))
        return [self._count(hit) for hit in hits]

    def _count(self, hit: Hit) -> int:
        window = self._windows.setdefault(hit.ends, {})
        before = window.pop(hit.key, None)
        if before is None:
            if self._held >= self._most:
                self._drop()
                window = self._windows.setdefault(hit.ends, {})
            self._held += 1
        count = window[hit.key] = (before or 0) + hit.hits
        return count

    def _drop(self) -> None:
        end = min(end for end, window in self._windows.items() if window)
        window = self._windows[end]
        del window[next(iter(window))]
        if not window:
            del self._windows[end]
        self._held -= 1
        self._dropped += 1

    async def close(self) -> None:
        """See `CounterStore`: there is nothing to let go."""

    def facts(self) -> StoreFacts:
        """See `CounterStore`."""
        return StoreFacts(counters=self._held, dropped=self._dropped)
