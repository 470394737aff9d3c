"""What is held while a handler runs, and what is left behind afterwards. Deadlines are far away: none passes here."""

from __future__ import annotations

import contextvars
import time
from types import SimpleNamespace

import pytest

from meshsdk.interceptors import deadline

FAR = 1e6  # seconds


def until() -> float:
    """A deadline."""
    return time.monotonic() + FAR


@pytest.fixture(autouse=True)
def own_context():
    """Nothing is held before and after a test."""
    assert deadline.time_left() is None
    yield
    assert deadline.time_left() is None


@pytest.mark.parametrize("left", [None, float("inf"), 9.2e9])
def test_call_without_a_deadline(left):
    """grpc's ways to say that a call has none."""
    assert deadline.inbound(SimpleNamespace(time_remaining=lambda: left)) is None


def test_held_and_released():
    """A handler's calls inherit its deadline; what runs on its thread afterwards does not."""
    found = deadline.inbound(SimpleNamespace(time_remaining=lambda: FAR))
    token = deadline.hold(found)
    assert 0 < deadline.time_left() <= FAR
    assert deadline.capped(5.0) == 5.0
    assert 0 < deadline.capped(None) <= FAR
    assert deadline.late() is None
    deadline.release(token)
    assert deadline.capped(None) is None


def test_late():
    """A deadline that has passed leaves a timeout below 0, and says since when."""
    token = deadline.hold(time.monotonic() - 3)
    assert deadline.capped(5.0) <= -3
    assert deadline.late() >= 3
    deadline.release(token)


def answers(seen: list[bool]):
    """A handler's generator that looks in each step."""
    try:
        for number in range(3):
            seen.append(deadline.time_left() is not None)
            yield number
    finally:
        seen.append(True)


def test_stream_holds_in_its_steps_only():
    """The deadline is held while the generator runs, not between its answers."""
    seen: list[bool] = []
    for _ in deadline.within(until(), answers(seen)):
        assert deadline.time_left() is None
    assert seen == [True] * 4


def test_stream_left_standing():
    """A stream that is given up leaves nothing behind, and is closed with its relay."""
    seen: list[bool] = []
    relay = deadline.within(until(), answers(seen))
    next(relay)
    assert deadline.time_left() is None
    relay.close()
    assert seen == [True, True]


def test_stream_in_several_contexts():
    """Each step may run on another thread: nothing is reset where it was not set."""
    seen: list[bool] = []
    relay = deadline.within(until(), answers(seen))
    assert [contextvars.copy_context().run(next, relay) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(StopIteration):
        next(relay)
    assert seen == [True] * 4


def test_block_around_a_yield():
    """What a handler holds itself is kept from one answer to the next."""

    def handler():
        with deadline.deadline(None):
            yield deadline.time_left()
            yield deadline.time_left()
        yield deadline.time_left()

    first, second, third = deadline.within(until(), handler())
    assert (first, second) == (None, None)
    assert third is not None


def test_block_that_is_left_elsewhere():
    """A block may end in another context than it began in, as in a generator that is closed from elsewhere."""

    def handler():
        with deadline.deadline(5):
            yield

    steps, elsewhere = handler(), contextvars.copy_context()
    elsewhere.run(next, steps)
    assert 0 < elsewhere.run(deadline.time_left) <= 5
    steps.close()


def test_list_of_answers():
    """A handler may return anything that can be iterated over."""
    assert list(deadline.within(until(), [1, 2])) == [1, 2]
