"""`grpc.Channel` over a target of the mesh: the four multi-callables, connectivity, close.

Made by `meshsdk.channel.mesh`. The request path itself is in `stack`; this page carries calls to connections.
"""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import grpc

from meshsdk.channel.attempt import CallOptions, shorter
from meshsdk.channel.blocking import BlockingCall
from meshsdk.channel.connectivity import ConnectivityFeed
from meshsdk.channel.failure import CLOSED_CHANNEL
from meshsdk.channel.mesh_call import MeshCall
from meshsdk.channel.pool import Connection
from meshsdk.channel.replay import Replay
from meshsdk.channel.stack import UNCONFIGURED, Hold, Metadata, Target
from meshsdk.channel.threads import ThreadScope

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
        target = self.target or self.open()
        if target.routes is None and target.hold is UNCONFIGURED:
            with self.scope.changed:
                self.scope.changed.wait_for(lambda: target.hold is not UNCONFIGURED or target.routes is not None, timeout)
        return target.routes is not None

    def after_fork_in_child(self) -> None:
        """Starts anew at the next call; subscribers of the parent's states are not carried over."""
        self._lock = threading.Lock()
        self.target = None
        self._feed = None
        self._calls = weakref.WeakSet()
        self._held = set()

    def unary_unary(  # noqa: D102 - documented by grpc.Channel
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, _registered_method: bool | None = False
    ) -> grpc.UnaryUnaryMultiCallable:
        return UnaryUnary(self, "unary_unary", method, request_serializer, response_deserializer)

    def unary_stream(  # noqa: D102 - documented by grpc.Channel
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, _registered_method: bool | None = False
    ) -> grpc.UnaryStreamMultiCallable:
        return UnaryStream(self, "unary_stream", method, request_serializer, response_deserializer)

    def stream_unary(  # noqa: D102 - documented by grpc.Channel
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, _registered_method: bool | None = False
    ) -> grpc.StreamUnaryMultiCallable:
        return StreamUnary(self, "stream_unary", method, request_serializer, response_deserializer)

    def stream_stream(  # noqa: D102 - documented by grpc.Channel
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, _registered_method: bool | None = False
    ) -> grpc.StreamStreamMultiCallable:
        return StreamStream(self, "stream_stream", method, request_serializer, response_deserializer)

    def subscribe(  # noqa: D102 - documented by grpc.Channel
        self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool | None = False
    ) -> None:
        if try_to_connect:
            self.open()
        with self._lock:
            if self._feed is None:
                self.scope = self._scope_of_process()
                self._feed = ConnectivityFeed(self)
            self._feed.add(callback)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:  # noqa: D102
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
        connections; else it finishes.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            target, self.target = self.target, None
            calls = list(self._calls)
        for call in calls:
            call.cancel()
        if self._feed is not None:
            self._feed.stop()
        if target is not None:
            self.scope.release(self.name)

    def __enter__(self) -> MeshChannel:
        return self

    def __exit__(self, *exception: object) -> bool:
        self.close()
        return False


class MultiCallable:
    """A method of the channel: one stub per connection, made when a call first takes it.

    Thread rules: `_stubs` is read by any thread and written under `_lock`.
    """

    def __init__(self, channel: MeshChannel, shape: str, method: str, serializer: Any, deserializer: Any) -> None:
        """`shape` names the method of grpc.Channel that makes the stubs."""
        self.channel = channel
        self.method = method
        self._shape = shape
        self._serializer = serializer
        self._deserializer = deserializer
        self._lock = threading.Lock()
        self._stubs: dict[Connection, Any] = {}

    def stub(self, connection: Connection) -> Any:
        """Returns the grpc multi-callable of the connection."""
        stub = self._stubs.get(connection)
        if stub is not None:
            return stub
        make = getattr(connection.link.channel, self._shape)
        with self._lock:
            stub = make(self.method, self._serializer, self._deserializer, _registered_method=True)
            live = {known: made for known, made in self._stubs.items() if known.users}
            live[connection] = stub
            self._stubs = live
        return stub


class UnaryUnary(MultiCallable, grpc.UnaryUnaryMultiCallable):
    """Step 4 for blocking unary calls, as directly as can be: one attempt, and the slow path only if it fails."""

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """See `grpc.UnaryUnaryMultiCallable.__call__`."""
        return self.with_call(request, timeout, metadata, credentials, wait_for_ready, compression)[0]

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> tuple[Any, grpc.Call]:
        """See `grpc.UnaryUnaryMultiCallable.with_call`."""
        channel = self.channel
        if compression is None:
            compression = channel.compression
        target = channel.target or channel.open()
        taken = target.take(self.method, metadata, request, channel.id)
        if type(taken) is Hold:
            options = CallOptions(timeout, metadata, credentials, wait_for_ready, compression)
            return BlockingCall(self, target, request, options).run()
        route, backend = taken
        connection = backend.connection
        limit = timeout if route.forward.max_duration is None else shorter(timeout, route.forward)
        began = 0.0 if limit is None else time.monotonic()
        stub = self._stubs.get(connection) or self.stub(connection)
        connection.begin(None)
        try:
            answer: tuple[Any, grpc.Call] = stub.with_call(request, limit, metadata, credentials, None, compression)
        except grpc.RpcError as error:
            failed = error
        else:
            if trailing := answer[1].trailing_metadata():
                target.noticed(connection, trailing)
            return answer
        finally:
            connection.end()
        options = CallOptions(timeout, metadata, credentials, wait_for_ready, compression)
        call = BlockingCall(self, target, request, options, began)
        return call.resume(route, connection, failed)

    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> MeshCall:
        """See `grpc.UnaryUnaryMultiCallable.future`."""
        options = CallOptions(timeout, metadata, credentials, wait_for_ready, compression)
        return MeshCall(self, request, options, future=True)


class UnaryStream(MultiCallable, grpc.UnaryStreamMultiCallable):
    """Server streaming."""

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> MeshCall:
        """See `grpc.UnaryStreamMultiCallable.__call__`."""
        return MeshCall(self, request, CallOptions(timeout, metadata, credentials, wait_for_ready, compression))


class StreamUnary(MultiCallable, grpc.StreamUnaryMultiCallable):
    """Client streaming."""

    def __call__(
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """See `grpc.StreamUnaryMultiCallable.__call__`."""
        return self.future(request_iterator, timeout, metadata, credentials, wait_for_ready, compression).answer()

    def with_call(
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> tuple[Any, grpc.Call]:
        """See `grpc.StreamUnaryMultiCallable.with_call`."""
        call = self.future(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)
        return call.answer(), call

    def future(
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> MeshCall:
        """See `grpc.StreamUnaryMultiCallable.future`."""
        options = CallOptions(timeout, metadata, credentials, wait_for_ready, compression)
        return MeshCall(self, None, options, requests=Replay(request_iterator), future=True)


class StreamStream(MultiCallable, grpc.StreamStreamMultiCallable):
    """Bidirectional streaming."""

    def __call__(
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> MeshCall:
        """See `grpc.StreamStreamMultiCallable.__call__`."""
        options = CallOptions(timeout, metadata, credentials, wait_for_ready, compression)
        return MeshCall(self, None, options, requests=Replay(request_iterator))
