"""A node that asks a control plane what it is to do (RTDS), from `xds-protos` and grpcio alone, in either transport.

Used by the tests of TrafficSwitch and ShimSet. It acknowledges whatever comes, and keeps the last of everything.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from envoy.service.runtime.v3 import rtds_pb2
from google.protobuf import json_format

RUNTIME = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
SWITCH, SHIM = "meshsdk.traffic_switch", "meshsdk.shim"
NAMES = {RUNTIME: (SWITCH, SHIM)}


class SteeredNode:
    """One aggregated stream. `told` has the layers by name, and is replaced whole by the reader's thread.

    `first`: types that it asks for before it asks for Runtime, as a mesh client does; all of their resources.
    """

    def __init__(
        self,
        xds: str,
        node: str,
        app: str = "orders",
        labels: Mapping[str, str] | None = None,
        *,
        delta: bool = True,
        first: tuple[str, ...] = (),
        listener: Callable[[Mapping[str, object]], None] = lambda _: None,
    ) -> None:
        self.told: Mapping[str, Mapping[str, object]] = {}
        self.seen: list[tuple[str, Mapping[str, object]]] = []  # all that was told, in order
        self.clusters: frozenset[str] = frozenset()
        self._delta = delta
        self._listener = listener
        self._node: base_pb2.Node | None = base_pb2.Node(id=node, cluster=app, user_agent_name="meshsdk")
        self._node.metadata.update({"LABELS": dict(labels or {})})
        self._requests: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._channel = grpc.insecure_channel(xds, [("grpc.use_local_subchannel_pool", 1)])
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(self._channel)
        method = stub.DeltaAggregatedResources if delta else stub.StreamAggregatedResources
        for type_url in (*first, RUNTIME):
            self._ask(type_url, *NAMES.get(type_url, ("*",)))
        self._call = method(iter(self._requests.get, None))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _ask(self, type_url: str, *names: str, nonce: str = "", version: str = "") -> None:
        node, self._node = self._node, None
        if self._delta:
            request = discovery_pb2.DeltaDiscoveryRequest(
                type_url=type_url, node=node, response_nonce=nonce, resource_names_subscribe=() if nonce else names
            )
        else:
            request = discovery_pb2.DiscoveryRequest(
                type_url=type_url, node=node, response_nonce=nonce, version_info=version, resource_names=names
            )
        self._requests.put(request)

    def _read(self) -> None:
        try:
            for response in self._call:
                if response.type_url == RUNTIME:
                    self._take(response)
                else:
                    packed = [each.resource if self._delta else each for each in response.resources]
                    self.clusters |= {each.value.decode("latin-1") for each in packed}
                names = NAMES.get(response.type_url, ("*",))
                version = "" if self._delta else response.version_info
                self._ask(response.type_url, *names, nonce=response.nonce, version=version)
        except grpc.RpcError:
            return  # the stream's end, ours or the server's

    def _take(self, response: discovery_pb2.DiscoveryResponse | discovery_pb2.DeltaDiscoveryResponse) -> None:
        for each in response.resources:
            packed = each.resource if self._delta else each
            message = rtds_pb2.Runtime.FromString(packed.value)
            layer = json_format.MessageToDict(message.layer)
            self.seen.append((message.name, layer))
            self.told = {**self.told, message.name: layer}
            if message.name == SHIM:
                self._listener(layer)

    @property
    def turns(self) -> tuple[object, object] | None:
        """(client, server) as the node was told them last."""
        layer = self.told.get(SWITCH)
        return (layer["client"], layer["server"]) if layer else None

    def close(self) -> None:
        """Ends the stream."""
        self._requests.put(None)
        self._call.cancel()
        self._reader.join(20)
        self._channel.close()
