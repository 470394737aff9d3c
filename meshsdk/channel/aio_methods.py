"""The methods of an asyncio channel: grpc.aio's four multi-callables over the connections of a target.

Made by `aio.MeshAioChannel`. Each call is one of `aio_requests`' objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from meshsdk.channel.aio_requests import Requests, StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall
from meshsdk.channel.attempt import CallOptions
from meshsdk.channel.pool import Connection
from meshsdk.channel.stack import Metadata
from meshsdk.interceptors import deadline

if TYPE_CHECKING:
    from meshsdk.channel.aio import MeshAioChannel


class MultiCallable:
    """A method of the channel: one stub per connection, made when a call first takes it. Owned by the loop."""

    def __init__(self, channel: MeshAioChannel, shape: str, method: str, serializer: Any, deserializer: Any) -> None:
        """`shape` names the method of grpc.aio.Channel that makes the stubs."""
        self.channel = channel
        self.method = method
        self._shape = shape
        self._serializer = serializer
        self._deserializer = deserializer
        self._stubs: dict[Connection, Any] = {}

    def stub(self, connection: Connection) -> Any:
        """Returns the grpc.aio multi-callable of the connection."""
        stub = self._stubs.get(connection)
        if stub is None:
            make = getattr(connection.link.channel, self._shape)
            stub = make(self.method, self._serializer, self._deserializer, _registered_method=True)
            self._stubs = {known: made for known, made in self._stubs.items() if known.users}
            self._stubs[connection] = stub
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


class UnaryUnary(MultiCallable, grpc.aio.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    """One request, one answer."""

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> UnaryUnaryCall:
        """See `grpc.aio.UnaryUnaryMultiCallable.__call__`."""
        return UnaryUnaryCall(self, request, self.options(timeout, metadata, credentials, wait_for_ready, compression))


class UnaryStream(MultiCallable, grpc.aio.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    """One request, a stream of answers."""

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> UnaryStreamCall:
        """See `grpc.aio.UnaryStreamMultiCallable.__call__`."""
        return UnaryStreamCall(self, request, self.options(timeout, metadata, credentials, wait_for_ready, compression))


class StreamUnary(MultiCallable, grpc.aio.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    """A stream of requests, one answer."""

    def __call__(
        self,
        request_iterator: Requests | None = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> StreamUnaryCall:
        """See `grpc.aio.StreamUnaryMultiCallable.__call__`."""
        options = self.options(timeout, metadata, credentials, wait_for_ready, compression)
        return StreamUnaryCall(self, request_iterator, options)


class StreamStream(MultiCallable, grpc.aio.StreamStreamMultiCallable):  # type: ignore[type-arg]
    """Streams both ways."""

    def __call__(
        self,
        request_iterator: Requests | None = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> StreamStreamCall:
        """See `grpc.aio.StreamStreamMultiCallable.__call__`."""
        options = self.options(timeout, metadata, credentials, wait_for_ready, compression)
        return StreamStreamCall(self, request_iterator, options)
