"""How a call of a thread waits for a backend: on the scope's condition, as `wait_for_ready` says, until its deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

from meshsdk.channel.failure import CODES, CallFailed, words
from meshsdk.channel.pool import PooledBackend
from meshsdk.channel.stack import Hold, HoldKind, Target
from meshsdk.channel.threads import ThreadScope
from meshsdk.routing.router import CompiledRoute

_CLOSED = Hold(HoldKind.CLOSED, "Channel closed!")  # grpcio's words


def failure(scope: ThreadScope, target: Target, hold: Hold) -> CallFailed:
    """Returns the error of a call that ends at this hold."""
    return CallFailed(CODES[hold.kind], words(target.name, hold, scope.source.progress))


def wait_for_backend(
    scope: ThreadScope,
    target: Target,
    take: Callable[[], tuple[CompiledRoute, PooledBackend] | Hold],
    deadline: float | None,
    abandoned: Callable[[], bool],
    *,
    wait_for_ready: bool | None,
) -> tuple[CompiledRoute, PooledBackend]:
    """Blocks until `take` gives a backend. `deadline` is on the monotonic clock; `abandoned`: the channel or call is over.

    Raises CallFailed where the call may not wait, at its deadline, and when it was abandoned.
    """
    with scope.changed:
        while True:
            hold = _CLOSED if abandoned() else take()
            if type(hold) is not Hold:
                return hold
            left = None if deadline is None else deadline - time.monotonic()
            if not hold.waits(wait_for_ready) or (left is not None and left <= 0):
                raise failure(scope, target, hold)
            scope.hurry()
            scope.changed.wait(left)
