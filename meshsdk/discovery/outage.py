"""What is believed of a registry that says that many instances are gone at once. Pure: `now` comes in.

An instance that drains says itself that it goes, and is believed. Those that vanish without a word (a lease that
lapsed, a listing in which they are missing) are believed while at least half of what there was remains; beyond that,
the registry is the likelier one to be ill: it restarted without its data, or lost sight of the instances. Then they
stay in use, in doubt, until they are listed again or `period` is over; and with them those that were believed to be
gone within the last `period`, for leases lapse one by one. docs/discovery.md compares this with Envoy's panic threshold
and Nacos's push-empty protection. `doubt`, which says who stays and who comes back, keeps one `Protection` for each
application.
"""

from __future__ import annotations

DEFAULT_PERIOD = 60.0  # seconds: four leases of `meshsdk.serve`; whoever lives has registered anew by then


class Protection:
    """Remembers the most instances there were lately. Owned by `doubt.Doubts`.

    `period` in seconds; 0 turns the protection off.
    """

    __slots__ = ("_peak", "_peak_at", "period")

    def __init__(self, period: float) -> None:
        self.period = period
        self._peak = 0
        self._peak_at = 0.0

    @property
    def peak(self) -> int:
        """The most instances there were lately, without those that said farewell."""
        return self._peak

    def note(self, count: int, now: float) -> None:
        """There are `count` instances now that are in use and not in doubt."""
        if count >= self._peak or now - self._peak_at >= self.period:
            self._peak = count
            self._peak_at = now

    def said_farewell(self, count: int) -> None:
        """`count` instances went by their own word: they are not missed."""
        self._peak = max(0, self._peak - count)

    def doubts(self, remaining: int, now: float) -> bool:
        """Tells whether a loss without a word that leaves `remaining` instances is to be doubted."""
        lately = self._peak if now - self._peak_at < self.period else 0
        return self.period > 0 and remaining * 2 < lately
