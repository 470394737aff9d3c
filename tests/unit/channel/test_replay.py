"""The requests of a synchronous stream: given whole to every attempt until the call commits."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.channel import replay
from meshsdk.channel.replay import Replay


def counted(items, asked):
    """Notes how often it is asked."""
    for item in items:
        asked.append(item)
        yield item


@given(st.lists(st.integers(), max_size=20), st.lists(st.integers(0, 25), max_size=4), st.integers(0, 4))
def test_every_attempt_gets_all_requests(items, taken, commit_at):
    """Whatever attempts took before they ended, each sees the stream from the start; the application is asked once."""
    asked: list[int] = []
    requests = Replay(counted(items, asked))
    for number in taken:
        view = requests.view()
        assert [item for _, item in zip(range(number), view, strict=False)] == items[:number]
        assert requests.replayable
    last = requests.view()
    seen = [item for _, item in zip(range(commit_at), last, strict=False)]
    requests.commit()
    seen += list(last)
    assert seen == items
    assert asked == items


def test_nothing_is_kept_after_the_commit():
    """A committed call keeps no request once it is taken, and can no longer be made again."""
    requests = Replay(range(100))
    view = requests.view()
    next(view)
    requests.commit()
    assert list(view) == list(range(1, 100))
    assert len(requests._kept) == 0
    assert not requests.replayable


def test_limit(monkeypatch):
    """A call that has sent more than the limit is not made again, and memory stays bounded."""
    monkeypatch.setattr(replay, "LIMIT", 10)
    requests = Replay(range(50))
    view = requests.view()
    for _ in range(10):
        next(view)
    assert requests.replayable
    rest = list(view)
    assert rest == list(range(10, 50))
    assert not requests.replayable
    assert len(requests._kept) <= 11


def test_iterator_that_raises():
    """Every attempt gets what the application's iterator raised, in its place."""

    def broken():
        yield 1
        raise RuntimeError("the application's own")

    requests = Replay(broken())
    for _ in range(2):
        view = requests.view()
        assert next(view) == 1
        with pytest.raises(RuntimeError, match="the application's own"):
            next(view)


def test_what_cannot_be_iterated():
    """What is no iterable is told to the application at the call."""
    with pytest.raises(TypeError):
        Replay(5)


def test_two_attempts_at_once():
    """While one attempt's thread waits for the application, another attempt gets what is there, and then the same."""
    gate, waiting = threading.Event(), threading.Event()

    def slow():
        yield 1
        waiting.set()
        gate.wait(10)
        yield 2

    requests = Replay(slow())
    first: list[int] = []
    thread = threading.Thread(target=lambda: first.extend(requests.view()))
    thread.start()
    assert waiting.wait(10)
    view = requests.view()
    assert next(view) == 1
    gate.set()
    assert next(view) == 2
    thread.join()
    assert first == [1, 2]
    assert list(view) == []
