"""The methods of a synchronous channel: grpc's four multi-callables over the connections of a target.

Made by `sync.MeshChannel`. A blocking unary call runs here from end to end; every other call is a `MeshCall`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import grpc

from meshsdk.channel import inherited
from meshsdk.channel.attempt import CallOptions, shorter
from meshsdk.channel.blocking import BlockingCall
from meshsdk.channel.mesh_call import MeshCall
from meshsdk.channel.observed import observed
from meshsdk.channel.pool import Connection
from meshsdk.channel.replay import Replay
from meshsdk.channel.stack import Hold, Metadata, Target
from meshsdk.interceptors import deadline
from meshsdk.telemetry.port import OBSERVING, Sight

if TYPE_CHECKING:
    from meshsdk.channel.sync import MeshChannel

_Given = tuple[
    "float | None", "Metadata | None", "grpc.CallCredentials | None", "bool | None", "grpc.Compression | None"
]  # what becomes `CallOptions` where those are needed
_COMPRESSION = "grpc-internal-encoding-request"  # how core is told the compression of one call


def _trailing_metadata(call: Any) -> Any:
    """Returns the trailing metadata of a call that has ended, without the lock that `Call.trailing_metadata` takes.

    Asked of every answer; where grpc's inside looks different, the public method is asked.
    """
    try:
        return call._state.trailing_metadata  # noqa: SLF001 - see above
    except AttributeError:
        return call.trailing_metadata()


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

    def options(
        self,
        timeout: float | None,
        metadata: Metadata | None,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> CallOptions:
        """Returns the call's options over the channel's."""
        if deadline.in_use:
            timeout = deadline.capped(timeout)
        chosen = self.channel.compression if compression is None else compression
        return CallOptions(timeout, metadata, credentials, wait_for_ready, chosen)


class UnaryUnary(MultiCallable, grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]  # subscriptable in stubs only
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
        target = channel.target or channel.open()
        if deadline.in_use:
            timeout = inherited.blocking(self.method, target, timeout)
        if compression is None:
            compression = channel.compression
        given = timeout, metadata, credentials, wait_for_ready, compression
        if OBSERVING.observer is None or (seen := observed(target.name, self.method)) is None:
            return self._call(target, request, given, None)
        try:
            return self._call(target, request, given, seen)
        except BaseException:
            seen.end("UNKNOWN", "")  # an interrupt, or what cannot be sent; no effect on a call that has ended
            raise

    def _call(self, target: Target, request: Any, given: _Given, seen: Sight | None) -> tuple[Any, grpc.Call]:
        timeout, metadata, credentials, _, compression = given
        taken = target.take(self.method, metadata, request, self.channel.id)
        if isinstance(taken, Hold):
            return BlockingCall(self, target, request, CallOptions(*given), seen=seen).run(taken.lane)
        lane, backend = taken
        sent = metadata if seen is None else seen.attempt(lane, backend, metadata)
        connection, tally = backend.connection, backend.tally
        limit = timeout if lane.forward.max_duration is None else shorter(timeout, lane.forward)
        began = 0.0 if limit is None else time.monotonic()
        stub = self._stubs.get(connection) or self.stub(connection)
        connection.begin(None)
        tally.begin(None)
        failed: grpc.RpcError | None = None
        try:
            answer: tuple[Any, grpc.Call] = stub.with_call(request, limit, sent, credentials, None, compression)
        except grpc.RpcError as error:
            failed = error
        finally:
            tally.leave()
            connection.end()
        if failed is not None:
            call = BlockingCall(self, target, request, CallOptions(*given), began, seen)
            return call.resume(lane, backend, failed)
        tally.succeed()  # after `leave`: a report made in between must not count it twice
        if seen is not None:
            seen.end("OK", "")
        watch = backend.watch
        if watch is not None:
            watch.succeeded()
        if trailing := _trailing_metadata(answer[1]):
            target.noticed(connection, trailing)
            if watch is not None:
                watch.reported(trailing)
        return answer

    def future(  # type: ignore[override]  # the stubs name private classes of grpc
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> MeshCall:
        """See `grpc.UnaryUnaryMultiCallable.future`."""
        options = self.options(timeout, metadata, credentials, wait_for_ready, compression)
        return MeshCall(self, request, options, future=True)


class UnaryStream(MultiCallable, grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]  # subscriptable in stubs only
    """Server streaming."""

    def __call__(  # type: ignore[override]  # the stubs name private classes of grpc
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> MeshCall:
        """See `grpc.UnaryStreamMultiCallable.__call__`."""
        return MeshCall(self, request, self.options(timeout, metadata, credentials, wait_for_ready, compression))


class StreamUnary(MultiCallable, grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg]  # subscriptable in stubs only
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

    def future(  # type: ignore[override]  # the stubs name private classes of grpc
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> MeshCall:
        """See `grpc.StreamUnaryMultiCallable.future`."""
        chosen = self.channel.compression if compression is None else compression
        if chosen:  # grpcio's own `future` of this shape forgets it
            metadata = (*(metadata or ()), (_COMPRESSION, chosen.name.lower()))
        options = self.options(timeout, metadata, credentials, wait_for_ready, None)._replace(compression=None)
        return MeshCall(self, None, options, requests=Replay(request_iterator), future=True)


class StreamStream(MultiCallable, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]  # subscriptable in stubs only
    """Bidirectional streaming."""

    def __call__(  # type: ignore[override]  # the stubs name private classes of grpc
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> MeshCall:
        """See `grpc.StreamStreamMultiCallable.__call__`."""
        options = self.options(timeout, metadata, credentials, wait_for_ready, compression)
        return MeshCall(self, None, options, requests=Replay(request_iterator))
