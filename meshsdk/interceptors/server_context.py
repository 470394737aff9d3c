"""What handlers of a `grpc.aio` server get for a context: grpc's own, with the drain told where grpc sends at once.

Made by `server_aio` for each call. The sync server needs no such thing: there, abort only raises, and the interceptor
marks the answer when the handler has ended; `grpc.aio`'s abort sends the status before anyone sees it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import grpc
import grpc.aio

from meshsdk.interceptors.activity import ServerActivity, with_draining

_endings: set[asyncio.Future[None]] = set()  # keeps what the loop would otherwise forget; by each loop's own thread

_Metadata = tuple[tuple[str, "str | bytes"], ...]


class AioContext:
    """Wraps grpc.aio's ServicerContext for one call; owned by the call's task, in which it is made."""

    __slots__ = ("_context", "_task", "activity")

    def __init__(self, context: Any, activity: ServerActivity) -> None:
        self._context = context
        self._task = asyncio.current_task()
        self.activity = activity

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: _Metadata = ()) -> None:
        """As grpc.aio's: trailing metadata given here replaces what was set before. Always raises."""
        if self.activity.draining:
            trailing_metadata = with_draining(trailing_metadata or self._context.trailing_metadata())
        await self._context.abort(code, details, trailing_metadata)

    async def abort_with_status(self, status: grpc.Status) -> None:
        """As grpc.aio's (`grpc_status.rpc_status.to_status` makes one). Always raises."""
        await self.abort(status.code, status.details, tuple(status.trailing_metadata or ()))

    def cut(self, details: str) -> None:
        """See `RunningCall`: the status first, then the handler is cancelled. On the loop of the server."""
        ending = asyncio.ensure_future(self._cut(details))
        _endings.add(ending)
        ending.add_done_callback(_endings.discard)

    async def _cut(self, details: str) -> None:
        # UsageError: the handler has just ended the call itself.
        with contextlib.suppress(grpc.aio.AbortError, grpc.aio.UsageError):
            trailing = with_draining(self._context.trailing_metadata())
            await self._context.abort(grpc.StatusCode.UNAVAILABLE, details, trailing)
        if self._task is not None:
            self._task.cancel()


class ThreadContext:
    """Wraps the context that grpc.aio gives to handlers it runs in its thread pool; owned by that thread."""

    __slots__ = ("_context", "_held", "activity")

    def __init__(self, context: Any, activity: ServerActivity) -> None:
        self._context = context
        self.activity = activity
        self._held: _Metadata = ()  # grpc's object can be told trailing metadata and not asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def trailing_metadata(self) -> _Metadata:
        """Returns what was set so far, as the contexts of grpc's other kinds of handlers do."""
        return self._held

    def set_trailing_metadata(self, trailing_metadata: _Metadata) -> None:
        """As grpc's."""
        self._held = tuple(trailing_metadata)
        self._context.set_trailing_metadata(trailing_metadata)

    def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: _Metadata = ()) -> None:
        """As grpc's. Always raises."""
        if self.activity.draining:
            trailing_metadata = with_draining(trailing_metadata or self._held)
        self._context.abort(code, details, trailing_metadata)

    def mark(self) -> None:
        """Tells of the drain in the answer that is about to be sent."""
        if self.activity.draining:
            self._context.set_trailing_metadata(with_draining(self._held))

    def cut(self, details: str) -> None:
        """See `RunningCall`. The handler's thread cannot be interrupted; what it answers goes nowhere."""
        threading.Thread(target=self._cut, args=(details,), name="meshsdk-cut", daemon=True).start()

    def _cut(self, details: str) -> None:
        with contextlib.suppress(grpc.aio.AbortError, grpc.aio.UsageError):  # as above
            self._context.abort(grpc.StatusCode.UNAVAILABLE, details, with_draining(self._held))
