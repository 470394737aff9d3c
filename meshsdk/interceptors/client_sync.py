"""Client interceptors for a `grpc.Channel` of the application's own.

A call takes the mesh while the mesh has a configuration for the target, whatever that says (no usable endpoint is an
answer too), and the application's channel otherwise: that one is the direct path. Interceptors further in than these
see only calls of the direct path, so put these last.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import grpc

from meshsdk.interceptors.continuation import Serializers, of_sync

_LOG = logging.getLogger(__name__)
FIRST_WAIT = 1.0  # seconds the first calls wait for a configuration before they go the direct way


class MeshPath(Protocol):
    """The mesh channel as the interceptor sees it: a `grpc.Channel` that knows whether it can be used."""

    name: str

    def configured(self, timeout: float) -> bool:
        """Tells whether there is a configuration; waits for the first one, `timeout` seconds at most."""

    def unary_unary(self, method: str, request_serializer: Any = None, response_deserializer: Any = None) -> Any:
        """See grpc.Channel."""

    def unary_stream(self, method: str, request_serializer: Any = None, response_deserializer: Any = None) -> Any:
        """See grpc.Channel."""

    def stream_unary(self, method: str, request_serializer: Any = None, response_deserializer: Any = None) -> Any:
        """See grpc.Channel."""

    def stream_stream(self, method: str, request_serializer: Any = None, response_deserializer: Any = None) -> Any:
        """See grpc.Channel."""


def less_time(details: Any, waited: float) -> Any:
    """Returns the details of a call that has spent `waited` seconds of its timeout before it starts."""
    return details if details.timeout is None else details._replace(timeout=max(0.0, details.timeout - waited))


class Paths:
    """The mesh's stubs by method, and the warning where a method cannot take the mesh. Guarded by `_lock`."""

    def __init__(self, mesh: MeshPath) -> None:
        """Takes the channel whose calls are routed by the mesh."""
        self.mesh = mesh
        self._lock = threading.Lock()
        self._stubs: dict[tuple[str, str, Any, Any], Any] = {}
        self._told: set[str] = set()
        self._first_call: float | None = None

    def patience(self, timeout: float | None) -> float:
        """Returns the seconds a call with this timeout may wait for the first configuration.

        All first calls share `FIRST_WAIT`, counted from the very first; what it leaves of a call's own timeout is
        enough for the direct path. Once it is over calls go the direct way at once, until a configuration arrives.
        """
        now = time.monotonic()
        with self._lock:
            if self._first_call is None:
                self._first_call = now
            left = max(0.0, self._first_call + FIRST_WAIT - now)
        return left if timeout is None else min(left, timeout / 2)

    def stub(self, shape: str, method: str, serializers: Serializers | None) -> Any:
        """Returns the mesh's stub, or None (said once in the log) where the serializers are not known."""
        if serializers is None:
            with self._lock:
                told = method in self._told
                self._told.add(method)
            if not told:
                _LOG.warning(
                    "%s: calls of %s take the application's own channel: grpcio hides its serializers here; "
                    "use meshsdk.channel(%r) instead",
                    self.mesh.name, method, self.mesh.name,
                )  # fmt: skip
            return None
        key = shape, method, serializers.request, serializers.response
        with self._lock:
            stub = self._stubs.get(key)
            if stub is None:
                stub = self._stubs[key] = getattr(self.mesh, shape)(method, serializers.request, serializers.response)
            return stub


class _Interceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """All four shapes; grpc's synchronous channel registers one object for each of them."""

    def __init__(self, mesh: MeshPath) -> None:
        self._paths = Paths(mesh)

    def _route(self, shape: str, continuation: Callable[..., Any], details: Any, argument: Any, future: bool) -> Any:
        began = time.monotonic()
        if not self._paths.mesh.configured(self._paths.patience(details.timeout)):
            return continuation(less_time(details, time.monotonic() - began), argument)
        stub = self._paths.stub(shape, details.method, of_sync(continuation))
        if stub is None:
            return continuation(details, argument)
        return (stub.future if future else stub)(
            argument,
            timeout=details.timeout,
            metadata=details.metadata,
            credentials=details.credentials,
            wait_for_ready=getattr(details, "wait_for_ready", None),
            compression=getattr(details, "compression", None),
        )

    def intercept_unary_unary(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        return self._route("unary_unary", continuation, client_call_details, request, future=True)

    def intercept_unary_stream(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        return self._route("unary_stream", continuation, client_call_details, request, future=False)

    def intercept_stream_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request_iterator: Iterable[Any]
    ) -> Any:
        return self._route("stream_unary", continuation, client_call_details, request_iterator, future=True)

    def intercept_stream_stream(
        self, continuation: Callable[..., Any], client_call_details: Any, request_iterator: Iterable[Any]
    ) -> Any:
        return self._route("stream_stream", continuation, client_call_details, request_iterator, future=False)


def sync_client_interceptors(mesh: MeshPath) -> Sequence[Any]:
    """Returns the interceptors for `grpc.intercept_channel`, over a mesh channel."""
    return (_Interceptor(mesh),)
