"""SIGTERM and SIGINT for the services of this process: one handler per signal, as many listeners as there are services.

Called by `serve`. The handler only calls the listeners, which do no more than put a token somewhere, and then the
handler that was there before. Without listeners a signal does what it did before. While a listener holds, the handler
that was there before has to wait until the last of these has ended: one that raises SystemExit inside an event loop
would take the loop from under a drain.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_LOG = logging.getLogger("meshsdk.lifecycle")

SIGNALS = (signal.SIGTERM, signal.SIGINT)

Listener = Callable[[], None]

_listeners: tuple[Listener, ...] = ()  # replaced as a whole under _lock; read by the handler without
_holding: tuple[Listener, ...] = ()  # those of them that hold; the same
_due: set[int] = set()  # signals whose previous handler waits; added to by the handler, emptied under _lock
_previous: dict[int, Any] = {}  # written on the main thread only
_lock = threading.Lock()


def listen(listener: Listener, *, holds: bool = False) -> Callable[[], None]:
    """Calls `listener` on SIGTERM and SIGINT, in the main thread, between two bytecodes: it must not take a lock.

    `holds`: the handler that was there before is called when this listening ends. Returns what ends it (any thread,
    idempotent). Main thread only, as Python wants it. A signal that the process was started to ignore (`nohup`) stays
    ignored.
    """
    global _listeners, _holding  # noqa: PLW0603 - signal handlers are the process's
    for number in SIGNALS:
        held = signal.getsignal(number)
        if held is not _on_signal and held is not signal.SIG_IGN:
            _previous[number] = held
            signal.signal(number, _on_signal)
    with _lock:
        _listeners = (*_listeners, listener)
        if holds:
            _holding = (*_holding, listener)

    def end() -> None:
        global _listeners, _holding  # noqa: PLW0603 - see above
        with _lock:
            _listeners = tuple(other for other in _listeners if other is not listener)
            _holding = tuple(other for other in _holding if other is not listener)
            due = () if _holding else tuple(_due)
            _due.difference_update(due)
        for number in due:
            signal.raise_signal(number)  # handled on the main thread, whichever this is

    return end


def listen_if_possible(listener: Listener, *, holds: bool = False) -> Callable[[], None] | None:
    """`listen` on the main thread; elsewhere a warning that says what to do, and None."""
    if threading.current_thread() is threading.main_thread():
        return listen(listener, holds=holds)
    _LOG.warning(
        "serve() was called on thread %r, where Python sets no signal handlers: SIGTERM will not drain; call it on the "
        "main thread, or pass handle_signals=False and call service.drain()",
        threading.current_thread().name,
    )
    return None


def _on_signal(number: int, frame: FrameType | None) -> None:
    listeners = _listeners
    for listener in listeners:
        listener()
    previous = _previous.get(number, signal.SIG_DFL)
    if listeners and _only_interrupts(previous):
        return
    if _holding and callable(previous):
        _due.add(number)
        return
    if callable(previous):
        previous(number, frame)
    elif not listeners:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def _only_interrupts(handler: Any) -> bool:
    """Whether a handler is Python's or asyncio's own for Ctrl-C, which the drain takes the place of."""
    runner = getattr(asyncio, "Runner", None)  # Python 3.11
    owner = getattr(getattr(handler, "func", None), "__self__", None)
    return handler is signal.default_int_handler or (runner is not None and isinstance(owner, runner))


def _forget() -> None:
    global _listeners, _holding, _lock  # noqa: PLW0603 - see above
    _listeners = _holding = ()
    _due.clear()
    _lock = threading.Lock()  # the parent's may be held by a thread that does not exist here


# A forked child has none of the parent's services: signals do there what they did before.
os.register_at_fork(after_in_child=_forget)
