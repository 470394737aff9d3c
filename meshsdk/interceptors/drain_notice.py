"""How a handler learns that its server drains: `meshsdk.draining(context)` and `meshsdk.aio.draining(context)`.

For streams that would go on for ever: a handler that ends its stream in good order saves its peer the error at the
drain's end. Reads the activity that the server interceptors left at the context.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from meshsdk.errors import LifecycleError
from meshsdk.interceptors.activity import ServerActivity
from meshsdk.interceptors.server_context import AioContext, ThreadContext
from meshsdk.interceptors.thread_call import ACTIVITY


class DrainNotice:
    """The drain of one server, for handlers that run in threads. True as soon as the server drains."""

    __slots__ = ("_activity",)

    def __init__(self, activity: ServerActivity) -> None:
        self._activity = activity

    def __bool__(self) -> bool:
        return self._activity.draining

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the server drains, at most `timeout` seconds; returns whether it does."""
        news = threading.Event()
        end = self._activity.listen(news.set)
        try:
            return news.wait(timeout)
        finally:
            end()


class AioDrainNotice:
    """The same for handlers that are coroutines and async generators."""

    __slots__ = ("_activity",)

    def __init__(self, activity: ServerActivity) -> None:
        self._activity = activity

    def __bool__(self) -> bool:
        return self._activity.draining

    async def wait(self, timeout: float | None = None) -> bool:
        """Waits until the server drains, at most `timeout` seconds; returns whether it does."""
        loop = asyncio.get_running_loop()
        news = asyncio.Event()

        def listener() -> None:
            loop.call_soon_threadsafe(news.set)

        end = self._activity.listen(listener)
        try:
            await asyncio.wait_for(news.wait(), timeout)
        except asyncio.TimeoutError:
            return False
        finally:
            end()
        return True


def draining(context: Any) -> DrainNotice:
    """Returns the notice of the server that handles the call of `context`, for a handler that runs in a thread.

    Raises LifecycleError for a server that was built without `server_interceptors()`.
    """
    return DrainNotice(_activity_of(context))


def aio_draining(context: Any) -> AioDrainNotice:
    """Returns the same for a coroutine or an async generator. Raises LifecycleError."""
    return AioDrainNotice(_activity_of(context))


def _activity_of(context: Any) -> ServerActivity:
    if isinstance(context, AioContext | ThreadContext):
        return context.activity
    activity = getattr(context, ACTIVITY, None)
    if not isinstance(activity, ServerActivity):
        raise LifecycleError(
            "draining(context): this call's server was built without meshsdk.server_interceptors(), or an interceptor "
            "gave the handler another context than grpc's"
        )
    return activity
