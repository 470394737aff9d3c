"""The four multi-callables of a synchronous woven channel. Made by `sync_channel.WovenChannel`.

A call compares the way it knows with the way that is in force; only where they differ it asks the channel.
"""

# ruff: noqa: FBT001 - grpc's API has positional booleans
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import grpc

from meshsdk.channel.failure import CallFailed
from meshsdk.instrument.path import Path
from meshsdk.instrument.unsent import never_left

if TYPE_CHECKING:
    from meshsdk.instrument.sync_channel import WovenChannel

Metadata = Any


class _Method:
    """A method of the channel, with the stub of the path that its last call took.

    Thread rules: `_taken` is published by one assignment; threads that race make equal ones.
    """

    def __init__(self, woven: WovenChannel, shape: str, arguments: tuple[Any, ...]) -> None:
        """`shape` names the method of grpc.Channel that makes the stub from `arguments`."""
        self._woven = woven
        self._shape = shape
        self._arguments = arguments
        self._taken: tuple[Path | None, Any] = (None, None)

    def _stub(self, channel: Any) -> Any:
        return getattr(channel, self._shape)(*self._arguments)

    def _take(self, timeout: float | None) -> tuple[Path, Any, float | None]:
        """Returns the path of a call, its stub on it, and what is left of the timeout."""
        path, stub = self._taken
        if path is not None and path is self._woven.path:
            return path, stub, timeout
        path, waited = self._woven.enter(timeout)
        stub = self._stub(path.channel)
        self._taken = (path, stub)
        return path, stub, timeout if timeout is None else timeout - waited

    def _detour(self, path: Path, error: Exception) -> Any:
        """Returns the direct stub for a call that the engine could not even begin, None where it may have begun."""
        if isinstance(error, grpc.RpcError) and not isinstance(error, CallFailed):
            return None
        if isinstance(error, CallFailed) and self._woven.path is path:
            return None  # the mesh's own answer, as long as its way is in force
        channel = self._woven.detour(path, error) if never_left(error) else None
        return None if channel is None else self._stub(channel)

    def _start(self, how: str, argument: Any, timeout: float | None, options: tuple[Any, ...]) -> Any:
        """Starts a call that outlives this method; `how`: `future` or `__call__`."""
        path, stub, left = self._take(timeout)
        path.begin(None)
        try:
            call = getattr(stub, how)(argument, left, *options)
        except Exception as error:
            stub = self._detour(path, error)
            if stub is None:
                raise
            call = getattr(stub, how)(argument, left, *options)
        finally:
            path.end()
        path.follow(call)
        return call

    def _run(self, make: Callable[[Any], Callable[..., Any]], argument: Any, timeout: Any, options: Any) -> Any:
        """Makes a call from begin to end; `make` gives the way to call of a stub."""
        path, stub, left = self._take(timeout)
        path.begin(None)
        try:
            return make(stub)(argument, left, *options)
        except Exception as error:
            stub = self._detour(path, error)
            if stub is None:
                raise
        finally:
            path.end()
        return make(stub)(argument, left, *options)


def _with_call(stub: Any) -> Callable[..., Any]:
    method: Callable[..., Any] = stub.with_call
    return method


def _itself(stub: Any) -> Callable[..., Any]:
    method: Callable[..., Any] = stub
    return method


class UnaryUnary(_Method, grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]  # subscriptable in stubs only
    """One request, one answer."""

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """See `grpc.UnaryUnaryMultiCallable.__call__`. Written out: this is the call that is made most."""
        path, stub = self._taken
        if path is None or path is not self._woven.path:
            path, stub, timeout = self._take(timeout)
        path.begin(None)
        try:
            return stub(request, timeout, metadata, credentials, wait_for_ready, compression)
        except Exception as error:
            stub = self._detour(path, error)
            if stub is None:
                raise
        finally:
            path.end()
        return stub(request, timeout, metadata, credentials, wait_for_ready, compression)

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """See `grpc.UnaryUnaryMultiCallable.with_call`."""
        return self._run(_with_call, request, timeout, (metadata, credentials, wait_for_ready, compression))

    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """See `grpc.UnaryUnaryMultiCallable.future`."""
        return self._start("future", request, timeout, (metadata, credentials, wait_for_ready, compression))


class UnaryStream(_Method, grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]  # subscriptable in stubs only
    """Server streaming."""

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """See `grpc.UnaryStreamMultiCallable.__call__`."""
        return self._start("__call__", request, timeout, (metadata, credentials, wait_for_ready, compression))


class StreamUnary(_Method, grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg]  # subscriptable in stubs only
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
        return self._run(_itself, request_iterator, timeout, (metadata, credentials, wait_for_ready, compression))

    def with_call(
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """See `grpc.StreamUnaryMultiCallable.with_call`."""
        return self._run(_with_call, request_iterator, timeout, (metadata, credentials, wait_for_ready, compression))

    def future(
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """See `grpc.StreamUnaryMultiCallable.future`."""
        return self._start("future", request_iterator, timeout, (metadata, credentials, wait_for_ready, compression))


class StreamStream(_Method, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]  # subscriptable in stubs only
    """Streams both ways."""

    def __call__(
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Metadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """See `grpc.StreamStreamMultiCallable.__call__`."""
        return self._start("__call__", request_iterator, timeout, (metadata, credentials, wait_for_ready, compression))
