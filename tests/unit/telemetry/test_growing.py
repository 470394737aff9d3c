"""Counters whose sources come and go."""

from __future__ import annotations

from meshsdk.telemetry.growing import Growing


class Source:
    """Something that counts."""


def test_what_is_gone_stays_counted():
    """A source that ends, and one that comes in its place and begins at zero, never make the sum fall."""
    growing: Growing[str] = Growing()
    first, second = Source(), Source()
    growing.take(first, {"a": 3})
    growing.take(second, {"a": 1, "b": 2})
    growing.take(first, {"a": 3})
    assert growing.sums == {"a": 4, "b": 2}
    del first
    growing.take(second, {"a": 1, "b": 5})
    assert growing.sums == {"a": 4, "b": 5}
    growing.take(Source(), {"a": 1})
    assert growing.sums == {"a": 5, "b": 5}
