"""How a call of a thread waits for a backend: on the scope's condition, as `wait_for_ready` says, to its deadline."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from meshsdk.channel.failure import CallCancelled, CallFailed, CallRaised, status, words
from meshsdk.channel.stack import Hold, HoldKind, Lane, Target
from meshsdk.channel.threads import ThreadScope
from meshsdk.interceptors.policies.steps import Attempt, Sleep

if TYPE_CHECKING:
    from meshsdk.channel.mesh_call import MeshCall

_T = TypeVar("_T")
_CLOSED = Hold(HoldKind.CLOSED, "Channel closed!")  # grpcio's words


def wait_for_backend(
    scope: ThreadScope,
    target: Target,
    take: Callable[[], _T | Hold],
    deadline: float | None,
    abandoned: Callable[[], bool],
    *,
    wait_for_ready: bool | None,
) -> _T:
    """Blocks until `take` gives a backend. `deadline`: monotonic seconds; `abandoned`: the channel or call is over.

    Raises CallFailed where the call may not wait, at its deadline, and when it was abandoned.
    """
    taken = _CLOSED if abandoned() else take()
    if not isinstance(taken, Hold):
        return taken
    with scope.changed:
        if taken.waits(wait_for_ready):
            taken = _CLOSED if abandoned() else take()  # it may have changed before the lock was had
        while isinstance(taken, Hold):
            left = None if deadline is None else deadline - time.monotonic()
            if not taken.waits(wait_for_ready) or (left is not None and left <= 0):
                details = words(target.name, taken, scope.source.progress)
                raise CallFailed(status(taken, wait_for_ready), details)
            scope.hurry()
            scope.changed.wait(left)
            taken = _CLOSED if abandoned() else take()
        return taken


def next_attempt(reference: weakref.ref[MeshCall], ended: Any, step: Attempt | Sleep) -> None:
    """Makes the next attempt. On a thread of its own, which holds the call weakly while it waits for a backend."""
    call = reference()
    if call is None or not call.leave(ended):
        return
    course = call.course
    try:
        attempt, wait = call.prepare(step)
        call = None
        found = wait()
        if isinstance(found, Lane):
            call = reference()
            if call is None:
                raise CallCancelled  # noqa: TRY301 - as if it had been cancelled while it waited
            placing = call.enter(found, attempt)
            call = None
            found = placing()
        if (call := reference()) is not None:
            call.launch(found, attempt)
        else:
            found.give_back()
    except CallFailed as failed:
        if (call := reference()) is not None:
            call.conclude(failed)
    except Exception as error:  # noqa: BLE001 - it becomes the end of the call, and is raised to whoever reads it
        if (call := reference()) is not None:
            call.conclude(CallRaised(error))
    if call is None:  # the application dropped it
        course.end("CANCELLED", cancelled=True)
