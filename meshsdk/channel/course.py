"""The course of one call: its attempts so far, and where and as what it is counted at its end.

Made by every call but a blocking one that succeeds at once; `AttemptEnd` ends it for a call that nobody holds any more.
What is counted as what: docs/rollout.md, "Counts".
"""

from __future__ import annotations

from typing import Protocol

from meshsdk.telemetry.port import Sight
from meshsdk.xds_client.load_counts import Tally


class Unplaced(Protocol):
    """What a course needs of its target."""

    def unplaced(self) -> Tally:
        """Returns where a call counts that ended before it had an endpoint."""


class Ends(Protocol):
    """What a course needs of a passage."""

    def end(self, code: str) -> None:
        """The call has ended with a gRPC status, by name."""


class Course:
    """Owned by whoever makes the call's next attempt; ended once, under the rule of the call it belongs to."""

    __slots__ = ("_last_unsent", "_sent", "_tally", "_target", "_unsent", "observed", "over", "passage")

    def __init__(self, target: Unplaced) -> None:
        """`target`: of the call."""
        self._target = target
        self._tally: Tally | None = None
        self._sent = self._unsent = 0
        self._last_unsent = False
        self.over = False
        self.passage: Ends | None = None
        """Told of the end too, where the call has a plan; set before its first attempt."""
        self.observed: Sight | None = None
        """Told of it all, where somebody looks; set as the call begins."""

    def take(self, tally: Tally) -> None:
        """An attempt begins at an endpoint of `tally`: the call counts there from now on."""
        if self._tally is not None:
            self._tally.moved_away()
        self._tally = tally

    def attempted(self, *, unsent: bool) -> None:
        """An attempt has ended; `unsent`: it surely never left the process."""
        self._last_unsent = unsent
        if unsent:
            self._unsent += 1
        else:
            self._sent += 1

    def succeed(self) -> None:
        """The attempt that runs has ended OK, and with it the call."""
        if self._tally is not None and not self.over and not self._sent and not self._unsent:
            self.over = True
            self._tally.succeed()
            if self.passage is not None:
                self.passage.end("OK")
            if self.observed is not None:
                self.observed.end("OK", "")
        else:
            self.attempted(unsent=False)
            self.end("OK")

    def end(self, status: str, details: str | None = "", *, cancelled: bool = False) -> None:
        """The call has ended with a gRPC status, by name; `cancelled`: by the application. Only the first end counts.

        An attempt that is not the last one was followed by another: unsent ones by a move, others by a retry.
        """
        if self.over:
            return
        self.over = True
        tally = self._tally or self._target.unplaced()
        tally.end(
            status,
            cancelled=cancelled,
            retried=self._sent > (not self._last_unsent),
            moved=self._unsent > self._last_unsent,
            doubled=self._sent > 1,
        )
        if self.passage is not None:
            self.passage.end(status)
        if self.observed is not None:
            self.observed.end(status, details or "")
