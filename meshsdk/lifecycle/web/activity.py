"""Counts the calls of a web application, and tells its clients of a drain: middleware for WSGI and for ASGI.

Made by whoever runs the application (`uvicorn_hooks`, `gunicorn_hooks`, or its own code with `announce`). While the
server drains, answers say `Connection: close`, so that a client which keeps connections open calls elsewhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any, Protocol

from meshsdk.interceptors.activity import DRAINING_KEY, RunningCall

_Message = MutableMapping[str, Any]
_Send = Callable[[_Message], Awaitable[None]]
_AsgiApp = Callable[[Any, Any, _Send], Awaitable[None]]
_FAREWELL = ((b"connection", b"close"), (DRAINING_KEY.encode(), b"1"))


class CallCounter(Protocol):
    """What is told of calls: `ServerActivity`, or one worker's part of a `SharedActivity`."""

    @property
    def draining(self) -> bool:
        """Whether clients are told to go."""

    def enter(self, call: RunningCall) -> None:
        """A call begins."""

    def leave(self, call: RunningCall) -> None:
        """It ended."""


class WebCall:
    """A call in flight. It cannot be ended from outside: the web server does that at its own deadline."""

    __slots__ = ()

    def cut(self, details: str) -> None:
        """See `RunningCall`."""


class CountedAsgi:
    """An ASGI 3 application around another. HTTP and WebSocket calls count; lifespan does not."""

    def __init__(self, app: _AsgiApp, counter: CallCounter) -> None:
        self._app = app
        self._counter = counter

    async def __call__(self, scope: Any, receive: Any, send: _Send) -> None:
        """See ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        call = WebCall()
        self._counter.enter(call)
        try:
            await self._app(scope, receive, self._telling(send) if scope["type"] == "http" else send)
        finally:
            self._counter.leave(call)

    def _telling(self, send: _Send) -> _Send:
        async def tell(message: _Message) -> None:
            if message["type"] == "http.response.start" and self._counter.draining:
                kept = [pair for pair in message.get("headers", ()) if bytes(pair[0]).lower() != b"connection"]
                message["headers"] = [*kept, *_FAREWELL]
            await send(message)

        return tell


class CountedWsgi:
    """A WSGI application around another. A call lasts until its answer is closed."""

    def __init__(self, app: Callable[..., Iterable[bytes]], counter: CallCounter) -> None:
        self._app = app
        self._counter = counter

    def __call__(self, environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """See PEP 3333."""

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            if self._counter.draining:
                headers = [*headers, (DRAINING_KEY, "1")]
                # `Connection` is the server's own header (PEP 3333); gunicorn's response can be told.
                close = getattr(getattr(start_response, "__self__", None), "force_close", None)
                if close is not None:
                    close()
            return start_response(status, headers, *error)

        call = WebCall()
        self._counter.enter(call)
        try:
            return _Body(self._app(environ, start), lambda: self._counter.leave(call))
        except BaseException:
            self._counter.leave(call)
            raise


class _Body:
    """An answer's body that tells when it is closed."""

    def __init__(self, parts: Iterable[bytes], over: Callable[[], None]) -> None:
        self._parts = parts
        self._over = over

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts

    def close(self) -> None:
        """See PEP 3333."""
        try:
            close = getattr(self._parts, "close", None)
            if close is not None:
                close()
        finally:
            self._over()
