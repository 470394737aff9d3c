"""`grpc.Channel` of a woven program: each call takes the mesh's way or the application's own, as the gate says.

Made by `weaving` in place of grpc's own channels. The gate decides, `path` counts; this page carries calls over.
"""

# ruff: noqa: FBT001, FBT002 - grpc's API has positional booleans
from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc

from meshsdk.channel.failure import CLOSED_CHANNEL
from meshsdk.instrument.fallback import Reason
from meshsdk.instrument.gate import Gate
from meshsdk.instrument.path import Path, Retirement, Undertaker
from meshsdk.instrument.sync_methods import StreamStream, StreamUnary, UnaryStream, UnaryUnary
from meshsdk.instrument.way import Way

if TYPE_CHECKING:
    from typing_extensions import Self

Connectivity = Callable[[grpc.ChannelConnectivity], None]
_UNDERTAKER = Undertaker()


class WovenChannel(grpc.Channel):
    """A channel with two ways.

    Thread rules: `path` is the way that calls take now (None: ask), published by one assignment under `_lock` and read
    by any thread; the rest is guarded by `_lock`.
    """

    def __init__(self, gate: Gate, direct: Callable[[], grpc.Channel], mesh: Callable[[], grpc.Channel]) -> None:
        """`direct` makes the application's own channel, at once and again if it was left; `mesh` that of the mesh."""
        self._make = {Way.DIRECT: direct, Way.MESH: mesh}
        self._lock = threading.RLock()
        self._closed = False
        self._paths: dict[Way, Path] = {Way.DIRECT: Path(Way.DIRECT, direct())}
        self._subscribers: dict[Connectivity, Path] = {}
        self.gate = gate
        self.path: Path | None = None
        gate.owned(self)

    def enter(self, timeout: float | None) -> tuple[Path, float]:
        """Returns the path for a call with this timeout, and the seconds that finding it took.

        Waits for the mesh's first word. Raises ValueError on a closed channel, as grpcio does.
        """
        began = time.monotonic()
        way = self.gate.decided(timeout)
        return self._enter(way), time.monotonic() - began

    def _enter(self, way: Way) -> Path:
        with self._lock:
            if self._closed:
                raise ValueError(CLOSED_CHANNEL)
            path = self._path(way)
            if self.gate.way is way:
                self.path = path
                for one in self._paths.values():
                    if one.channel is path.channel:
                        one.retirement = None
            else:  # the gate has moved on meanwhile: nobody else would leave what this one call takes
                self._leave(path)
            return path

    def _path(self, way: Way) -> Path:
        known = self._paths.get(way)
        if known is not None:
            return known
        if way is Way.FALLBACK:
            channel = self._path(Way.DIRECT).channel
            path = Path(way, channel, lambda: self.gate.fallbacks.count(Reason.NO_CONFIGURATION))
        else:
            try:
                path = Path(way, self._make[way]())
            except Exception as error:  # whatever the engine has: calls must go on
                if way is Way.DIRECT:
                    raise
                self.gate.failed(error)
                return self._path(Way.FALLBACK)
        self._paths[way] = path
        return path

    def detour(self, path: Path, error: Exception) -> Any:
        """The engine raised before anything was sent: returns the direct channel for this one call."""
        if path.way is not Way.MESH:
            return None
        if self.gate.way is Way.MESH:
            self.gate.fallbacks.count(Reason.ENGINE)
            self.gate.fallbacks.raised(error)
        with self._lock:
            return None if self._closed else self._path(Way.DIRECT).channel

    def moved(self) -> None:
        """The gate has another way: the next call asks, and what was left is closed in time."""
        with self._lock:
            left, self.path = self.path, None
            if left is not None and not self._closed:
                self._leave(left)
        if self._subscribers:
            threading.Thread(target=self._resubscribe, name="meshsdk-connectivity", daemon=True).start()

    def _leave(self, path: Path) -> None:
        """A fallback is an exception that may end at any moment: neither side of it is closed."""
        if path.way is not Way.FALLBACK and self.gate.way is not Way.FALLBACK:
            _UNDERTAKER.take(path.leave(time.monotonic()), self._forget)

    def _forget(self, retirement: Retirement) -> bool:
        path = retirement.path
        with self._lock:
            if retirement.void or self._closed or path.channel in [one.channel for one in self._subscribers.values()]:
                return False
            for way in [way for way, one in self._paths.items() if one.channel is path.channel]:
                del self._paths[way]
            return True

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnary:
        """See `grpc.Channel`."""
        return UnaryUnary(self, "unary_unary", (method, request_serializer, response_deserializer, _registered_method))

    def unary_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> UnaryStream:
        """See `grpc.Channel`."""
        return UnaryStream(
            self, "unary_stream", (method, request_serializer, response_deserializer, _registered_method)
        )

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> StreamUnary:
        """See `grpc.Channel`."""
        return StreamUnary(
            self, "stream_unary", (method, request_serializer, response_deserializer, _registered_method)
        )

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> StreamStream:
        """See `grpc.Channel`."""
        return StreamStream(
            self, "stream_stream", (method, request_serializer, response_deserializer, _registered_method)
        )

    def subscribe(self, callback: Connectivity, try_to_connect: bool | None = False) -> None:
        """See `grpc.Channel.subscribe`: tells of the way that calls take; follows when that changes."""
        path, _ = self.enter(None)
        with self._lock:
            self._subscribers[callback] = path
        path.channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Connectivity) -> None:
        """See `grpc.Channel.unsubscribe`."""
        with self._lock:
            path = self._subscribers.pop(callback, None)
        if path is not None:
            path.channel.unsubscribe(callback)

    def _resubscribe(self) -> None:
        with contextlib.suppress(ValueError):  # closed meanwhile
            path, _ = self.enter(None)
            with self._lock:
                moving = {
                    callback: old for callback, old in self._subscribers.items() if old.channel is not path.channel
                }
                self._subscribers.update(dict.fromkeys(moving, path))
            for callback, old in moving.items():
                old.channel.unsubscribe(callback)
                path.channel.subscribe(callback, try_to_connect=True)

    def after_fork_in_child(self) -> None:
        """The parent's calls do not run here."""
        self._lock = threading.RLock()
        self._paths = {way: Path(way, path.channel) for way, path in self._paths.items() if way is not Way.FALLBACK}
        self.path = None

    def close(self) -> None:
        """Closes both ways."""
        with self._lock:
            self._closed = True
            self.path = None
            paths, self._paths = self._paths, {}
            self._subscribers.clear()
        self.gate.close()
        for channel in {id(path.channel): path.channel for path in paths.values()}.values():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
