"""A scripted ADS server, from `xds-protos` and grpcio alone: it shares no code with `controlplane` or `meshsdk`.

A test takes each stream that a client opens (`ScriptedAds.stream`) and plays the server on it step by step, or lets
`answer_all` play an ordinary one. Nothing here checks: tests look at `ScriptedStream.requests`.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message

PATIENCE = 20.0  # seconds
_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
LDS = "type.googleapis.com/envoy.config.listener.v3.Listener"
RDS = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
CDS = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
EDS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
LEDS = "type.googleapis.com/envoy.config.endpoint.v3.LbEndpoint"


def pack(message: Message) -> any_pb2.Any:
    """Puts a message into an Any."""
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def listener(name: str, route: str = "") -> any_pb2.Any:
    """A listener that leaves its routes to RDS."""
    manager = http_connection_manager_pb2.HttpConnectionManager()
    manager.rds.route_config_name = route or name
    manager.rds.config_source.ads.SetInParent()
    manager.http_filters.add(name="router").typed_config.Pack(router_pb2.Router())
    message = listener_pb2.Listener(name=name)
    message.api_listener.api_listener.Pack(manager)
    return pack(message)


def route(name: str, cluster: str = "") -> any_pb2.Any:
    """A route configuration that sends everything to one cluster."""
    message = route_pb2.RouteConfiguration(name=name)
    host = message.virtual_hosts.add(name=name, domains=["*"])
    host.routes.add(match={"prefix": ""}, route={"cluster": cluster or name})
    return pack(message)


def cluster(name: str) -> any_pb2.Any:
    """An EDS cluster."""
    message = cluster_pb2.Cluster(name=name, type="EDS")
    message.eds_cluster_config.eds_config.ads.SetInParent()
    return pack(message)


def endpoints(name: str, *ports: int) -> any_pb2.Any:
    """Endpoints on loopback, in one locality."""
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    locality = message.endpoints.add(load_balancing_weight={"value": 1}, locality={"zone": "z"})
    for port in ports:
        address = locality.lb_endpoints.add().endpoint.address.socket_address
        address.address, address.port_value = "127.0.0.1", port
    return pack(message)


def collected(name: str, *zones: str) -> any_pb2.Any:
    """Endpoints that are in a LEDS collection for each of these zones."""
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    for zone in zones:
        locality = message.endpoints.add(load_balancing_weight={"value": 1}, locality={"zone": zone})
        locality.leds_cluster_locality_config.leds_config.ads.SetInParent()
        locality.leds_cluster_locality_config.leds_collection_name = member(name, zone, "*")
    return pack(message)


def member(name: str, zone: str, identifier: object) -> str:
    """The name of one resource in a zone's collection."""
    return f"xdstp:///envoy.config.endpoint.v3.LbEndpoint/{name}/{zone}/{identifier}"


def lb_endpoint(port: int) -> any_pb2.Any:
    """One endpoint on loopback, as a resource."""
    message = endpoint_components_pb2.LbEndpoint()
    address = message.endpoint.address.socket_address
    address.address, address.port_value = "127.0.0.1", port
    return pack(message)


def leds_service(name: str, **zones: list[int]) -> dict[tuple[str, str], any_pb2.Any]:
    """All resources of a service whose endpoints are in a collection for each zone; a member's id is its port."""
    members = {(LEDS, member(name, zone, port)): lb_endpoint(port) for zone, ports in zones.items() for port in ports}
    return {**service(name), (EDS, name): collected(name, *zones), **members}


def service(name: str, *ports: int) -> dict[tuple[str, str], any_pb2.Any]:
    """All four resources of a service, by type and name."""
    return {
        (LDS, name): listener(name),
        (RDS, name): route(name),
        (CDS, name): cluster(name),
        (EDS, name): endpoints(name, *ports),
    }


