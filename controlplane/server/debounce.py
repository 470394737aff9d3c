"""When to send changes that come in bursts: after a quiet moment, and at the latest after a given time. Pure.

`service` notes each commit, sleeps until `deadline` and asks `due`.
"""

from __future__ import annotations


class Debounce:
    """`quiet`: seconds without a change after which what has gathered goes out. `most`: seconds it waits at most.

    Mutable; owned by the server's loop thread.
    """

    __slots__ = ("_first", "_last", "_most", "_quiet")

    def __init__(self, quiet: float = 0.02, most: float = 0.5) -> None:
        self._quiet = quiet
        self._most = most
        self._first: float | None = None  # when the oldest change came that has not gone out
        self._last = 0.0

    def note(self, now: float) -> None:
        """Takes note of a change."""
        if self._first is None:
            self._first = now
        self._last = now

    @property
    def deadline(self) -> float | None:
        """When to send; None while there is nothing to send. A later change may put it off."""
        return None if self._first is None else min(self._last + self._quiet, self._first + self._most)

    def due(self, now: float) -> bool:
        """Returns whether it is time, and starts anew if it is."""
        deadline = self.deadline
        if deadline is None or now < deadline:
            return False
        self._first = None
        return True
