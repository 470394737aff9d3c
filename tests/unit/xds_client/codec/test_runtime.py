"""Runtime layers (RTDS) as values."""

from __future__ import annotations

import pytest
from envoy.service.runtime.v3 import rtds_pb2

from meshsdk.errors import InvalidResource
from meshsdk.model.resources import Kind, RuntimeLayer
from meshsdk.xds_client.codec import decode


def runtime(name: str = "steering", **values: object) -> bytes:
    """A serialised Runtime."""
    message = rtds_pb2.Runtime(name=name)
    message.layer.update(values)
    return bytes(message.SerializeToString())


def test_a_layer_becomes_plain_values():
    """Booleans, numbers, text, null, lists and layers in layers."""
    name, layer = decode(
        Kind.RUNTIME, runtime(on=True, n=3, text="x", none=None, many=[1, "a", [False]], deep={"a": {}})
    )
    assert name == "steering"
    assert layer == RuntimeLayer(
        "steering", {"on": True, "n": 3.0, "text": "x", "none": None, "many": (1.0, "a", (False,)), "deep": {"a": {}}}
    )


def test_an_empty_layer_is_one():
    """A control plane that says nothing yet."""
    assert decode(Kind.RUNTIME, runtime())[1] == RuntimeLayer("steering", {})


def test_equal_bytes_are_the_same_layer():
    """Nothing is decoded again."""
    raw = runtime(on=True)
    first = decode(Kind.RUNTIME, raw)[1]
    assert decode(Kind.RUNTIME, raw, first, raw)[1] is first


def nested(depth: int) -> dict[str, object]:
    """A layer in a layer ..."""
    value: dict[str, object] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\xff", "is not a serialised envoy.service.runtime.v3.Runtime"),
        (runtime(name=""), "name: is empty"),
        (runtime(a=nested(20)), "is nested deeper than 16"),
        (runtime(a="x" * 70_000), "bytes, at most 65536"),
    ],
)
def test_what_cannot_be_a_layer_is_refused(raw, words):
    """The text of the NACK says what is wrong."""
    with pytest.raises(InvalidResource, match=words):
        decode(Kind.RUNTIME, raw)
