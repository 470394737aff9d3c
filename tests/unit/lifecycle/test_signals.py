"""The signal relay: listeners are called, previous handlers too, and without listeners all is as before."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from meshsdk.lifecycle import signals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Leaves the process's handlers as they were."""
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signals._previous.clear()


def test_listeners_hear_until_they_end():
    """Both of two listeners hear a SIGTERM; one that ended hears no more."""
    heard: list[str] = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append("previous"))
    end_a = signals.listen(lambda: heard.append("a"))
    end_b = signals.listen(lambda: heard.append("b"))
    signal.raise_signal(signal.SIGTERM)
    assert heard == ["a", "b", "previous"]
    end_a()
    end_a()
    signal.raise_signal(signal.SIGTERM)
    assert heard[3:] == ["b", "previous"]
    end_b()
    signal.raise_signal(signal.SIGTERM)
    assert heard[5:] == ["previous"]


def test_ctrl_c_is_taken_over_and_given_back():
    """While there is a listener Ctrl-C raises nothing; afterwards it is KeyboardInterrupt again."""
    heard: list[str] = []
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end = signals.listen(lambda: heard.append("a"))
    signal.raise_signal(signal.SIGINT)
    assert heard == ["a"]
    end()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_asyncio_does_not_cancel_the_program():
    """Under asyncio.run, whose own handler cancels the main task, Ctrl-C is the listener's alone."""

    async def program() -> list[str]:
        heard: list[str] = []
        end = signals.listen(lambda: heard.append("a"))
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)
        end()
        return heard

    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert asyncio.run(program()) == ["a"]


def test_an_ignored_signal_stays_ignored():
    """A program started with nohup-like SIGINT does not begin to drain on it."""
    heard: list[str] = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end = signals.listen(lambda: heard.append("a"))
    signal.raise_signal(signal.SIGINT)
    end()
    assert heard == []
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_without_listeners_a_signal_kills_as_before():
    """After the last listener has ended, SIGTERM ends the process with the signal's own status."""
    program = (
        "import signal; from meshsdk.lifecycle import signals\n"
        "signals.listen(lambda: None)()\n"
        "signal.raise_signal(signal.SIGTERM)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == -signal.SIGTERM


def test_a_forked_child_has_no_listeners():
    """A child of a pre-fork server dies of SIGTERM although its parent had a listener."""
    program = (
        "import os, signal, sys; from meshsdk.lifecycle import signals\n"
        "signals.listen(lambda: None)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    os._exit(0)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) + 100)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 100 - signal.SIGTERM


def test_off_the_main_thread_a_warning_says_what_to_do(caplog):
    """Python sets signal handlers on the main thread only; elsewhere the log says what will not work."""
    result: list[object] = []
    thread = threading.Thread(target=lambda: result.append(signals.listen_if_possible(lambda: None)))
    thread.start()
    thread.join()
    assert result == [None]
    assert "SIGTERM will not drain" in caplog.text


def test_a_listener_that_holds_delays_the_handler_before():
    """Two signals while it holds: the handler that was there before is called once, when the last holder has ended."""
    heard: list[str] = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append("previous"))
    end_a = signals.listen(lambda: heard.append("a"), holds=True)
    end_b = signals.listen(lambda: heard.append("b"), holds=True)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert heard == ["a", "b", "a", "b"]
    end_a()
    assert heard[4:] == []
    end_b()
    end_b()
    assert heard[4:] == ["previous"]
