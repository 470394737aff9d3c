"""The registration service on the wire (`meshsdk/discovery/registration.proto`), on asyncio. Thin: it translates.

Added to the xDS server's port by `assembly`. Handlers are registered by name instead of through generated stubs, whose
version check would demand the newest grpcio.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
import grpc.aio

from controlplane.registries.limits import Refused
from controlplane.registries.registrar import Registrar
from controlplane.store.port import StoreError
from meshsdk.discovery import registration_codec as codec
from meshsdk.discovery import registration_pb2 as pb
from meshsdk.errors import RegistryError

NAME = "meshsdk.registration.v1.Registration"
_LAPSED = "the lease {} is not known: it lapsed or was replaced; register again"
_WAITING = 32  # calls that may wait for the store at once; further ones queue

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Result = TypeVar("_Result")
_Context = grpc.aio.ServicerContext[Any, Any]
_Unary = Callable[[Any, _Context], Awaitable[Any]]


class RegistrationService:
    """Answers the RPCs from `registrar`. Calls that wait for another process run on threads of their own."""

    def __init__(self, registrar: Registrar) -> None:
        self._registrar = registrar
        self._lock = threading.Lock()
        self._watches: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}  # guarded by the lock
        self._closed = False  # written once
        self._threads = ThreadPoolExecutor(_WAITING, "registration") if registrar.waits else None

    def close(self) -> None:
        """Ends the watch streams with UNAVAILABLE, so that a stop need not wait for them. From any thread."""
        self._closed = True
        with self._lock:
            for filled, loop in self._watches.items():
                _wake(loop, filled)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Adds the service to a server that has not been started."""
        unary: dict[str, tuple[_Unary, Any]] = {
            "Register": (self.register, pb.RegisterRequest),
            "Renew": (self.renew, pb.RenewRequest),
            "SetState": (self.set_state, pb.SetStateRequest),
            "Deregister": (self.deregister, pb.DeregisterRequest),
            "PublishRevision": (self.publish_revision, pb.Revision),
            "GetRevision": (self.get_revision, pb.GetRevisionRequest),
            "MapService": (self.map_service, pb.MapServiceRequest),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                _answering(method), request_deserializer=kind.FromString, response_serializer=_serialize
            )
            for name, (method, kind) in unary.items()
        }
        handlers["Watch"] = grpc.unary_stream_rpc_method_handler(
            self.watch, request_deserializer=pb.WatchRequest.FromString, response_serializer=_serialize
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))

    async def _call(self, function: Callable[[], _Result]) -> _Result:
        if self._threads is None:
            return function()
        if self._closed:
            raise StoreError("the control plane is stopping")
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    async def register(self, request: pb.RegisterRequest, _: _Context) -> pb.Lease:
        """See the proto."""
        instance = codec.instance_from_wire(request.instance)
        lease = await self._call(lambda: self._registrar.register(instance, request.ttl_seconds))
        return pb.Lease(id=lease.id, ttl_seconds=lease.ttl)

    async def renew(self, request: pb.RenewRequest, context: _Context) -> pb.Lease:
        """See the proto."""
        lease = await self._call(lambda: self._registrar.renew(request.lease_id))
        if lease is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, _LAPSED.format(request.lease_id[:64]))
        return pb.Lease(id=lease.id, ttl_seconds=lease.ttl)

    async def set_state(self, request: pb.SetStateRequest, context: _Context) -> pb.Instance:
        """See the proto."""
        state = codec.state_from_wire(request.state)
        instance = await self._call(lambda: self._registrar.set_state(request.lease_id, state))
        if instance is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, _LAPSED.format(request.lease_id[:64]))
        return codec.instance_to_wire(instance)

    async def deregister(self, request: pb.DeregisterRequest, _: _Context) -> pb.DeregisterResponse:
        """See the proto. An unknown lease is no error: what was asked for is so."""
        await self._call(lambda: self._registrar.deregister(request.lease_id))
        return pb.DeregisterResponse()

    async def publish_revision(self, request: pb.Revision, _: _Context) -> pb.PublishRevisionResponse:
        """See the proto."""
        revision = codec.revision_from_wire(request)
        await self._call(lambda: self._registrar.publish(revision))
        return pb.PublishRevisionResponse()

    async def get_revision(self, request: pb.GetRevisionRequest, context: _Context) -> pb.Revision:
        """See the proto."""
        found = self._registrar.revision(request.app, request.revision)
        if found is None:
            text = f"no revision {request.revision[:80]!r} of {request.app[:80]!r} was published"
            await context.abort(grpc.StatusCode.NOT_FOUND, text)
        return codec.revision_to_wire(found)

    async def map_service(self, request: pb.MapServiceRequest, _: _Context) -> pb.MapServiceResponse:
        """See the proto."""
        return pb.MapServiceResponse(apps=self._registrar.serving(request.service))

    async def watch(self, request: pb.WatchRequest, context: _Context) -> AsyncIterator[pb.Increment]:
        """See the proto. Headers go out at once, so that the client knows it is being served."""
        filled, loop = asyncio.Event(), asyncio.get_running_loop()
        try:
            watcher = self._registrar.watch(request.app, request.unit, lambda: _wake(loop, filled))
        except Refused as refused:
            await _refuse(context, refused)
            return
        with self._lock:
            self._watches[filled] = loop
        try:
            await context.send_initial_metadata(())
            while True:
                await filled.wait()
                if self._closed:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the control plane is stopping")
                filled.clear()
                for increment in self._registrar.take(watcher):
                    for message in codec.increment_to_messages(increment):
                        yield message
        finally:
            with self._lock:
                del self._watches[filled]
            self._registrar.unwatch(watcher)


def _wake(loop: asyncio.AbstractEventLoop, filled: asyncio.Event) -> None:
    """Sets the event from any thread. A loop that is closed has ended its streams."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(filled.set)


def _serialize(message: object) -> bytes:
    serialized: bytes = message.SerializeToString()  # type: ignore[attr-defined]
    return serialized


async def _refuse(context: _Context, refused: RegistryError) -> None:
    full = isinstance(refused, Refused) and refused.full
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED if full else grpc.StatusCode.INVALID_ARGUMENT, str(refused))


def _answering(
    method: Callable[[_Request, _Context], Awaitable[_Response]],
) -> Callable[[_Request, _Context], Awaitable[_Response]]:
    """Wraps a handler so that its refusals become statuses in words."""

    async def answer(request: _Request, context: _Context) -> _Response:
        try:
            return await method(request, context)
        except StoreError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
            raise
        except RegistryError as error:  # what the codec or the registrar does not take
            await _refuse(context, error)
            raise

    return answer
