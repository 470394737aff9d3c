"""How a call of a thread waits for a backend: on the scope's condition, as `wait_for_ready` says, to its deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

from meshsdk.channel.failure import CallFailed, status, words
from meshsdk.channel.pool import PooledBackend
from meshsdk.channel.stack import Hold, HoldKind, Target
from meshsdk.channel.threads import ThreadScope
from meshsdk.model.resources import Forward

_CLOSED = Hold(HoldKind.CLOSED, "Channel closed!")  # grpcio's words


def wait_for_backend(
    scope: ThreadScope,
    target: Target,
    take: Callable[[], tuple[Forward, PooledBackend] | Hold],
    deadline: float | None,
    abandoned: Callable[[], bool],
    *,
    wait_for_ready: bool | None,
) -> tuple[Forward, PooledBackend]:
    """Blocks until `take` gives a backend. `deadline`: monotonic seconds; `abandoned`: the channel or call is over.

    Raises CallFailed where the call may not wait, at its deadline, and when it was abandoned.
    """
    with scope.changed:
        while True:
            taken = _CLOSED if abandoned() else take()
            if not isinstance(taken, Hold):
                return taken
            left = None if deadline is None else deadline - time.monotonic()
            if not taken.waits(wait_for_ready) or (left is not None and left <= 0):
                details = words(target.name, taken, scope.source.progress)
                raise CallFailed(status(taken, wait_for_ready), details)
            scope.hurry()
            scope.changed.wait(left)
