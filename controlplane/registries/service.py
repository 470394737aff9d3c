"""The registration service on the wire (`meshsdk/discovery/registration.proto`), on asyncio. Thin: it translates.

Added to the xDS server's port by `plane`. Handlers are registered by name instead of through generated stubs, whose
version check would demand the newest grpcio.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import grpc
import grpc.aio

from controlplane.registries.limits import Refused
from controlplane.registries.registration import Registration
from controlplane.store.port import StoreError
from meshsdk.discovery import registration_pb2 as pb
from meshsdk.model.instance import Increment, Instance, InstanceState, MethodInfo, Revision

NAME = "meshsdk.registration.v1.Registration"
_MAX_OPTIONS = 64 * 1024
_LAPSED = "the lease {} is not known: it lapsed or was replaced; register again"

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Context = grpc.aio.ServicerContext[Any, Any]
_Unary = Callable[[Any, _Context], Awaitable[Any]]


def decode_instance(message: pb.Instance) -> Instance:
    """Returns the instance of a message. A state that was left out means ONLINE, a weight that was means 1."""
    state = InstanceState.ONLINE if message.state == pb.STATE_UNSPECIFIED else _state(message.state)
    return Instance(
        app=message.app,
        id=message.id,
        address=message.address,
        revision=message.revision,
        unit=message.unit,
        region=message.region,
        zone=message.zone,
        weight=message.weight or 1,
        labels=dict(message.labels),
        state=state,
        started_at=message.started_at,
    )


def encode_instance(instance: Instance) -> pb.Instance:
    """Returns the message of an instance."""
    return pb.Instance(
        app=instance.app,
        id=instance.id,
        address=instance.address,
        revision=instance.revision,
        unit=instance.unit,
        region=instance.region,
        zone=instance.zone,
        weight=instance.weight,
        labels=dict(instance.labels),
        state=instance.state.value,
        started_at=instance.started_at,
    )


def _state(value: int) -> InstanceState:
    try:
        return InstanceState(pb.State.Name(value))
    except ValueError:
        raise Refused(f"state: {value} is not a state of an instance") from None


def _increment(increment: Increment) -> pb.Increment:
    return pb.Increment(
        app=increment.app,
        put=[encode_instance(instance) for instance in increment.put],
        removed_ids=increment.removed,
        reset=increment.reset,
    )


def _options(method: pb.Method) -> MethodInfo:
    if len(method.options_json) > _MAX_OPTIONS:
        raise Refused(f"methods: the options of {method.name[:80]} are longer than {_MAX_OPTIONS} characters")
    try:
        options = json.loads(method.options_json or "{}")
    except (ValueError, RecursionError):
        options = None
    if not isinstance(options, dict):
        raise Refused(f"methods: the options of {method.name[:80]} are not a JSON object")
    return MethodInfo(method.name, options)


class RegistrationService:
    """Answers the RPCs from `registration` on the server's loop.

    Args:
        registration: guarded by `lock`, which others hold for short times only.
        lock: see there.
        clock: gives the monotonic seconds that leases are measured with.
    """

    def __init__(
        self, registration: Registration, lock: AbstractContextManager[object], clock: Callable[[], float]
    ) -> None:
        self._registration = registration
        self._lock = lock
        self._clock = clock
        self._watches: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}  # guarded by the lock
        self._closed = False  # written once

    def close(self) -> None:
        """Ends the watch streams with UNAVAILABLE, so that a stop need not wait for them. From any thread."""
        self._closed = True
        with self._lock:
            for filled, loop in self._watches.items():
                _wake(loop, filled)

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

    async def register(self, request: pb.RegisterRequest, _: _Context) -> pb.Lease:
        """See the proto."""
        instance = decode_instance(request.instance)
        with self._lock:
            lease = self._registration.register(instance, request.ttl_seconds, self._clock())
        return pb.Lease(id=lease.id, ttl_seconds=lease.ttl)

    async def renew(self, request: pb.RenewRequest, context: _Context) -> pb.Lease:
        """See the proto."""
        with self._lock:
            lease = self._registration.renew(request.lease_id, self._clock())
        if lease is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, _LAPSED.format(request.lease_id[:64]))
        return pb.Lease(id=lease.id, ttl_seconds=lease.ttl)

    async def set_state(self, request: pb.SetStateRequest, context: _Context) -> pb.Instance:
        """See the proto."""
        if request.state == pb.STATE_UNSPECIFIED:
            raise Refused("state: must be given")
        with self._lock:
            instance = self._registration.set_state(request.lease_id, _state(request.state), self._clock())
        if instance is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, _LAPSED.format(request.lease_id[:64]))
        return encode_instance(instance)

    async def deregister(self, request: pb.DeregisterRequest, _: _Context) -> pb.DeregisterResponse:
        """See the proto. An unknown lease is no error: what was asked for is so."""
        with self._lock:
            self._registration.deregister(request.lease_id)
        return pb.DeregisterResponse()

    async def publish_revision(self, request: pb.Revision, _: _Context) -> pb.PublishRevisionResponse:
        """See the proto."""
        methods = tuple(_options(method) for method in request.methods)
        with self._lock:
            self._registration.publish(Revision(request.app, request.revision, methods))
        return pb.PublishRevisionResponse()

    async def get_revision(self, request: pb.GetRevisionRequest, context: _Context) -> pb.Revision:
        """See the proto."""
        with self._lock:
            found = self._registration.revision(request.app, request.revision)
        if found is None:
            text = f"no revision {request.revision[:80]!r} of {request.app[:80]!r} was published"
            await context.abort(grpc.StatusCode.NOT_FOUND, text)
        return pb.Revision(
            app=found.app,
            revision=found.revision,
            methods=[
                pb.Method(name=method.name, options_json=json.dumps(dict(method.options), sort_keys=True))
                for method in found.methods
            ],
        )

    async def map_service(self, request: pb.MapServiceRequest, _: _Context) -> pb.MapServiceResponse:
        """See the proto."""
        with self._lock:
            apps = self._registration.serving(request.service)
        return pb.MapServiceResponse(apps=apps)

    async def watch(self, request: pb.WatchRequest, context: _Context) -> AsyncIterator[pb.Increment]:
        """See the proto. Headers go out at once, so that the client knows it is being served."""
        filled, loop = asyncio.Event(), asyncio.get_running_loop()
        try:
            with self._lock:
                watcher = self._registration.watch(request.app, request.unit, lambda: _wake(loop, filled))
                self._watches[filled] = loop
        except Refused as refused:
            await _refuse(context, refused)
            return
        try:
            await context.send_initial_metadata(())
            while True:
                await filled.wait()
                if self._closed:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the control plane is stopping")
                filled.clear()
                with self._lock:
                    increments = list(watcher.take())
                for increment in increments:
                    yield _increment(increment)
        finally:
            with self._lock:
                del self._watches[filled]
                self._registration.unwatch(watcher)


def _wake(loop: asyncio.AbstractEventLoop, filled: asyncio.Event) -> None:
    """Sets the event from any thread. A loop that is closed has ended its streams."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(filled.set)


def _serialize(message: object) -> bytes:
    serialized: bytes = message.SerializeToString()  # type: ignore[attr-defined]
    return serialized


async def _refuse(context: _Context, refused: Refused) -> None:
    code = grpc.StatusCode.RESOURCE_EXHAUSTED if refused.full else grpc.StatusCode.INVALID_ARGUMENT
    await context.abort(code, str(refused))


def _answering(
    method: Callable[[_Request, _Context], Awaitable[_Response]],
) -> Callable[[_Request, _Context], Awaitable[_Response]]:
    """Wraps a handler so that its refusals become statuses in words."""

    async def answer(request: _Request, context: _Context) -> _Response:
        try:
            return await method(request, context)
        except Refused as refused:
            await _refuse(context, refused)
            raise
        except StoreError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
            raise

    return answer
