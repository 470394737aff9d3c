"""The deadline that calls inherit: of the inbound call that this process is handling, or of a `with deadline(...)`.

Set by our server interceptors around each handler (`hold`, `within`), read by the channels for each call they make
(`capped`). It travels as a context variable: to tasks by itself, to threads that an application starts with
`contextvars.copy_context().run`. It ends no call by itself and knows no grpc.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from typing import Any, TypeVar

_T = TypeVar("_T")
_FOREVER = 10 * 365 * 24 * 3600.0  # seconds; grpc tells a call without a deadline as one that ends in the far future

_held: ContextVar[float | None] = ContextVar("meshsdk_deadline", default=None)  # monotonic seconds

in_use = False
"""Whether a deadline was ever held in this process; before that, calls ask nothing. Set by any thread, for good."""


@contextmanager
def deadline(seconds: float | None) -> Iterator[None]:
    """Calls made inside the block, all together, get at most `seconds` from now; an earlier deadline stays.

    None lifts what they would inherit, for work that is to outlive the inbound call. Raises ValueError for a number
    below 0.
    """
    if seconds is None:
        until = None
    elif seconds >= 0:
        until = time.monotonic() + seconds
        held = _held.get()
        until = until if held is None else min(held, until)
        _note_use()
    else:
        raise ValueError(f"meshsdk.deadline({seconds!r}): seconds from now, 0 or more, or None to inherit no deadline")
    token = _held.set(until)
    try:
        yield
    finally:
        with suppress(ValueError):  # an async generator that is closed from elsewhere: there is nothing to put back
            _held.reset(token)


def time_left() -> float | None:
    """Returns the seconds until the deadline that calls made here inherit, not below 0; None without one."""
    held = _held.get()
    return None if held is None else max(0.0, held - time.monotonic())


def capped(timeout: float | None) -> float | None:
    """Returns the timeout in seconds of a call that is made now; 0 or less if the inherited deadline has passed."""
    held = _held.get()
    if held is None:
        return timeout
    left = held - time.monotonic()
    return left if timeout is None or left < timeout else timeout


def late() -> float | None:
    """Returns how many seconds ago the inherited deadline passed; None if there is none or it is still to come."""
    held = _held.get()
    if held is None or (past := time.monotonic() - held) < 0:
        return None
    return past


def inbound(context: Any) -> float | None:
    """Returns the deadline of the call of grpc's `context`, in monotonic seconds; None if its caller set none."""
    left = context.time_remaining()
    if left is None or left > _FOREVER:
        return None
    _note_use()
    until: float = time.monotonic() + left
    return until


def hold(until: float | None) -> Token[float | None]:
    """A handler begins whose calls inherit this deadline, until `release`."""
    return _held.set(until)


def release(token: Token[float | None]) -> None:
    """The handler has ended, on the thread or in the task in which it began."""
    _held.reset(token)


def within(until: float | None, responses: Iterable[_T]) -> Iterator[_T]:
    """Holds the deadline while a handler's iterator runs, and only then.

    A cancelled stream leaves its iterator where it stands, and the thread goes back to its pool: what is held must not
    stay on it. What the handler itself holds (`with deadline(...)` around a `yield`) is kept from answer to answer.
    """
    held, iterator = until, iter(responses)
    try:
        while True:
            token = _held.set(held)
            try:
                response = next(iterator)
            except StopIteration:
                return
            finally:
                held = _held.get()
                _held.reset(token)
            yield response
    except GeneratorExit:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
        raise


def _note_use() -> None:
    global in_use  # noqa: PLW0603 - one word for the process, only ever set
    in_use = True
