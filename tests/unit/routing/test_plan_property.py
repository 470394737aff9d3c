"""The compiled plan decides as a naive reading of the RouteConfiguration does, whatever both are given."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from meshsdk.model.matching import (
    FieldMatch,
    Fraction,
    HeaderMatch,
    PathKind,
    PathMatch,
    PresentMatch,
    RangeMatch,
    RouteMatch,
    StringKind,
    StringMatch,
)
from meshsdk.model.resources import Forward, Route, VirtualHost, WeightedCluster
from meshsdk.routing.router import RouteTable
from tests.unit.routing import naive
from tests.unit.routing.shop import Order

METHODS = ["/shop.Orders/Get", "/shop.Orders/Put", "/shop.Carts/Get"]
NAMES = ["a", "b", "c", "content-type", "x-bin", ":path", ":method"]
WORDS = st.sampled_from(["", "1", "2", "12", "-3", "gold", "Gold", "a", "ab", "OPEN", "true", "0", "application/grpc"])
REGEXES = st.sampled_from(["", ".*", "1|2", "[0-9]+", "g.*", "G.ld", "a?b?", "-?\\d+", "(?:OPEN|CLOSED)", "/.*/Get"])

strings = st.one_of(
    st.builds(
        StringMatch,
        st.sampled_from([kind for kind in StringKind if kind is not StringKind.REGEX]),
        WORDS,
        ignore_case=st.booleans(),
    ),
    st.builds(StringMatch, st.just(StringKind.REGEX), REGEXES),
)
ranges = st.tuples(st.integers(-5, 15), st.integers(-5, 15)).map(lambda ends: RangeMatch(*sorted(ends)))
tests = st.one_of(
    # Weighted towards equality: that is what plans look up instead of asking one by one.
    st.builds(StringMatch, st.just(StringKind.EXACT), WORDS),
    strings,
    ranges,
    st.builds(PresentMatch, st.booleans()),
)
headers = st.builds(HeaderMatch, st.sampled_from(NAMES[:3] * 3 + NAMES), tests, st.booleans(), st.booleans())
plain_headers = st.builds(
    HeaderMatch, st.sampled_from(NAMES[:2]), st.builds(StringMatch, st.just(StringKind.EXACT), WORDS)
)

PATHS = [
    "user", "user.tier", "user.nick", "user.age", "state", "tags", "items", "items.sku", "items.count",
    "items.maker.tier", "card", "cash", "express", "gift", "price", "mass", "blob", "states", "note", "labels",
    "labels.a", "by_sku", "by_sku.a", "by_sku.a.count", "by_sku.a.maker.nick",
]  # fmt: skip
MESSAGES = {"user", "items", "labels", "by_sku", "by_sku.a"}


@st.composite
def field_matches(draw):
    """A condition on a field that the message type has; of messages and maps only the presence can be asked."""
    path = draw(st.sampled_from(PATHS))
    test = draw(st.builds(PresentMatch, st.booleans()) if path in MESSAGES else tests)
    return FieldMatch(tuple(path.split(".")), test, draw(st.booleans()))


paths = st.one_of(
    st.builds(
        PathMatch,
        st.just(PathKind.PREFIX),
        st.sampled_from(["", "/", "/shop.Orders/", "/SHOP.orders/g"]),
        st.booleans(),
    ),
    st.builds(PathMatch, st.just(PathKind.EXACT), st.sampled_from([*METHODS, METHODS[0].upper()]), st.booleans()),
    st.builds(PathMatch, st.just(PathKind.REGEX), st.sampled_from(["/shop[.]Orders/.*", ".*/Get", "/", ".*"])),
)
matches = st.builds(
    RouteMatch,
    paths,
    st.one_of(st.lists(plain_headers, max_size=2), st.lists(headers, max_size=3)).map(tuple),
    st.one_of(st.just(()), st.lists(field_matches(), max_size=2).map(tuple)),
    st.one_of(st.none(), st.builds(Fraction, st.sampled_from([0, 1, 250_000, 999_999, 1_000_000]))),
)


@st.composite
def virtual_hosts(draw):
    """Up to eight routes, named by their place."""
    found = draw(st.lists(matches, max_size=8))
    action = Forward((WeightedCluster("c", 1),))
    return VirtualHost("host", ("*",), tuple(Route(str(place), match, action) for place, match in enumerate(found)))


metadata = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(NAMES[:4]), WORDS),
        st.tuples(st.just("x-bin"), st.binary(max_size=2)),
    ),
    max_size=5,
).map(tuple)

users = st.fixed_dictionaries({}, optional={"tier": WORDS, "nick": WORDS, "age": st.integers(-5, 15)})
items = st.fixed_dictionaries({}, optional={"sku": WORDS, "count": st.integers(-5, 15), "maker": users})
# Not -0.0: protobuf's Python printer and its wire format do not agree on whether it is the default.
numbers = st.floats(allow_nan=True, allow_infinity=True).map(lambda number: number or 0.0)
orders = st.fixed_dictionaries(
    {},
    optional={
        "user": users,
        "state": st.sampled_from([0, 1, 2, 12]),
        "tags": st.lists(WORDS, max_size=3),
        "items": st.lists(items, max_size=3),
        "card": WORDS,
        "express": st.booleans(),
        "gift": st.booleans(),
        "price": st.one_of(st.sampled_from([1.0, 2.5, 12.0]), numbers),
        "mass": st.one_of(st.sampled_from([1.0, 2.5, 0.1]), st.floats(width=32).map(lambda number: number or 0.0)),
        "blob": st.binary(max_size=3),
        "states": st.lists(st.sampled_from([0, 1, 12]), max_size=2),
        "note": WORDS.map(lambda word: {"value": word}),
        "labels": st.dictionaries(st.sampled_from(["a", "b"]), WORDS),
        "by_sku": st.dictionaries(st.sampled_from(["a", "b"]), items),
    },
)
requests = st.one_of(
    st.none(),
    orders.map(lambda fields: Order(**fields)),
    st.integers(-5, 15).map(lambda cash: Order(cash=cash)),
)


@settings(max_examples=400)
@given(
    virtual_hosts(),
    st.lists(st.tuples(st.sampled_from(METHODS), metadata, requests), min_size=1, max_size=4),
    st.data(),
)
def test_plan_equals_naive_reading(host, calls, data):
    """For any virtual host and any calls, the plan takes the route that the naive reading takes."""
    table = RouteTable(host)
    for method, sent, request in calls:
        number = data.draw(st.sampled_from([0.0, 0.0000005, 0.24999, 0.25, 0.9999985, 0.9999995]))
        expected = naive.select(host, method, sent, request, lambda number=number: number)
        plan = table.plan(method)
        chosen = plan.select(sent, request, lambda number=number: number)
        assert (chosen and chosen.route) == expected
        if plan.unconditional is not None:
            assert plan.unconditional is chosen
        assert [problem for problem in plan.problems if "request field" in problem] == []
