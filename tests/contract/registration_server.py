"""A registration service for tests, made from the proto over a MemoryRegistry; it can be stopped and started.

It shares no code with `controlplane`; the real one is met in tests/e2e.
"""

from __future__ import annotations

import queue
from concurrent import futures

import grpc

from meshsdk.discovery import registration_codec as codec
from meshsdk.discovery import registration_pb2 as pb
from meshsdk.discovery import registration_pb2_grpc as services
from meshsdk.discovery.memory import MemoryRegistry
from meshsdk.discovery.registry import Lease, LeaseLapsed
from meshsdk.errors import RegistryError


class RegistrationServer(services.RegistrationServicer):
    """Serves `registry` on a loopback port. `stop` and `start` are an outage; a new registry is a loss of data."""

    def __init__(self, registry: MemoryRegistry, granted: int | None = None) -> None:
        self.registry = registry
        self.granted = granted  # seconds granted instead of those asked for
        self.address = "127.0.0.1:0"
        self._server: grpc.Server | None = None

    def start(self) -> None:
        """Serves, again on the port of the first time."""
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        services.add_RegistrationServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(self.address)
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def stop(self) -> None:
        """Breaks all streams and serves no more."""
        self._server.stop(None).wait()

    def Register(self, request, context):
        """See the proto."""
        try:
            instance = codec.instance_from_wire(request.instance)
        except RegistryError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        lease = self.registry.register(instance, self.granted or request.ttl_seconds)
        return pb.Lease(id=lease.id, ttl_seconds=int(lease.ttl))

    def Renew(self, request, context):
        """See the proto."""
        try:
            self.registry.renew(Lease(request.lease_id, 0))
        except LeaseLapsed as error:
            context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        return pb.Lease(id=request.lease_id, ttl_seconds=self.granted or 15)

    def SetState(self, request, context):
        """See the proto."""
        try:
            self.registry.set_state(Lease(request.lease_id, 0), codec.state_from_wire(request.state))
        except LeaseLapsed as error:
            context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        return pb.Instance()

    def Deregister(self, request, context):
        """See the proto."""
        self.registry.deregister(Lease(request.lease_id, 0))
        return pb.DeregisterResponse()

    def PublishRevision(self, request, context):
        """See the proto."""
        try:
            self.registry.publish_revision(codec.revision_from_wire(request))
        except RegistryError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return pb.PublishRevisionResponse()

    def GetRevision(self, request, context):
        """See the proto."""
        revision = self.registry.get_revision(request.app, request.revision)
        if revision is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such revision")
        return codec.revision_to_wire(revision)

    def MapService(self, request, context):
        """See the proto."""
        return pb.MapServiceResponse(apps=self.registry.map_service(request.service))

    def Watch(self, request, context):
        """See the proto."""
        news: queue.SimpleQueue = queue.SimpleQueue()
        watch = self.registry.watch(request.app, request.unit, news.put)
        context.add_callback(lambda: news.put(None))
        try:
            while (increment := news.get()) is not None:
                yield codec.increment_to_wire(increment)
        finally:
            watch.cancel()