class ScriptedStream:
    """One stream of a client. `requests` grows as they come, on the server's thread, and is read by the test's."""

    def __init__(self, method: str, context: grpc.ServicerContext) -> None:
        self.delta = method == "DeltaAggregatedResources"
        self.requests: list[Message] = []
        self.ended = threading.Event()
        self._context = context
        self._arrived: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._outgoing: queue.SimpleQueue[bytes | Callable[[], None] | None] = queue.SimpleQueue()
        self._nonce = 0

    def next_request(self, type_url: str | None = None, *, patience: float = PATIENCE) -> Message:
        """Waits for the next request, or the next of one type; others are passed over."""
        while True:
            request = self._arrived.get(timeout=patience)
            if type_url in (None, request.type_url):
                return request

    def respond(
        self,
        type_url: str,
        *resources: any_pb2.Any,
        version: str = "1",
        nonce: str | None = None,
        removed: tuple[str, ...] = (),
        names: tuple[str, ...] = (),
    ) -> None:
        """Sends a response; in delta each resource needs its name in `names`."""
        self._nonce += 1
        nonce = f"n{self._nonce}" if nonce is None else nonce
        if not self.delta:
            self.send(
                discovery_pb2.DiscoveryResponse(
                    type_url=type_url, version_info=version, nonce=nonce, resources=resources
                )
            )
            return
        response = discovery_pb2.DeltaDiscoveryResponse(type_url=type_url, nonce=nonce, removed_resources=removed)
        for name, resource in zip(names, resources, strict=True):
            response.resources.add(name=name, version=version, resource=resource)
        self.send(response)

    def send(self, message: Message) -> None:
        """Sends any message."""
        self.send_bytes(message.SerializeToString())

    def send_bytes(self, data: bytes) -> None:
        """Sends any bytes as a message."""
        self._outgoing.put(data)

    def finish(self, code: grpc.StatusCode = grpc.StatusCode.OK, details: str = "") -> None:
        """Ends the stream."""
        if code is not grpc.StatusCode.OK:
            self._outgoing.put(lambda: self._context.abort(code, details))
        self._outgoing.put(None)

    def answer_all(self, resources: dict[tuple[str, str], any_pb2.Any]) -> None:
        """Plays an ordinary server for the rest of the stream, on a thread that ends with it."""
        threading.Thread(target=self._answer_all, args=(resources,), daemon=True).start()

    def _answer_all(self, resources: dict[tuple[str, str], any_pb2.Any]) -> None:
        told: dict[str, set[str]] = {}
        while not self.ended.is_set():
            with contextlib.suppress(queue.Empty):
                request = self._arrived.get(timeout=0.1)
                names = set(request.resource_names_subscribe if self.delta else request.resource_names)
                if names and (self.delta or names != told.get(request.type_url)):
                    told[request.type_url] = names
                    found = {name: _found(resources, request.type_url, name) for name in sorted(names)}
                    matching = [name for one in found.values() for name in one]
                    self.respond(
                        request.type_url,
                        *(resources[request.type_url, name] for name in matching),
                        names=tuple(matching),
                        removed=tuple(name for name, one in found.items() if not one),
                    )

    def _serve(self, requests: Iterator[Message]) -> Iterator[bytes]:
        threading.Thread(target=self._read, args=(requests,), daemon=True).start()
        while (item := self._outgoing.get()) is not None:
            if callable(item):
                item()
            else:
                yield item

    def _read(self, requests: Iterator[Message]) -> None:
        with contextlib.suppress(grpc.RpcError, Exception):
            for request in requests:
                self.requests.append(request)
                self._arrived.put(request)
        self.ended.set()
        self._outgoing.put(None)


def _found(resources: dict[tuple[str, str], any_pb2.Any], type_url: str, name: str) -> list[str]:
    """Names of the resources that a subscription to `name` stands for: itself, or all below a glob."""
    if not name.endswith("/*"):
        return [name] if (type_url, name) in resources else []
    return [one for kind, one in resources if kind == type_url and one.startswith(name.removesuffix("*"))]


class ScriptedAds(grpc.GenericRpcHandler):
    """The server. `methods` are the ones that it implements; the others are UNIMPLEMENTED."""

    def __init__(
        self,
        *,
        delta: bool = True,
        sotw: bool = True,
        port: int = 0,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self._methods = {
            "DeltaAggregatedResources": discovery_pb2.DeltaDiscoveryRequest if delta else None,
            "StreamAggregatedResources": discovery_pb2.DiscoveryRequest if sotw else None,
        }
        self._streams: queue.SimpleQueue[ScriptedStream] = queue.SimpleQueue()
        self.opened: list[str] = []
        self.live: list[ScriptedStream] = []
        # Without SO_REUSEPORT two servers of one port would share connections, and a stopped one's port is free.
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)], handlers=[self])
        address = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self.address = f"127.0.0.1:{self.port}"
        self._server.start()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Finds the handler of a method."""
        method = details.method.removeprefix(_SERVICE)
        self.opened.append(method)
        request_type = self._methods.get(method)
        if request_type is None:
            return None

        def handle(requests: Iterator[Message], context: grpc.ServicerContext) -> Iterator[bytes]:
            stream = ScriptedStream(method, context)
            self.live.append(stream)
            self._streams.put(stream)
            return stream._serve(requests)

        return grpc.stream_stream_rpc_method_handler(handle, request_type.FromString)

    def stream(self, *, patience: float = PATIENCE) -> ScriptedStream:
        """Waits for the next stream that a client opens."""
        return self._streams.get(timeout=patience)

    def has_stream(self) -> bool:
        """Says whether a client has opened a stream that the test has not taken yet."""
        return not self._streams.empty()

    def stop(self) -> None:
        """Stops at once, as a process that ends: clients get GOAWAY and their streams break."""
        self._server.stop(None).wait()

    def __enter__(self):
        return self

    def __exit__(self, *exception: object) -> None:
        for stream in self.live:
            stream.finish()
        self.stop()


class CuttingProxy:
    """A TCP relay to a server that cuts every connection after so many bytes towards the client, then lets all pass."""

    def __init__(self, port: int, after: int) -> None:
        self._target = port
        self._after = after
        self.cut = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                limit = None if self.cut.is_set() else self._after
                for source, sink, most in ((client, server, None), (server, client, limit)):
                    threading.Thread(target=self._relay, args=(source, sink, most), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, most: int | None) -> None:
        left = most
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if left is not None and len(data) >= left:
                    sink.sendall(data[:left])
                    self.cut.set()
                    break
                left = None if left is None else left - len(data)
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        """Stops accepting."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
