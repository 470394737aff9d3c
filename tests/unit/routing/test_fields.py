"""Request fields: paths on decoded messages, their texts and their presence."""

from __future__ import annotations

import math

import pytest

from meshsdk.routing.fields import FieldSource, UnknownField, bind
from tests.unit.routing.shop import Order, User


def read(message, path, *, presence=False):
    """The texts at a dotted path of a message."""
    return bind(tuple(path.split(".")), type(message).DESCRIPTOR, presence=presence)(message)


def order(**fields):
    """An order with these fields set."""
    return Order(**fields)


@pytest.mark.parametrize(
    ("message", "path", "texts"),
    [
        (order(user={"tier": "gold"}), "user.tier", ("gold",)),
        (order(user={}), "user.tier", ("",)),
        (order(), "user.tier", ()),
        (order(user={"age": 41}), "user.age", ("41",)),
        (order(user={}), "user.nick", ()),
        (order(user={"nick": ""}), "user.nick", ("",)),
        (order(state=1), "state", ("OPEN",)),
        (order(), "state", ("UNKNOWN",)),
        (order(state=77), "state", ("77",)),
        (order(states=[1, 2]), "states", ("OPEN", "CLOSED")),
        (order(tags=["a", "b"]), "tags", ("a", "b")),
        (order(), "tags", ()),
        (order(items=[{"sku": "x", "count": 2}, {"sku": "y"}]), "items.sku", ("x", "y")),
        (order(items=[{"count": 9007199254740993}]), "items.count", ("9007199254740993",)),
        (order(items=[{"maker": {"tier": "m"}}, {}]), "items.maker.tier", ("m",)),
        (order(labels={"env": "prod"}), "labels.env", ("prod",)),
        (order(labels={"app.kubernetes.io/name": "x"}), "labels.app.kubernetes.io/name", ("x",)),
        (order(labels={"env": "prod"}), "labels.zone", ()),
        (order(by_sku={"s1": {"count": 3}}), "by_sku.s1.count", ("3",)),
        (order(by_sku={"s1": {"count": 3}}), "by_sku.s2.count", ()),
        (order(card="4711"), "card", ("4711",)),
        (order(cash=0), "cash", ("0",)),
        (order(cash=0), "card", ()),
        (order(express=False), "express", ("false",)),
        (order(), "express", ()),
        (order(), "gift", ("false",)),
        (order(gift=True), "gift", ("true",)),
        (order(price=2.0), "price", ("2",)),
        (order(price=0.1), "price", ("0.1",)),
        (order(price=math.inf), "price", ("Infinity",)),
        (order(price=-math.inf), "price", ("-Infinity",)),
        (order(price=math.nan), "price", ("NaN",)),
        (order(mass=0.1), "mass", ("0.1",)),
        (order(mass=16777217.0), "mass", ("16777216",)),
        (order(mass=3.4028234663852886e38), "mass", ("3.4028235e+38",)),
        (order(blob=b"\x00\xff"), "blob", ("AP8=",)),
        (order(note={"value": "hi"}), "note", ("hi",)),
        (order(), "note", ()),
    ],
)
def test_text_of_a_field(message, path, texts):
    """A field's values come as the text that proto3 JSON writes; an unset field with presence has none."""
    assert read(message, path) == texts


@pytest.mark.parametrize(
    ("message", "path", "there"),
    [
        (order(user={}), "user", True),
        (order(), "user", False),
        (order(user={"nick": ""}), "user.nick", True),
        (order(user={"tier": ""}), "user.tier", False),
        (order(user={"tier": "x"}), "user.tier", True),
        (order(tags=["a"]), "tags", True),
        (order(), "tags", False),
        (order(items=[{}]), "items", True),
        (order(items=[{}, {"sku": "x"}]), "items.sku", True),
        (order(items=[{}]), "items.sku", False),
        (order(labels={"env": ""}), "labels.env", True),
        (order(labels={"env": ""}), "labels", True),
        (order(by_sku={"s": {}}), "by_sku.s", True),
        (order(by_sku={"s": {}}), "by_sku.t", False),
        (order(cash=0), "cash", True),
        (order(note={"value": ""}), "note", True),
    ],
)
def test_presence_of_a_field(message, path, there):
    """A field is there if it is set, or, where proto3 cannot tell, if it is not the default."""
    assert bool(read(message, path, presence=True)) is there


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("user.teir", "shop.User has no field teir (it has: age, nick, tier)"),
        ("tags.x", "shop.Order.tags is no message, and the path goes on"),
        ("user", "shop.User is a message: only its presence, or a field of it, can be tested"),
        ("items", "shop.Item is a message"),
        ("labels", "labels is a map: name a key of it"),
        ("by_number.1", "by_number is a map whose keys are no strings"),
        ("by_sku.s1", "shop.Item is a message"),
    ],
)
def test_path_that_the_type_lacks(path, reason):
    """A path that cannot be read in a message type is refused with the place where it breaks."""
    with pytest.raises(UnknownField) as refused:
        bind(tuple(path.split(".")), Order.DESCRIPTOR, presence=False)
    assert reason in str(refused.value)


def test_problem_is_listed_once_per_message_type():
    """A source lists a bad path once for each type it meets, and reads the types that have the path."""
    problems = []
    source = FieldSource(("tier",), presence=False, routes=("r1", "r2"), problems=problems)
    for _ in range(3):
        assert source.texts(Order()) is None
        assert source.texts(User(tier="gold")) == ("gold",)
        assert source.texts(b"raw") is None
    assert len(problems) == 2
    assert problems[0].startswith("route 'r1', 'r2' never matches: request field tier: shop.Order has no field tier")
    assert "the request is bytes, not a protobuf message" in problems[1]


def test_reading_changes_no_message():
    """Reading a key or a submessage that is not there leaves the message as it was."""
    message = Order()
    for path in ("by_sku.s1.count", "user.tier", "labels.env"):
        read(message, path)
        read(message, path, presence=True)
    assert message == Order()
    assert not message.by_sku


def test_source_forgets_types_rather_than_grow():
    """A program that makes up message types does not fill the memory of a source."""
    source = FieldSource(("tier",), presence=False, routes=("r",), problems=[])
    for number in range(500):
        source.texts(type(f"T{number}", (), {})())
    assert len(source._readers) <= 64
