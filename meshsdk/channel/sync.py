"""`grpc.Channel` over a target of the mesh: the four multi-callables, connectivity, close.

Made by `meshsdk.channel.mesh`. The request path itself is in `stack`; this page carries calls to connections.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc

from meshsdk.channel.connectivity import ConnectivityFeed
from meshsdk.channel.failure import CLOSED, CLOSED_CHANNEL, CallFailed
from meshsdk.channel.mesh_call import MeshCall
from meshsdk.channel.stack import UNCONFIGURED, Target
from meshsdk.channel.sync_methods import StreamStream, StreamUnary, UnaryStream, UnaryUnary
from meshsdk.channel.threads import ThreadScope
from meshsdk.errors import LifecycleError
from meshsdk.telemetry.port import OBSERVING

if TYPE_CHECKING:
    from typing_extensions import Self

_channel_ids = itertools.count(1)


class MeshChannel(grpc.Channel):
    """A drop-in `grpc.Channel`.

    Thread rules: `target` is set once by the first call, under `_lock`, and cleared by `close`; the rest is guarded by
    `_lock` or read-only after init.
    """

    scope: ThreadScope

    def __init__(
        self,
        scope_of_process: Callable[[], ThreadScope],
        name: str,
        authority: str,
        compression: grpc.Compression | None = None,
    ) -> None:
        """`name`: the target as given (`xds:///orders`); nothing is watched or connected before the first use."""
        self._scope_of_process = scope_of_process
        self.name = name
        self.target: Target | None = None
        self.id = next(_channel_ids)
        self.compression = compression
        self._authority = authority
        self._lock = threading.Lock()
        self._closed = False
        self._feed: ConnectivityFeed | None = None
        self._calls: weakref.WeakSet[MeshCall] = weakref.WeakSet()
        self._held: set[MeshCall] = set()

    def __del__(self) -> None:
        """A channel that is dropped without `close` lets go of its target at the scope's next look."""
        if self._feed is not None:
            self._feed.abandon()
        if self.target is not None:
            self.scope.dropped.append(self.name)

    def open(self) -> Target:
        """Returns the target, watched from the first use on. Raises ValueError on a closed channel, as grpcio does."""
        with self._lock:
            if self._closed:
                raise ValueError(CLOSED_CHANNEL)
            if self.target is None:
                self.scope = self._scope_of_process()
                self.target = self.scope.open(self.name, self._authority)
            return self.target

    def configured(self, timeout: float) -> bool:
        """Tells whether there is a configuration; waits for the first one, `timeout` seconds at most."""
        try:
            target = self.target or self.open()
        except (ValueError, LifecycleError):  # the channel or its mesh was closed
            return False
        if target.routes is None and target.hold is UNCONFIGURED:
            with self.scope.changed:
                self.scope.changed.wait_for(
                    lambda: target.hold is not UNCONFIGURED or target.routes is not None, timeout
                )
        return target.routes is not None

    def after_fork_in_child(self) -> None:
        """Starts anew at the next call; subscribers of the parent's states are not carried over."""
        self._lock = threading.Lock()
        self.target = None
        self._feed = None
        self._calls = weakref.WeakSet()
        self._held = set()

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnary:
        """See `grpc.Channel`."""
        OBSERVING.register(method, _registered_method)
        return UnaryUnary(self, "unary_unary", method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> UnaryStream:
        """See `grpc.Channel`."""
        OBSERVING.register(method, _registered_method)
        return UnaryStream(self, "unary_stream", method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> StreamUnary:
        """See `grpc.Channel`."""
        OBSERVING.register(method, _registered_method)
        return StreamUnary(self, "stream_unary", method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> StreamStream:
        """See `grpc.Channel`."""
        OBSERVING.register(method, _registered_method)
        return StreamStream(self, "stream_stream", method, request_serializer, response_deserializer)

    def subscribe(
        self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool | None = False
    ) -> None:
        """See `grpc.Channel.subscribe`; one thread a channel, not one a subscriber."""
        if try_to_connect:
            self.open()
        with self._lock:
            if self._closed:
                raise ValueError(CLOSED_CHANNEL)
            if self._feed is None:
                self.scope = self._scope_of_process()
                self._feed = ConnectivityFeed(self)
            self._feed.add(callback)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """See `grpc.Channel.unsubscribe`."""
        if self._feed is not None:
            self._feed.remove(callback)

    def track(self, call: MeshCall) -> None:
        """Remembers, weakly, a call that `close` must cancel."""
        with self._lock:
            self._calls.add(call)

    def hold(self, call: MeshCall) -> None:
        """Keeps a call alive that somebody waits for by callback only."""
        with self._lock:
            self._held.add(call)

    def untrack(self, call: MeshCall) -> None:
        """Forgets a call that has ended."""
        with self._lock:
            self._calls.discard(call)
            self._held.discard(call)

    def close(self) -> None:
        """Cancels the calls of this channel and lets go of its target.

        A blocking unary call of another thread is cancelled if no other channel of the process uses the same
        connections, or while it waits (for a backend, at a gate, before a retry); else it finishes.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            target, self.target = self.target, None
            calls = list(self._calls)
        for call in calls:
            call.end(CallFailed(grpc.StatusCode.CANCELLED, CLOSED))
        if self._feed is not None:
            self._feed.stop()
        if target is not None:
            self.scope.release(self.name)
            self.scope.wake()  # what waits on a call's behalf: other channels may hold the target still

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
