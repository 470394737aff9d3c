"""A thousand xDS clients in one process: each a connection with one stream that ACKs what it gets. B4 looks at them.

Commands: `open` connects clients, `await` waits until all have seen a change, `arrivals` tells how long each change
took to each client. A change is known by its number: the weight of the endpoint that changed. Numbers only grow, so
the largest weight that a client has seen says how far it is.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import sys
import threading
import time
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.service.discovery.v3 import discovery_pb2

from benchmarks.workers import stdio
from benchmarks.workers.http2_stream import Http2Stream

_ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
_COLLECTED = "type.googleapis.com/envoy.config.endpoint.v3.LbEndpoint"
_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
_PATIENCE = 120.0  # seconds
_AT_ONCE = 50  # connections opened at once


class _Client:
    """One client. Owned by the loop."""

    def __init__(self, fleet: _Fleet, number: int, service: str, mode: str) -> None:
        self._fleet = fleet
        self._delta = mode != "sotw"
        self._service = service
        self.seen: list[int] = []  # changes, growing
        self.at: list[float] = []  # when it saw them
        self.messages = 0
        self.bytes = 0
        node = base_pb2.Node(id=f"client-{number}", cluster="benchmarks", user_agent_name="benchmark")
        if mode == "leds":
            node.metadata["meshsdk.leds"] = True
        method = "DeltaAggregatedResources" if self._delta else "StreamAggregatedResources"
        first = self._request(_ENDPOINTS, node=node, names=[service])
        self.stream = Http2Stream(_SERVICE + method, first, self._on_message)

    def _request(self, type_url: str, names: list[str] | None = None, **fields: Any) -> bytes:
        if self._delta:
            fields.pop("version_info", None)
            made: Any = discovery_pb2.DeltaDiscoveryRequest(
                type_url=type_url, resource_names_subscribe=names or [], **fields
            )
        else:
            made = discovery_pb2.DiscoveryRequest(type_url=type_url, resource_names=[self._service], **fields)
        request: bytes = made.SerializeToString()
        return request

    def _on_message(self, stream: Http2Stream, raw: bytes) -> None:
        now = time.monotonic()
        self.messages += 1
        self.bytes += len(raw)
        kind = discovery_pb2.DeltaDiscoveryResponse if self._delta else discovery_pb2.DiscoveryResponse
        answer = kind.FromString(raw)
        version = "" if self._delta else answer.version_info
        stream.send(self._request(answer.type_url, response_nonce=answer.nonce, version_info=version))
        for resource in answer.resources:
            value = resource.resource.value if self._delta else resource.value
            newest, collections = self._fleet.read(answer.type_url, value)
            if newest and (not self.seen or newest > self.seen[-1]):
                self.seen.append(newest)
                self.at.append(now)
            if collections and not self._fleet.known(self, collections):
                stream.send(self._request(_COLLECTED, names=list(collections)))


class _Fleet:
    """All clients. Owned by the loop; `memo` spares a thousand clients the decoding of one and the same resource."""

    def __init__(self) -> None:
        self.clients: list[_Client] = []
        self._memo: dict[bytes, tuple[int, tuple[str, ...]]] = {}
        self._subscribed: dict[_Client, frozenset[str]] = {}

    def known(self, client: _Client, collections: tuple[str, ...]) -> bool:
        """Notes the collections of a client; returns whether they are the ones it has."""
        same = self._subscribed.get(client) == frozenset(collections)
        self._subscribed[client] = frozenset(collections)
        return same

    def read(self, type_url: str, value: bytes) -> tuple[int, tuple[str, ...]]:
        """Returns (largest weight, LEDS collections) of a resource."""
        known = self._memo.get(value)
        if known is None:
            if len(self._memo) > 100:
                self._memo.clear()
            known = self._memo[value] = _read(type_url, value)
        return known

    async def open(self, address: str, count: int, service: str, mode: str) -> None:
        """Connects `count` clients."""
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        made = [_Client(self, number, service, mode) for number in range(count)]
        self.clients += made
        for start in range(0, count, _AT_ONCE):
            part = made[start : start + _AT_ONCE]
            await asyncio.gather(*(loop.create_connection(lambda one=one: one.stream, host, int(port)) for one in part))

    async def reached(self, change: int) -> None:
        """Waits until every client has seen `change`."""
        deadline = time.monotonic() + _PATIENCE
        while not all(client.seen and client.seen[-1] >= change for client in self.clients):
            ended = [client.stream.ended for client in self.clients if client.stream.ended]
            if ended or time.monotonic() > deadline:
                behind = sum(not client.seen or client.seen[-1] < change for client in self.clients)
                raise RuntimeError(f"{behind} clients have not seen change {change}; ended: {ended[:3]}")
            await asyncio.sleep(0.005)

    def arrivals(self, sent: dict[str, float]) -> dict[str, Any]:
        """Returns the seconds that each change took to each client, sorted; and messages and bytes received."""
        took = []
        for client in self.clients:
            for change, when in sent.items():
                place = bisect.bisect_left(client.seen, int(change))
                took.append(client.at[place] - when)
        return {"took": sorted(took), **self.received()}

    def received(self) -> dict[str, Any]:
        """Returns messages and bytes received so far, by all."""
        messages = sum(client.messages for client in self.clients)
        return {"messages": messages, "bytes": sum(client.bytes for client in self.clients)}

    def close(self) -> None:
        """Closes all connections."""
        for client in self.clients:
            client.stream.close()
        self.clients.clear()
        self._subscribed.clear()


def _read(type_url: str, value: bytes) -> tuple[int, tuple[str, ...]]:
    if type_url == _COLLECTED:
        return endpoint_components_pb2.LbEndpoint.FromString(value).load_balancing_weight.value, ()
    localities = endpoint_pb2.ClusterLoadAssignment.FromString(value).endpoints
    weights = [one.load_balancing_weight.value for locality in localities for one in locality.lb_endpoints]
    collections = [locality.leds_cluster_locality_config.leds_collection_name for locality in localities]
    return max(weights, default=0), tuple(sorted(name for name in collections if name))


def main() -> None:
    """Serves commands, one line of JSON each, with the loop on a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    fleet = _Fleet()

    async def answer(command: dict[str, Any]) -> dict[str, Any]:
        verb = command.pop("do")
        if verb == "open":
            await fleet.open(**command)
        elif verb == "await":
            await fleet.reached(**command)
        elif verb == "close":
            fleet.close()
        else:
            found: dict[str, Any] = getattr(fleet, verb)(**command)
            return found
        return {}

    for line in sys.stdin:
        stdio.say(asyncio.run_coroutine_threadsafe(answer(json.loads(line)), loop).result())


if __name__ == "__main__":
    main()
