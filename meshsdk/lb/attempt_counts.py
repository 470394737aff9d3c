"""How the attempts on one endpoint ended, counted: what outlier detection judges by. Pure.

gRPC statuses count as the HTTP statuses that Envoy maps them to, for every algorithm: UNKNOWN, INTERNAL and DATA_LOSS
are 500, UNIMPLEMENTED 501, UNAVAILABLE 503, DEADLINE_EXCEEDED 504; the last two are gateway errors. Any other status
is the server's own word to its caller (NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED ...) and counts as success.
gRFC A50 counts each status but OK as a failure; then callers that ask for what does not exist would get good endpoints
ejected. CANCELLED counts as nothing: it is the caller who changed its mind.
"""

from __future__ import annotations

from typing import NamedTuple

GATEWAY = frozenset(("UNAVAILABLE", "DEADLINE_EXCEEDED"))
ERRORS = GATEWAY | {"UNKNOWN", "INTERNAL", "DATA_LOSS", "UNIMPLEMENTED"}


class Counted(NamedTuple):
    """Attempts of an endpoint since it came. `lost`: failures of this side, counted apart from answers."""

    good: int = 0
    bad: int = 0
    lost: int = 0


class AttemptCounts:
    """The counts of one endpoint.

    Thread rule: any thread counts, without a lock. Two that count the same at the same moment may lose one of the two;
    rates do not feel that, and a streak of failures is at most one longer. `read` and `forgive` are called by the one
    thread that judges.
    """

    __slots__ = ("_good_then", "bad", "errors", "gateway_errors", "good", "losses", "lost")

    def __init__(self) -> None:
        self.good = 0
        """Answers that are no server error; a success is counted by `good += 1` and nothing else."""
        self.bad = 0
        self.lost = 0
        self._good_then = 0  # `good` when the streaks were last looked at: another one by now, and they are broken
        self.errors = 0
        """Server errors in a row; likewise `gateway_errors`, and `losses`: failures of this side in a row."""
        self.gateway_errors = 0
        self.losses = 0

    def failed(self, code: str, *, lost: bool) -> None:
        """Counts an attempt that did not end OK. `lost`: as a failure of this side, whatever the code."""
        if code == "CANCELLED":
            return
        if self.good != self._good_then:
            self.forgive()
        if lost:
            self.lost += 1
            self.losses += 1
        elif code in ERRORS:
            self.bad += 1
            self.losses = 0  # it was reached
            self.errors += 1
            self.gateway_errors = self.gateway_errors + 1 if code in GATEWAY else 0
        else:
            self.good += 1

    def forgive(self) -> None:
        """Streaks begin anew."""
        self._good_then = self.good
        self.errors = self.gateway_errors = self.losses = 0

    def read(self) -> Counted:
        """Returns the counts so far; they never go down."""
        return Counted(self.good, self.bad, self.lost)
