"""What handlers of a `grpc.aio` server get for a context: grpc's own, with the drain told where grpc sends at once.

Made by `server_aio` for each call. The sync server needs none of this: there, abort only raises, and the interceptor
marks the answer when the handler has ended; `grpc.aio`'s abort sends the status before anyone sees it.
"""

from __future__ import annotations

from typing import Any

import grpc

from meshsdk.interceptors.activity import ServerActivity, with_draining

_Metadata = tuple[tuple[str, "str | bytes"], ...]


class AioContext:
    """Wraps grpc.aio's ServicerContext for one call; owned by the call's task."""

    __slots__ = ("_activity", "_context")

    def __init__(self, context: Any, activity: ServerActivity) -> None:
        self._context = context
        self._activity = activity

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: _Metadata = ()) -> None:
        """As grpc.aio's: trailing metadata given here replaces what was set before. Always raises."""
        if self._activity.draining:
            trailing_metadata = with_draining(trailing_metadata or self._context.trailing_metadata())
        await self._context.abort(code, details, trailing_metadata)

    async def abort_with_status(self, status: grpc.Status) -> None:
        """As grpc.aio's (`grpc_status.rpc_status.to_status` makes one). Always raises."""
        await self.abort(status.code, status.details, tuple(status.trailing_metadata or ()))


class ThreadContext:
    """Wraps the context that grpc.aio gives to handlers it runs in its thread pool; owned by that thread."""

    __slots__ = ("_activity", "_context", "_held")

    def __init__(self, context: Any, activity: ServerActivity) -> None:
        self._context = context
        self._activity = activity
        self._held: _Metadata = ()  # grpc's object can be told trailing metadata and not asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def set_trailing_metadata(self, trailing_metadata: _Metadata) -> None:
        """As grpc's."""
        self._held = tuple(trailing_metadata)
        self._context.set_trailing_metadata(trailing_metadata)

    def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: _Metadata = ()) -> None:
        """As grpc's. Always raises."""
        if self._activity.draining:
            trailing_metadata = with_draining(trailing_metadata or self._held)
        self._context.abort(code, details, trailing_metadata)

    def mark(self) -> None:
        """Tells of the drain in the answer that is about to be sent."""
        if self._activity.draining:
            self._context.set_trailing_metadata(with_draining(self._held))
