"""Increments that do not fit into one message of the registration service: all or nothing on both sides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from meshsdk.discovery import registration_codec as codec
from meshsdk.discovery import registration_pb2 as pb
from meshsdk.discovery.controlplane import _StreamWatch
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Increment, Instance


def increment(count: int, *, reset: bool = True) -> Increment:
    """Returns an increment of so many instances."""
    put = tuple(Instance("orders", str(number), f"10.0.0.1:{number + 1}") for number in range(count))
    return Increment("orders", put, () if reset else ("gone",), reset)


class Call:
    """A stream that yields these messages and ends."""

    def __init__(self, messages: Iterable[pb.Increment]) -> None:
        self._messages = messages

    def __iter__(self) -> Iterator[pb.Increment]:
        return iter(self._messages)

    def cancel(self) -> None:
        """Is not asked for here."""


class Following:
    """As much of a `Following` as a stream needs."""

    def interruptible(self, interrupt: object) -> None:
        """Takes it."""

    def settled(self) -> None:
        """Is told."""


def told(*messages: pb.Increment) -> list[Increment]:
    """Returns what a watcher is told of a stream of these messages."""
    seen: list[Increment] = []
    stub = type("Stub", (), {"Watch": lambda _, request: Call(messages)})()
    with pytest.raises(RegistryError, match="the stream ended"):
        _StreamWatch(stub, pb.WatchRequest(), seen.append).follow(Following())
    return seen


@pytest.mark.parametrize(("count", "messages"), [(0, 1), (1, 1), (2_000, 1), (2_001, 2), (4_500, 3)])
@pytest.mark.parametrize("reset", [True, False])
def test_a_long_increment_comes_in_pieces_and_is_told_as_one(count: int, messages: int, reset: bool) -> None:
    """Whatever its length, a watcher is told of it once and whole."""
    sent = list(codec.increment_to_messages(increment(count, reset=reset)))
    assert [message.more for message in sent] == [True] * (messages - 1) + [False]
    assert max(len(message.put) for message in sent) <= 2_000
    assert told(*sent) == [increment(count, reset=reset)]


def test_pieces_without_their_last_are_not_told() -> None:
    """A stream that breaks in the middle of a listing changes nothing."""
    first, *_ = codec.increment_to_messages(increment(2_001))
    assert told(first) == []
