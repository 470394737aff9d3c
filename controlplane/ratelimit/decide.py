"""Which counters a question touches, and what their counts come to: fixed windows. Pure, `now` is an argument.

Called by `limiter`, which asks a `CounterStore` between `plan` and `judge`. Semantics of envoyproxy/ratelimit: a hit is
counted also where it is refused, and of one question all descriptors are counted, whichever of them is over.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from controlplane.model.rate_limits import Limit
from controlplane.ratelimit.counters import Hit
from controlplane.ratelimit.rules import Entries, Rules

MOST = 2**32 - 1  # what an answer can say of remaining requests
_LONGEST_KEY = 256  # characters of a counter's name; longer ones are named by their digest


class Code(enum.Enum):
    """What became of one descriptor. UNLIMITED, UNKNOWN (no limit is configured) and SHADOW are answered as OK."""

    OK = "ok"
    OVER = "over_limit"
    SHADOW = "shadow"
    UNLIMITED = "unlimited"
    UNKNOWN = "no_limit"

    @property
    def refuses(self) -> bool:
        """Whether the request must not go on."""
        return self is Code.OVER


@dataclass(frozen=True, slots=True)
class Asked:
    """One descriptor of a question. `hits`: its own, None for the question's.

    `override`: in place of a configured limit.
    """

    entries: Entries
    hits: int | None = None
    override: Limit | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What a client asks: may so many `hits` go on?"""

    domain: str
    descriptors: tuple[Asked, ...]
    hits: int = 1


@dataclass(frozen=True, slots=True)
class Planned:
    """The limit of one descriptor, None for none; `hit`: what is to be counted for it, None for nothing."""

    limit: Limit | None
    hit: Hit | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What became of one descriptor. `remaining` requests of the window; `reset`: seconds until the next window."""

    code: Code
    limit: Limit | None = None
    remaining: int = 0
    reset: float = 0.0


def plan(rules: Rules, question: Question, now: float) -> tuple[Planned, ...]:
    """Returns what is to be counted at `now` (unix seconds), for each descriptor in order."""
    domain = rules.domains.get(question.domain)
    if domain is None:
        return tuple(Planned(None) for _ in question.descriptors)
    planned = []
    for asked in question.descriptors:
        limit = asked.override or domain.limit(asked.entries)
        if limit is None or limit.unlimited:
            planned.append(Planned(limit))
            continue
        seconds = limit.unit.value
        start = int(now // seconds) * seconds
        key = f"{_named(question.domain, asked.entries)}|{limit.unit.name.lower()}|{start}"
        hits = question.hits if asked.hits is None else asked.hits
        planned.append(Planned(limit, Hit(key, hits, start + seconds)))
    return tuple(planned)


def judge(planned: Sequence[Planned], counts: Sequence[int], now: float) -> tuple[Status, ...]:
    """Returns what the `counts` after the planned hits come to; there is one for each planned hit, in order."""
    counted = iter(counts)
    return tuple(_status(each, 0 if each.hit is None else next(counted), now) for each in planned)


def _status(planned: Planned, count: int, now: float) -> Status:
    limit, hit = planned.limit, planned.hit
    if limit is None:
        return Status(Code.UNKNOWN)
    if hit is None:
        return Status(Code.UNLIMITED, limit, MOST)
    over = Code.SHADOW if limit.shadow else Code.OVER
    code = over if count > limit.requests else Code.OK
    return Status(code, limit, max(0, limit.requests - count), max(0.0, hit.ends - now))


def _named(domain: str, entries: Entries) -> str:
    """Returns the name of a descriptor's counters: different for different descriptors, whatever their entries hold."""
    parts = (f"{quote(key, safe='/.:@-')}={quote(value, safe='/.:@-')}" for key, value in entries)
    name = "|".join((quote(domain, safe="/.:@-"), *parts))
    if len(name) <= _LONGEST_KEY:
        return name
    return f"#{hashlib.blake2b(name.encode(), digest_size=20).hexdigest()}"  # "#" is quoted in all others
