"""A call in flight on a `grpc.server`: how it is ended from outside, while its handler holds a thread.

Made by `server_sync` for each call. grpcio has no public way to end a call with a status from another thread than the
handler's (`abort` raises, `cancel` says CANCELLED), so this uses what its own `abort` ends in, where that is there
(seen: grpcio 1.85); elsewhere the call is cancelled.
"""

from __future__ import annotations

import contextlib
from typing import Any

import grpc
from grpc import _server

from meshsdk.interceptors.activity import ServerActivity, with_draining

ACTIVITY = "_meshsdk_activity"  # attribute of grpcio's context, for `drain_notice`


class ThreadCall:
    """One call. Read-only after init."""

    __slots__ = ("_context",)

    def __init__(self, context: Any, activity: ServerActivity) -> None:
        """`context`: as the handler gets it; an interceptor of the application before ours may have made it."""
        self._context = context
        with contextlib.suppress(
            AttributeError
        ):  # an interceptor's context with slots: no drain notice for its handler
            setattr(context, ACTIVITY, activity)

    def cut(self, details: str) -> None:
        """See `RunningCall`. The handler's thread cannot be interrupted; what it answers goes nowhere."""
        context = self._context
        context.set_trailing_metadata(with_draining(context.trailing_metadata()))
        state: Any = getattr(context, "_state", None)
        event: Any = getattr(context, "_rpc_event", None)
        abort: Any = getattr(_server, "_abort", None)
        over: Any = getattr(_server, "_CANCELLED", None)
        if None in (state, event, abort, over):
            context.cancel()
            return
        with state.condition:
            if state.client != over and not state.statused:
                state.code, state.details = grpc.StatusCode.UNAVAILABLE, details.encode()
                abort(state, event.call, None, b"")
                state.client = over  # so that grpcio drops what the handler still answers
