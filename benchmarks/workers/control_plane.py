"""A control plane as a process: our `XdsServer`, with each client's resources in a view of its own (by node id).

It also makes the changes of B2 and waits for the client after each, because it alone sees the ACK at once. Commands
are the methods of `Plane`; the server's own CPU time is in no figure. On the same port is a registry, for clients whose
endpoints come straight from one.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

from benchmarks.machine import cpu_seconds, settle
from benchmarks.workers import stdio, xds
from controlplane import ResourceCache, XdsServer
from controlplane.registries import service as registration_service
from controlplane.registries.registrar import LocalRegistrar
from controlplane.registries.registration import Registration
from controlplane.server import type_urls
from controlplane.snapshot import Packed, pack
from controlplane.store.memory import MemoryStore
from meshsdk.model.instance import Instance

_PATIENCE = 120.0  # seconds for a client to acknowledge
_TTL = 3_600  # seconds; nothing lapses in a run
_COLLECTED = "type.googleapis.com/envoy.config.endpoint.v3.LbEndpoint"


class Endpoints(Protocol):
    """The endpoints of one cluster of one node, in one of the forms in which clients get them."""

    def resources(self) -> list[Packed]:
        """Returns what the cache holds for them."""

    def exchange(self, place: int, new: xds.Address) -> None:
        """Puts another address in the place of one, and publishes it."""


class Whole:
    """EDS: one resource holds them all."""

    def __init__(self, cache: ResourceCache, node: str, name: str, addresses: Sequence[xds.Address]) -> None:
        self._cache = cache
        self._node = node
        self._assignment = xds.assignment(name, addresses)

    def resources(self) -> list[Packed]:
        """See Endpoints."""
        return [pack(self._assignment)]

    def exchange(self, place: int, new: xds.Address) -> None:
        """See Endpoints."""
        self._assignment.endpoints[0].lb_endpoints[place].CopyFrom(xds.endpoint(new))
        self._cache.set(self._assignment, node=self._node)


class Collected:
    """LEDS: a resource each."""

    def __init__(self, cache: ResourceCache, node: str, name: str, addresses: Sequence[xds.Address]) -> None:
        self._cache = cache
        self._node = node
        self._name = name
        self._addresses = list(addresses)

    def resources(self) -> list[Packed]:
        """See Endpoints."""
        members = [pack(xds.endpoint(one), xds.endpoint_name(self._name, one)) for one in self._addresses]
        return [pack(xds.collected(self._name)), *members]

    def exchange(self, place: int, new: xds.Address) -> None:
        """See Endpoints."""
        old, self._addresses[place] = self._addresses[place], new
        with self._cache.batch():
            self._cache.set({xds.endpoint_name(self._name, new): xds.endpoint(new)}, node=self._node)
            self._cache.delete(_COLLECTED, xds.endpoint_name(self._name, old), node=self._node)


class Registered:
    """Instances of an application in the registry."""

    def __init__(self, plane: Plane, app: str, addresses: Sequence[xds.Address]) -> None:
        self._plane = plane
        self._app = app
        self._leases = [self._register(one) for one in addresses]

    def _register(self, where: xds.Address) -> str:
        instance = Instance(self._app, f"{where[0]}:{where[1]}", f"{where[0]}:{where[1]}", region="here", zone="a")
        return self._plane.registrar.register(instance, _TTL).id

    def resources(self) -> list[Packed]:
        """See Endpoints: xDS holds none of them."""
        return []

    def exchange(self, place: int, new: xds.Address) -> None:
        """See Endpoints."""
        old, self._leases[place] = self._leases[place], self._register(new)
        self._plane.registrar.deregister(old)


class Plane:
    """Owned by the main thread, but for `_bytes`, which the server's loop counts up."""

    def __init__(self) -> None:
        """Starts the server on a free port; a change goes out at once."""
        registration = Registration(MemoryStore(), time.monotonic(), lambda _: None)
        self.registrar = LocalRegistrar(registration, threading.RLock(), time.monotonic)
        registry = registration_service.RegistrationService(self.registrar)
        self._cache = ResourceCache()
        self._server = XdsServer(self._cache, debounce=(0.0, 0.0), services=[registry.add_to])
        self._last: dict[str, Endpoints] = {}  # by node: those of its last service
        self._sizes: dict[str, int] = {}  # how many endpoints those are
        self._port = 0  # of endpoints
        self._draw = random.Random(7)
        self._fresh = 1 << 20  # number of the next address that no set has had yet
        self._bytes = 0
        self._count_bytes()
        stdio.say({"port": self._server.start("127.0.0.1:0")})

    def _count_bytes(self) -> None:
        assemble = self._server.assembler.assemble
        serialize = registration_service._serialize

        def counted(reply: Any, *, delta: bool) -> bytes:
            message = assemble(reply, delta=delta)
            self._bytes += len(message)
            return message

        def serialized(message: Any) -> bytes:
            raw = serialize(message)
            self._bytes += len(raw)
            return raw

        self._server.assembler.assemble = counted  # type: ignore[method-assign]
        registration_service._serialize = serialized

    def publish(self, node: str, resources: dict[str, Any]) -> dict[str, Any]:
        """Replaces all that a node gets by `resources`; see `_messages`."""
        self._port = resources.get("port", self._port)
        self._cache.replace(self._messages(node, **resources), node=node)
        return {}

    def _endpoints(self, source: str, node: str, name: str, addresses: Sequence[xds.Address]) -> Endpoints:
        if source == "registry":
            return Registered(self, f"{node}-{name}", addresses)
        return (Collected if source == "leds" else Whole)(self._cache, node, name, addresses)

    def _messages(  # noqa: PLR0913 - what a benchmark may ask for, by name
        self,
        node: str,
        *,
        proxy: bool,
        policy: str,
        addresses: Sequence[xds.Address] = (),
        size: int = 0,
        services: int = 1,
        port: int = 0,
        full: bool = False,
        source: str = "eds",
    ) -> list[Packed]:
        """Returns the resources for an Envoy (`proxy`) or a gRPC client.

        Endpoints: `addresses`, or `size` addresses of `port` for each of `services`. `full`: 19 more routes, a retry
        policy, outlier detection. `source`: eds, leds or registry.
        """
        names = ["orders"] if services == 1 else [f"service-{number}" for number in range(services)]
        found = [
            pack(xds.listener("orders", proxy=proxy)),
            pack(xds.routes("orders", names, 19 if full else 0, retry=full)),
        ]
        for number, name in enumerate(names):
            known = addresses or [xds.address(number * size + one, port) for one in range(size)]
            endpoints = self._endpoints(source, node, name, known)
            if source == "registry":
                found.append(pack(xds.registry_cluster(name, policy, "bench", f"{node}-{name}")))
            else:
                found.append(pack(xds.cluster(name, policy, outlier_detection=full)))
            found += endpoints.resources()
            self._last[node] = endpoints
        self._sizes[node] = len(known)
        return found

    def acknowledged(self, node: str) -> dict[str, Any]:
        """Waits until a client has all that there is for it: it has ACKed it; what a registry sends has all left."""
        snapshot = self._cache.snapshot(node)
        types = (type_urls.CLUSTER, type_urls.ENDPOINT, _COLLECTED)
        versions = {url: snapshot.of(url).version for url in types if len(snapshot.of(url))}
        self._await(
            node,
            # A "~" marks what lacks nothing but removals that the server leaves to the client.
            lambda known: all(
                url in known and known[url].version_acked.rstrip("~") == version for url, version in versions.items()
            ),
        )
        if isinstance(self._last[node], Registered):
            self._quiet()
        return {}

    def _quiet(self, window: float = 0.3) -> None:
        """Waits until nothing was sent for `window` seconds."""
        sent = -1
        while sent != self._bytes:
            sent = self._bytes
            time.sleep(window)

    def change(self, node: str, pid: int, count: int, seconds: float) -> dict[str, Any]:
        """Exchanges one endpoint, `count` times or for `seconds`, but twice at least; waits for the client each time.

        Answers what the client (`pid`) spent in all: `cpu` seconds, and `bytes` of messages sent to it.
        """
        endpoints = self._last[node]
        settle(pid)
        began, cpu, sent, done = time.monotonic(), cpu_seconds(pid), self._bytes, 0
        while done < count and (done < 2 or time.monotonic() - began < seconds):
            before = self._bytes
            endpoints.exchange(self._draw.randrange(self._sizes[node]), (xds.address(self._fresh, 0)[0], self._port))
            self._fresh += 1
            while self._bytes == before:
                time.sleep(0.0005)
            if not isinstance(endpoints, Registered):
                self.acknowledged(node)
            settle(pid)
            done += 1
        return {"cpu": cpu_seconds(pid) - cpu, "bytes": self._bytes - sent, "changes": done}

    def _subscriptions(self, node: str) -> dict[str, Any]:
        return {
            subscription.type_url: subscription
            for client in self._server.clients()
            if client.node.id == node
            for subscription in client.subscriptions
        }

    def _await(self, node: str, condition: Any) -> None:
        deadline = time.monotonic() + _PATIENCE
        pause = 0.0005
        while True:
            types = self._subscriptions(node)
            refused = [one.nack for one in types.values() if one.rejected]
            if refused:
                raise RuntimeError(f"{node} refused: {refused}")
            if condition(types):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"{node} acknowledged nothing for {_PATIENCE:g} s: {types}")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)


def main() -> None:
    """Serves commands `{"do": METHOD, ...}`."""
    plane = Plane()
    stdio.serve(lambda command: getattr(plane, command.pop("do"))(**command))


if __name__ == "__main__":
    main()
