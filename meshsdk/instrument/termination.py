"""SIGTERM in a woven program: its servers go offline first, then happens what the program or Python does at SIGTERM.

The handler stands before the program's own, whichever of the two was set first; the program's view of `signal` is the
usual one. The servers are taken offline by a thread, while the program goes on; then the signal is delivered anew.
A second SIGTERM does not wait. SIGINT is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import queue
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

import wrapt

_LOG = logging.getLogger("meshsdk.instrument")


# What asyncio sets as the handler of a signal that its loop has a callback for; None where it does so differently.
_ASYNCIO = getattr(getattr(asyncio, "unix_events", None), "_sighandler_noop", None)


class Leaves(Protocol):
    """A server that can be taken offline."""

    def leave(self) -> None:
        """Takes it out of the registry without losing a call; the server itself runs on. Blocks, within bounds."""

    def poke(self) -> None:
        """Wakes the event loop of the server, if it has one."""


class _Phase(enum.Enum):
    WATCHING = "watching"
    LEAVING = "leaving"
    PASSED = "passed"


class _Termination:
    """The process's SIGTERM.

    Thread rules: `_previous` and `_phase` belong to the main thread, where Python runs handlers; `_phase` becomes
    PASSED on the leaving thread, before the signal that makes the main thread look. `_servers` is replaced as a whole.
    """

    def __init__(self) -> None:
        self._servers: tuple[Leaves, ...] = ()
        self._previous: Any = signal.SIG_DFL
        self._installed = False
        self._phase = _Phase.WATCHING
        self._wakeup: tuple[socket.socket, socket.socket] | None = None  # kept open while signals are written to it
        self._asked: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()  # put() is fit for handlers

    def add(self, server: Leaves) -> None:
        """A server is online: SIGTERM takes it offline first."""
        self._servers = (*self._servers, server)
        if not self._installed:
            self._install()

    def remove(self, server: Leaves) -> None:
        """It is offline or stopped."""
        self._servers = tuple(one for one in self._servers if one is not server)

    def _install(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            _LOG.warning("the server was started on thread %r, where Python sets no signal handlers: SIGTERM does not "
                         "drain; server.stop(grace) does", threading.current_thread().name)  # fmt: skip
            return
        held = signal.getsignal(signal.SIGTERM)
        if held in (signal.SIG_IGN, None):  # ignored as under nohup, or not Python's
            return
        self._previous = held
        self._installed = True
        self._start_threads()
        signal.signal(signal.SIGTERM, self._on_signal)
        wrapt.wrap_function_wrapper(signal, "signal", self._set)
        wrapt.wrap_function_wrapper(signal, "getsignal", self._get)

    def _start_threads(self) -> None:
        threading.Thread(target=self._serve, name="meshsdk-termination", daemon=True).start()
        reading, writing = socket.socketpair()
        writing.setblocking(False)  # noqa: FBT003 - the standard library's
        held = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        if held != -1:  # asyncio's: its loop wakes by it
            signal.set_wakeup_fd(held)
            return
        self._wakeup = (reading, writing)
        threading.Thread(target=self._watch, args=(reading,), name="meshsdk-signals", daemon=True).start()

    def _watch(self, reading: socket.socket) -> None:
        """Wakes event loops at a signal: one that comes just before a loop begins to wait would not end the wait."""
        while reading.recv(64):
            for server in self._servers:
                server.poke()

    def _set(self, wrapped: Callable[..., Any], _instance: Any, args: Any, kwargs: Any) -> Any:
        """`signal.signal`: a handler for SIGTERM is kept, to be called after ours."""
        number, handler = _two(*args, **kwargs)
        if number != signal.SIGTERM or threading.current_thread() is not threading.main_thread():
            return wrapped(*args, **kwargs)
        if not (callable(handler) or handler in (signal.SIG_DFL, signal.SIG_IGN)):
            return wrapped(*args, **kwargs)  # raises as it does
        previous, self._previous = self._previous, handler
        return previous

    def _get(self, wrapped: Callable[..., Any], _instance: Any, args: Any, kwargs: Any) -> Any:
        found = wrapped(*args, **kwargs)
        return self._previous if found == self._on_signal else found

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous
        if previous is signal.SIG_IGN or previous is _ASYNCIO:
            return  # asyncio calls `_add_signal_handler`'s callback by itself
        if self._phase is _Phase.WATCHING and self._servers:
            self._phase = _Phase.LEAVING
            self._asked.put(self._deliver)
            return
        self._phase = _Phase.PASSED
        if callable(previous):
            previous(number, frame)
        else:
            signal.signal.__wrapped__(signal.SIGTERM, signal.SIG_DFL)  # type: ignore[attr-defined]  # wrapt's
            signal.raise_signal(signal.SIGTERM)

    def first(self, then: Callable[[], None]) -> None:
        """Takes the servers offline, then calls `then` on the leaving thread; at once, if there is none to take."""
        if self._phase is _Phase.WATCHING and self._servers:
            self._phase = _Phase.LEAVING
            self._asked.put(then)
        else:
            then()

    def _serve(self) -> None:
        while True:
            then = self._asked.get()
            servers = self._servers
            leaving = [threading.Thread(target=_leave, args=(one,), name="meshsdk-leaving") for one in servers]
            for thread in leaving:
                thread.start()
            for thread in leaving:
                thread.join()
            if self._phase is _Phase.LEAVING:  # else a second signal did not wait
                self._phase = _Phase.PASSED
                then()
                for server in servers:
                    server.poke()

    @staticmethod
    def _deliver() -> None:
        # To the main thread itself: only there Python runs handlers, and only there must the signal end a wait.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def after_fork_in_child(self) -> None:
        """A child has none of the parent's servers; SIGTERM does there what the program or Python does."""
        self._servers = ()
        self._phase = _Phase.WATCHING
        self._asked = queue.SimpleQueue()
        if self._installed:
            if self._wakeup is not None and threading.current_thread() is threading.main_thread():
                signal.set_wakeup_fd(-1)  # the parent's threads read there
            self._start_threads()


def _two(signalnum: Any, handler: Any) -> tuple[Any, Any]:
    """`signal.signal`'s arguments, by place or by name."""
    return signalnum, handler


def _leave(server: Leaves) -> None:
    try:
        server.leave()
    except Exception:  # noqa: BLE001 - the program must end whatever becomes of the registry
        _LOG.exception("a server could not be taken offline at SIGTERM")


def _add_signal_handler(wrapped: Callable[..., Any], loop: Any, args: Any, kwargs: Any) -> Any:
    """`loop.add_signal_handler`: asyncio runs its callbacks for a signal beside Python's handler, not after it."""
    number, callback, rest = _asyncio_three(*args, **kwargs)
    if number != signal.SIGTERM or not callable(callback):
        return wrapped(*args, **kwargs)

    def deliver() -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(callback, *rest)

    return wrapped(number, TERMINATION.first, deliver)


def _asyncio_three(sig: Any, callback: Any, *args: Any) -> tuple[Any, Any, tuple[Any, ...]]:
    return sig, callback, args


def weave_asyncio() -> None:
    """Puts the servers' leaving before the callbacks for SIGTERM of asyncio's own event loop."""
    loop = getattr(asyncio, "SelectorEventLoop", None)
    if loop is not None and hasattr(loop, "add_signal_handler"):
        wrapt.wrap_function_wrapper(loop, "add_signal_handler", _add_signal_handler)


TERMINATION = _Termination()
os.register_at_fork(after_in_child=TERMINATION.after_fork_in_child)
