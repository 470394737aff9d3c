"""The policy of hedged calls (gRFC A6): when further attempts begin while others run, and which of them is the call.

Driven by `meshsdk.channel.hedged_sync` and `hedged_aio`, one object a call: they report what happened (`started`,
`refused`, `failed`, `answered`), then ask `step` until it has nothing to say, and again when the time of `due` has
come. It makes no attempt, cancels none and reads no clock.

    what happened                          what follows
    -------------------------------------  -------------------------------------------------------------------
    an attempt began                       the next one `delay` later
    one answered, or failed fatally        it is the call: Won
    one failed with a non-fatal status     the next one at once, later ones `delay` after that
    the same with pushback                 the next one no sooner than that; negative: none any more
    one was never sent                     no attempt at all: another one at once
    an attempt could not begin             none any more (no budget, no endpoint): those that run decide
    none runs and none is to come          the last one that failed is the call: Won
"""

from __future__ import annotations

from dataclasses import dataclass

from meshsdk.interceptors.policies.recover import MAX_MOVES
from meshsdk.interceptors.policies.steps import Attempt, Outcome
from meshsdk.model.policy import Hedging

MOST_ATTEMPTS = 5  # A6: a greater `maxAttempts` is treated as this


@dataclass(frozen=True, slots=True)
class Won:
    """Attempt `number` is the call, well or not; the others are to be cancelled. The last word of a `Hedge`."""

    number: int


class Hedge:
    """One call. Not thread-safe: guarded by whatever guards the call. Times are monotonic seconds."""

    __slots__ = (
        *("_deadline", "_due", "_last", "_left", "_moves", "_not_before"),
        *("_policy", "_running", "_sent", "_started", "_tried", "_winner"),
    )

    def __init__(self, policy: Hedging, deadline: float | None, now: float) -> None:
        """`deadline` of the whole call; no further attempt begins from then on."""
        self._policy = policy
        self._deadline = deadline
        self._due: float | None = now  # when the next attempt begins; None: not before something happens
        self._not_before = now  # what pushback asks for
        self._left = min(policy.max_attempts, MOST_ATTEMPTS)
        self._started = self._sent = self._moves = 0
        self._running: set[int] = set()
        self._tried: set[str] = set()
        self._last: int | None = None
        self._winner: int | None = None

    @property
    def due(self) -> float | None:
        """When `step` has to be asked again though nothing happened; None: never."""
        return None if self._winner is not None else self._due

    def step(self, now: float) -> Attempt | Won | None:
        """Tells what to do next: begin an attempt (`started` or `refused` must follow), end the call, or wait."""
        if self._winner is None and self._due is not None and self._due <= now:
            if self._started == 0 or self._in_time(now):
                return Attempt(previous=self._sent, avoid=frozenset(self._tried))
            self.refused()
        if self._winner is None and not self._running and self._due is None:
            self._winner = self._last
        return None if self._winner is None else Won(self._winner)

    def started(self, address: str, now: float) -> int:
        """An attempt begins at an endpoint; returns its number."""
        number = self._started
        self._started += 1
        self._sent += 1
        self._left -= 1
        self._running.add(number)
        self._tried.add(address)
        self._schedule(now + self._policy.delay)
        return number

    def refused(self) -> None:
        """The attempt that `step` asked for cannot begin: neither will another."""
        self._left = 0
        self._due = None

    def answered(self, number: int) -> None:
        """The first message of an answer has come, or its end with OK: A6 commits the call to this attempt."""
        if self._winner is None:
            self._winner = number

    def failed(self, number: int, outcome: Outcome, now: float) -> None:
        """An attempt has ended otherwise, before it answered."""
        self._running.discard(number)
        self._last = number
        if self._winner is not None:
            return
        if outcome.unsent and self._moves < MAX_MOVES:
            self._moves += 1
            self._sent -= 1
            self._left += 1
            self._schedule(now)
        elif outcome.code not in self._policy.non_fatal:
            self._winner = number
        elif outcome.pushback is not None and outcome.pushback < 0:
            self.refused()
        else:
            self._not_before = max(self._not_before, now + (outcome.pushback or 0.0))
            self._schedule(now)

    def _schedule(self, when: float) -> None:
        """An attempt that would come after the deadline is not waited for: the call ends with the error it has."""
        when = max(when, self._not_before)
        self._due = when if self._left > 0 and self._in_time(when) else None

    def _in_time(self, when: float) -> bool:
        return self._deadline is None or when < self._deadline
