"""Which counters a question touches, and what counts come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.model.identity import ResourceId, ResourceKind
from controlplane.model.rate_limits import Limit, LimitDescriptor, RateLimit, Unit
from controlplane.ratelimit.decide import MOST, Asked, Code, Question, Status, judge, plan
from controlplane.ratelimit.rules import Rules

NOON = 1_700_000_000 // 86_400 * 86_400 + 43_200.0  # at which a minute and an hour begin
PER_USER = Limit(3, Unit.MINUTE, "user")
GUEST = Limit(1, Unit.SECOND, "user=guest")
WRITES = Limit(10, Unit.HOUR, "user/method=write")
UNLIMITED = Limit(MOST, Unit.SECOND, "user=admin", unlimited=True)
SHADOW = Limit(0, Unit.DAY, "trial", shadow=True)

SHOP = RateLimit(
    ResourceId(ResourceKind.RATE_LIMIT, "default", "shop"),
    "shop",
    (
        LimitDescriptor("user", limit=PER_USER, below=(LimitDescriptor("method", "write", WRITES),)),
        LimitDescriptor("user", "guest", GUEST),
        LimitDescriptor("user", "admin", UNLIMITED),
        LimitDescriptor("trial", limit=SHADOW),
        LimitDescriptor("only", below=(LimitDescriptor("below", limit=PER_USER),)),
    ),
)
RULES = Rules.of([SHOP])


def asked(*entries: tuple[str, str], **more: object) -> Question:
    """A question about one descriptor."""
    return Question("shop", (Asked(entries, **more),))


def limit_of(*entries: tuple[str, str]) -> Limit | None:
    """The limit that is found for a descriptor."""
    return plan(RULES, asked(*entries), NOON)[0].limit


@pytest.mark.parametrize(
    ("entries", "limit"),
    [
        ([("user", "anna")], PER_USER),
        ([("user", "guest")], GUEST),
        ([("user", "anna"), ("method", "write")], WRITES),
        ([("user", "anna"), ("method", "read")], None),
        ([("user", "guest"), ("method", "write")], None),
        ([("method", "write")], None),
        ([("only", "x")], None),
        ([("only", "x"), ("below", "y")], PER_USER),
        ([("only", "x"), ("below", "y"), ("more", "z")], None),
        ([("user", "")], PER_USER),
    ],
)
def test_limit_of_a_descriptor(entries, limit):
    """A value of its own goes before any value, with no way back; all entries must be named, and none is left over."""
    assert limit_of(*entries) == limit


def test_every_value_and_window_counts_by_itself():
    """Two users have two counters, and one user has another in the next minute; in the same minute it is one."""
    keys = {
        name: plan(RULES, asked(("user", user)), now)[0].hit.key
        for name, user, now in (
            ("anna", "anna", NOON),
            ("anna, later", "anna", NOON + 59.9),
            ("anna, next", "anna", NOON + 60),
            ("bob", "bob", NOON),
        )
    }
    assert keys["anna"] == keys["anna, later"]
    assert len(set(keys.values())) == 3


def test_window_end():
    """A window ends at a whole multiple of its unit, whenever the question comes."""
    assert [plan(RULES, asked(("user", "anna")), NOON + after)[0].hit.ends - NOON for after in (0, 31.5, 59.9)] == [
        60
    ] * 3


_TEXT = st.text("a=|#%/&\n\x00é", max_size=4)
_ENTRIES = st.lists(st.tuples(_TEXT.map(lambda key: f"k{key}"), _TEXT), min_size=1, max_size=3).map(tuple)


@given(_ENTRIES, _ENTRIES, st.integers(0, 1))
def test_counters_of_different_descriptors_differ(one, other, long):
    """Whatever keys and values hold, no descriptor can be made to count on the counter of another."""
    pad = (("pad", "x" * 300),) * long
    limit = Limit(1, Unit.DAY)
    keys = [
        plan(RULES, Question("shop", (Asked((*pad, *entries), override=limit),)), NOON)[0].hit.key
        for entries in (one, other)
    ]
    assert (keys[0] == keys[1]) is (one == other)
    assert all(len(key) < 300 and key.isascii() and key.isprintable() and " " not in key for key in keys)


def test_hits():
    """A question's hits count for each descriptor that has none of its own; none of its own may be none at all."""
    question = Question("shop", tuple(Asked((("user", "anna"),), hits) for hits in (None, 5, 0)), hits=2)
    assert [each.hit.hits for each in plan(RULES, question, NOON)] == [2, 5, 0]


def test_nothing_is_counted_without_a_limit():
    """An unknown domain, an unknown descriptor and an unlimited one are OK and touch no counter."""
    planned = plan(RULES, Question("elsewhere", (Asked((("user", "anna"),)),)), NOON)
    planned += plan(RULES, asked(("nobody", "x")), NOON) + plan(RULES, asked(("user", "admin")), NOON)
    assert [each.hit for each in planned] == [None] * 3
    statuses = judge(planned, [], NOON)
    assert [status.code for status in statuses] == [Code.UNKNOWN, Code.UNKNOWN, Code.UNLIMITED]
    assert statuses[2].remaining == MOST
    assert not any(status.code.refuses for status in statuses)


def test_override():
    """A limit that comes with a descriptor is in place of the configured one, in a known domain only."""
    override = Limit(7, Unit.HOUR, "override")
    assert plan(RULES, asked(("user", "anna"), override=override), NOON)[0].limit == override
    other = Question("elsewhere", (Asked((("user", "anna"),), override=override),))
    assert plan(RULES, other, NOON)[0].limit is None


@pytest.mark.parametrize(
    ("count", "code", "remaining"), [(1, Code.OK, 2), (3, Code.OK, 0), (4, Code.OVER, 0), (99, Code.OVER, 0)]
)
def test_status_of_a_count(count, code, remaining):
    """So many requests as the limit says go on, the next is over; what remains is told, and when all of it is back."""
    now = NOON + 15.5
    statuses = judge(plan(RULES, asked(("user", "anna")), now), [count], now)
    assert statuses == (Status(code, PER_USER, remaining, 44.5),)


def test_shadow():
    """A limit in shadow mode is told as over and refuses nothing."""
    (status,) = judge(plan(RULES, asked(("trial", "x")), NOON), [1], NOON)
    assert status.code is Code.SHADOW
    assert not status.code.refuses


def test_counts_go_to_the_descriptors_that_were_counted():
    """Of several descriptors each gets its own count, also between such as are not counted."""
    entries = (("user", "admin"), ("user", "anna"), ("nobody", "x"), ("user", "guest"))
    question = Question("shop", tuple(Asked((entry,)) for entry in entries))
    statuses = judge(plan(RULES, question, NOON), [2, 2], NOON)
    assert [status.code for status in statuses] == [Code.UNLIMITED, Code.OK, Code.UNKNOWN, Code.OVER]
