"""Answers questions about rate limits: the rules in force, a store of counts, and a tally of what was decided.

Called by `controlplane.server.rate_limits` on the server's event loop. The decision itself is `decide`'s.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from controlplane.model.rate_limits import RateLimit
from controlplane.ratelimit.counters import CountersDown, CounterStore, StoreFacts
from controlplane.ratelimit.decide import Question, Status, judge, plan
from controlplane.ratelimit.rules import Rules

_UNKNOWN_DOMAIN = ""  # callers may make names up; figures are kept for those that are configured


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question came to. `headers`: the domain wants RateLimit-* headers with the answer."""

    statuses: tuple[Status, ...]
    headers: bool = False

    @property
    def over(self) -> bool:
        """Whether the request must not go on."""
        return any(status.code.refuses for status in self.statuses)


@dataclass(frozen=True, slots=True)
class LimitFigures:
    """What was decided since the start. `decisions`: descriptors by (domain, name of the limit, outcome).

    `failures`: questions that the store could not count.
    """

    decisions: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    failures: int = 0
    store: StoreFacts = field(default_factory=StoreFacts)


class Limiter:
    """Owned by the event loop of `ask`, but for the tally (guarded by `_lock`), which `figures` reads on any thread.

    `limits`: the RateLimits in force by domain; a mapping that changed is another object. `clock`: unix seconds.
    """

    def __init__(
        self,
        limits: Callable[[], Mapping[str, RateLimit]],
        store: CounterStore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limits = limits
        self._store = store
        self._clock = clock
        self._seen: Mapping[str, RateLimit] | None = None
        self._rules = Rules()
        self._lock = threading.Lock()
        self._decisions: Counter[tuple[str, str, str]] = Counter()
        self._failures = 0

    async def ask(self, question: Question) -> Answer:
        """Counts and decides. Raises CountersDown."""
        rules, now = self._current(), self._clock()
        planned = plan(rules, question, now)
        hits = [each.hit for each in planned if each.hit is not None]
        try:
            counts = await self._store.add(hits, now) if hits else ()
        except CountersDown:
            with self._lock:
                self._failures += 1
            raise
        statuses = judge(planned, counts, now)
        domain = rules.domains.get(question.domain)
        self._tell(question.domain if domain else _UNKNOWN_DOMAIN, statuses)
        return Answer(statuses, domain is not None and domain.headers)

    def _current(self) -> Rules:
        limits = self._limits()
        if limits is not self._seen:
            if limits != self._seen:
                self._rules = Rules.of(limits.values())
            self._seen = limits
        return self._rules

    def _tell(self, domain: str, statuses: tuple[Status, ...]) -> None:
        with self._lock:
            for status in statuses:
                self._decisions[domain, status.limit.name if status.limit else "", status.code.value] += 1

    def figures(self) -> LimitFigures:
        """Returns what was decided so far. From any thread."""
        with self._lock:
            decisions, failures = dict(self._decisions), self._failures
        return LimitFigures(decisions, failures, self._store.facts())

    async def close(self) -> None:
        """Lets go of the store."""
        await self._store.close()
