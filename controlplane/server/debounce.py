"""When to send changes that come in bursts: after a quiet moment, and at the latest after a given time. Pure.

`service` notes each commit, sleeps until `deadline` and asks `due`. Under steady change there may be no quiet moment at
all; waiting for one as long as it is allowed would only make every change late. So a change waits twice the quiet time
at the most, and longer only while the server is busy: then what gathers spares it work.
"""

from __future__ import annotations

_PATIENCE = 2.0  # quiet times that a change waits for a quiet moment
_BUSY = 0.8  # share of its time that the server may spend on sending


class Debounce:
    """`quiet`: seconds without a change after which what has gathered goes out. `most`: seconds it waits at most.

    Mutable; owned by the server's loop thread.
    """

    __slots__ = ("_first", "_last", "_most", "_quiet", "_rested", "_sent")

    def __init__(self, quiet: float = 0.02, most: float = 0.5) -> None:
        self._quiet = quiet
        self._most = most
        self._first: float | None = None  # when the oldest change came that has not gone out
        self._last = 0.0
        self._sent = 0.0  # when changes went out the last time
        self._rested = 0.0  # when the server will have caught breath after that

    def note(self, now: float) -> None:
        """Takes note of a change."""
        if self._first is None:
            self._first = now
        self._last = now

    def worked(self, seconds: float) -> None:
        """Takes note of how long the server has worked, all in all, since changes went out the last time."""
        self._rested = self._sent + seconds / _BUSY

    @property
    def deadline(self) -> float | None:
        """When to send; None while there is nothing to send. A later change, or work, may put it off."""
        if self._first is None:
            return None
        patient = max(self._first + _PATIENCE * self._quiet, self._rested)
        return min(max(self._last + self._quiet, self._rested), patient, self._first + self._most)

    def due(self, now: float) -> bool:
        """Returns whether it is time, and starts anew if it is."""
        deadline = self.deadline
        if deadline is None or now < deadline:
            return False
        self._first = None
        self._sent = now
        return True
