"""The thread of a watch: it follows anew when that breaks, tells an outage once, and ends when it is told to."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import pytest

from meshsdk.discovery import following as module
from meshsdk.discovery.following import Following, RegistryClosed
from meshsdk.errors import RegistryError

Turn = Callable[[Following], None]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Waits between attempts are without length here; how long they are is `backoff`'s."""
    monkeypatch.setattr(module, "delay", lambda failures, draw: 0.0)


class Script:
    """What the registry does at each turn of a watch; waits for the test once the script is over."""

    def __init__(self, *turns: Turn) -> None:
        self._turns = list(turns)
        self.turns = 0
        self.waiting: queue.SimpleQueue[Following] = queue.SimpleQueue()
        self._over = threading.Event()

    def __call__(self, following: Following) -> None:
        """One turn."""
        self.turns += 1
        if self._turns:
            self._turns.pop(0)(following)
            return
        following.interruptible(self._over.set)
        self.waiting.put(following)
        assert self._over.wait(10)


def breaks(following: Following) -> None:
    """A turn that ends in an error of the registry."""
    raise RegistryError("gone")


def answers_and_breaks(following: Following) -> None:
    """A turn that hears of the registry first."""
    following.settled()
    raise RegistryError("gone again")


def settle(following: Following) -> None:
    """A turn that hears of the registry and returns."""
    following.settled()


def finish(watch: Following) -> None:
    """Cancels a watch and waits for its thread."""
    watch.cancel()
    watch.join(10)
    assert not watch._thread.is_alive()


def test_a_broken_watch_is_followed_anew_and_told_once(caplog):
    """Three failures in a row are one warning; being back is told; the next outage is told again."""
    caplog.set_level("INFO", "meshsdk.discovery")
    script = Script(breaks, breaks, breaks, answers_and_breaks, breaks, settle)
    watch = Following("watch of 'a'", script).start()
    script.waiting.get(timeout=10)
    finish(watch)
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "watch of 'a' broke (gone); the last known instances stay in use",
        "watch of 'a' is back",
        "watch of 'a' broke (gone again); the last known instances stay in use",
        "watch of 'a' is back",
        "watch of 'a' broke (it ended); the last known instances stay in use",
    ]


def test_a_bug_is_logged_with_its_traceback_and_goes_on(caplog):
    """Any exception of `follow` is told; the thread lives."""

    def bug(following: Following) -> None:
        raise ZeroDivisionError("bug")

    script = Script(bug)
    watch = Following("watch of 'a'", script).start()
    script.waiting.get(timeout=10)
    finish(watch)
    assert "ZeroDivisionError: bug" in caplog.text
    assert "Traceback" in caplog.text


def test_cancel_interrupts_what_is_waited_for():
    """What `follow` gave to `interruptible` is called once; the thread ends; cancelling again is no error."""
    script = Script()
    watch = Following("watch of 'a'", script).start()
    script.waiting.get(timeout=10)
    assert watch.live
    finish(watch)
    assert not watch.live
    watch.cancel()
    assert script.turns == 1


def test_a_cancelled_watch_interrupts_at_once():
    """`interruptible` after `cancel` calls what it is given: nothing waits for a watch that has ended."""
    called: list[str] = []
    entered, cancelled = threading.Event(), threading.Event()

    def late(following: Following) -> None:
        entered.set()
        assert cancelled.wait(10)
        following.interruptible(lambda: called.append("interrupted"))

    watch = Following("watch of 'a'", late).start()
    assert entered.wait(10)
    watch.cancel()
    cancelled.set()
    finish(watch)
    assert called == ["interrupted"]


def test_cancel_ends_the_wait_between_attempts(monkeypatch):
    """A watch that waits to try again, for however long, ends at once."""
    monkeypatch.setattr(module, "delay", lambda failures, draw: 3600.0)
    turns: queue.SimpleQueue[None] = queue.SimpleQueue()

    def follow(following: Following) -> None:
        turns.put(None)
        raise RegistryError("gone")

    watch = Following("watch of 'a'", follow).start()
    turns.get(timeout=10)
    finish(watch)
    assert turns.empty()


def test_a_closed_registry_ends_the_watch_without_a_warning(caplog):
    """RegistryClosed is this process's own doing."""

    def closed(following: Following) -> None:
        raise RegistryClosed("closed")

    watch = Following("watch of 'a'", closed).start()
    watch.join(10)
    assert not watch._thread.is_alive()
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]


def test_joining_from_the_watch_s_own_thread_returns():
    """A listener may end its own watch: waiting for itself would never end."""
    done = threading.Event()

    def follow(following: Following) -> None:
        following.cancel()
        following.join(10)
        done.set()

    watch = Following("watch of 'a'", follow).start()
    assert done.wait(10)
    watch.join(10)


def test_what_is_skipped_is_asked_when_it_is_read():
    """The count is the mirror's, at the moment it is asked."""
    counts = [2, 5]
    watch = Following("watch of 'a'", breaks, skipped=counts.pop)
    assert (watch.skipped, watch.skipped) == (5, 2)
    assert Following("watch of 'a'", breaks).skipped == 0
