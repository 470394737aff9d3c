"""A cache, a server and clients made of `xds-protos` alone, for the tests of `XdsServer`."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.cluster.v3 import cds_pb2_grpc
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from envoy.service.endpoint.v3 import eds_pb2_grpc
from envoy.service.listener.v3 import lds_pb2_grpc
from envoy.service.route.v3 import rds_pb2_grpc

from controlplane import ResourceCache, XdsServer
from controlplane.server.status import ClientInfo, Counters, Event, SubscriptionInfo
from controlplane.server.type_urls import CLUSTER, ENDPOINT, LISTENER, ROUTE
from tests.e2e.peers import resources

SECONDS = 20.0  # until something that must come is given up
MAKE = {
    LISTENER: lambda name, port=1: resources.client_listener(name, name),
    ROUTE: lambda name, port=1: resources.routes(name, {f"{name}-{port}": 1}),
    CLUSTER: lambda name, port=1: resources.cluster(name),
    ENDPOINT: lambda name, port=1: resources.endpoints(name, [port]),
}
SERVICES = {
    LISTENER: (lds_pb2_grpc.ListenerDiscoveryServiceStub, "Listeners"),
    ROUTE: (rds_pb2_grpc.RouteDiscoveryServiceStub, "Routes"),
    CLUSTER: (cds_pb2_grpc.ClusterDiscoveryServiceStub, "Clusters"),
    ENDPOINT: (eds_pb2_grpc.EndpointDiscoveryServiceStub, "Endpoints"),
}


class RawStream:
    """One xDS stream: requests go in by `send`, responses come out by `read`. Owned by the test thread."""

    def __init__(self, method: Callable, node: str = "n") -> None:
        self._requests: queue.SimpleQueue = queue.SimpleQueue()
        self._responses: queue.SimpleQueue = queue.SimpleQueue()
        self._node = base_pb2.Node(id=node, cluster="raw")
        self.call = method(iter(self._requests.get, None))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            for response in self.call:
                self._responses.put(response)
        except grpc.RpcError as error:
            self._responses.put(error)
        self._responses.put(None)

    def ask(self, type_url: str, *names: str, **fields) -> None:
        """Sends a state-of-the-world request."""
        node, self._node = self._node, None
        self._requests.put(discovery_pb2.DiscoveryRequest(type_url=type_url, resource_names=names, node=node, **fields))

    def subscribe(self, type_url: str, *names: str, **fields) -> None:
        """Sends a delta request."""
        node, self._node = self._node, None
        self._requests.put(
            discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, resource_names_subscribe=names, node=node, **fields)
        )

    def read(self):
        """Returns the next response."""
        found = self._responses.get(timeout=SECONDS)
        assert found is not None, "the stream ended"
        assert not isinstance(found, grpc.RpcError), found
        return found

    def error(self) -> grpc.RpcError:
        """Returns the error that the stream ends with; responses before it are dropped."""
        while not isinstance(found := self._responses.get(timeout=SECONDS), grpc.RpcError):
            assert found is not None, "the stream ended without an error"
        return found

    def close(self) -> None:
        """Ends the stream."""
        self._requests.put(None)
        self.call.cancel()
        self._reader.join(SECONDS)


class Bench:
    """A cache, servers on it and raw streams to them, all ended with the test."""

    def __init__(self) -> None:
        self.cache = ResourceCache()
        self.events: list[Event] = []
        self._endings: list[Callable[[], None]] = []
        self.server: XdsServer | None = None
        self.port = 0

    def start(self, **options) -> None:
        """Starts the server."""
        self.server = XdsServer(self.cache, on_event=self.events.append, **options)
        self.port = self.server.start()
        self._endings.append(self.server.stop)

    def idle(self) -> Counters:
        """What a server counts that was never started."""
        return XdsServer(self.cache).counters()

    def channel(self) -> grpc.Channel:
        """Opens a channel to the server."""
        channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", [("grpc.use_local_subchannel_pool", 1)])
        self._endings.append(channel.close)
        return channel

    def stream(self, type_url: str = "", *, delta: bool = False, node: str = "n") -> RawStream:
        """Opens a stream: aggregated, or of the separate service of a type."""
        kind, noun = SERVICES.get(type_url, (ads_pb2_grpc.AggregatedDiscoveryServiceStub, "AggregatedResources"))
        method = getattr(kind(self.channel()), ("Delta" if delta else "Stream") + noun)
        stream = RawStream(method, node)
        self._endings.append(stream.close)
        return stream

    def client(self, node: str = "n") -> ClientInfo | None:
        """What the server says of a node."""
        return next((client for client in self.server.clients() if client.node.id == node), None)

    def subscription(self, type_url: str, node: str = "n") -> SubscriptionInfo | None:
        """What the server says of one subscription of a node."""
        client = self.client(node)
        return next((found for found in client.subscriptions if found.type_url == type_url), None) if client else None

    def end(self) -> None:
        """Ends everything, the last first."""
        for ending in reversed(self._endings):
            ending()


def names(response) -> list[str]:
    """The names of the resources in a state-of-the-world response."""
    found = []
    for resource in response.resources:
        kind = type(MAKE[resource.type_url]("x"))
        message = kind.FromString(resource.value)
        found.append(getattr(message, "cluster_name", "") or message.name)
    return found
