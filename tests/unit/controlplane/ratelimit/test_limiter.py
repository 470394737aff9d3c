"""Questions answered: rules in force, counts kept over a reload, figures."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from controlplane.model.identity import ResourceId, ResourceKind
from controlplane.model.rate_limits import Limit, LimitDescriptor, RateLimit, Unit
from controlplane.ratelimit.counters import CountersDown, StoreFacts
from controlplane.ratelimit.decide import Asked, Code, Question
from controlplane.ratelimit.limiter import Limiter
from controlplane.ratelimit.memory import MemoryCounters

NOW = 1_700_000_000.0
SHOP = RateLimit(
    ResourceId(ResourceKind.RATE_LIMIT, "default", "shop"),
    "shop",
    (
        LimitDescriptor("user", limit=Limit(2, Unit.HOUR, "user")),
        LimitDescriptor("ip", limit=Limit(1, Unit.HOUR, "ip")),
    ),
)


class Down:
    """A store that counts nothing."""

    async def add(self, hits, now):
        """Fails."""
        raise CountersDown("it is not there")

    async def close(self):
        """Does nothing."""

    def facts(self):
        """Says so."""
        return StoreFacts("it is not there")


def question(user: str, domain: str = "shop") -> Question:
    """One call of a user."""
    return Question(domain, (Asked((("user", user),)),))


def test_over():
    """The third call of an hour is over, that of another user is not."""
    limiter = Limiter(lambda: {"shop": SHOP}, MemoryCounters(), lambda: NOW)

    async def ask():
        return [(await limiter.ask(question(user))).over for user in ("anna", "anna", "anna", "bob")]

    assert asyncio.run(ask()) == [False, False, True, False]


def test_one_descriptor_refuses_and_all_count():
    """A question is over if one of its descriptors is; the others are counted nevertheless."""
    limiter = Limiter(lambda: {"shop": SHOP}, MemoryCounters(), lambda: NOW)
    both = Question("shop", (Asked((("ip", "::1"),)), Asked((("user", "anna"),))))

    async def ask():
        answers = [await limiter.ask(both) for _ in range(3)]
        return [(answer.over, [status.code for status in answer.statuses]) for answer in answers]

    assert asyncio.run(ask()) == [
        (False, [Code.OK, Code.OK]),
        (True, [Code.OVER, Code.OK]),
        (True, [Code.OVER, Code.OVER]),
    ]


def test_reload_keeps_counts():
    """Another limit in force takes effect at the next question, and what was counted stays counted."""
    limits = {"shop": SHOP}
    limiter = Limiter(lambda: limits, MemoryCounters(), lambda: NOW)

    async def ask():
        nonlocal limits
        found = [(await limiter.ask(question("anna"))).over for _ in range(3)]
        limits = {"shop": replace(SHOP, descriptors=(LimitDescriptor("user", limit=Limit(4, Unit.HOUR, "user")),))}
        found += [(await limiter.ask(question("anna"))).over for _ in range(2)]
        limits = {}
        return [*found, (await limiter.ask(question("anna"))).over]

    assert asyncio.run(ask()) == [False, False, True, False, True, False]


def test_figures():
    """What was decided is counted by limit; a domain that is made up leaves no name."""
    limiter = Limiter(lambda: {"shop": SHOP}, MemoryCounters(), lambda: NOW)

    async def ask():
        for user in ("anna", "anna", "anna"):
            await limiter.ask(question(user))
        await limiter.ask(question("anna", domain="made up"))

    asyncio.run(ask())
    figures = limiter.figures()
    assert figures.decisions == {
        ("shop", "user", "ok"): 2,
        ("shop", "user", "over_limit"): 1,
        ("", "", "no_limit"): 1,
    }
    assert figures.store.counters == 1


def test_store_is_down():
    """Without a store a question fails, and is counted as failed; one that needs no count is answered."""
    limiter = Limiter(lambda: {"shop": SHOP}, Down(), lambda: NOW)

    async def ask():
        with pytest.raises(CountersDown, match="it is not there"):
            await limiter.ask(question("anna"))
        assert not (await limiter.ask(question("anna", domain="elsewhere"))).over

    asyncio.run(ask())
    figures = limiter.figures()
    assert figures.failures == 1
    assert not figures.store.up
