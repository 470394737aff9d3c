"""A control plane as a process: our `XdsServer`, with each client's resources in a view of its own (by node id).

It also makes the changes of B2 and waits for the client after each, because it alone sees the ACK at once. Commands
are the methods of `Plane`; the server's own CPU time is in no figure.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

from envoy.config.endpoint.v3 import endpoint_pb2

from benchmarks.machine import cpu_seconds, settle
from benchmarks.workers import stdio, xds
from controlplane import ResourceCache, XdsServer
from controlplane.server import type_urls

_PATIENCE = 120.0  # seconds for a client to acknowledge


class Plane:
    """Owned by the main thread, but for `_bytes`, which the server's loop counts up."""

    def __init__(self) -> None:
        """Starts the server on a free port; a change goes out at once."""
        self._cache = ResourceCache()
        self._server = XdsServer(self._cache, debounce=(0.0, 0.0))
        self._assignments: dict[str, endpoint_pb2.ClusterLoadAssignment] = {}
        self._draw = random.Random(7)
        self._fresh = 1 << 20  # number of the next address that no set has had yet
        self._bytes = 0
        self._count_bytes()
        stdio.say({"port": self._server.start("127.0.0.1:0")})

    def _count_bytes(self) -> None:
        assemble = self._server.assembler.assemble

        def counted(reply: Any, *, delta: bool) -> bytes:
            message = assemble(reply, delta=delta)
            self._bytes += len(message)
            return message

        self._server.assembler.assemble = counted  # type: ignore[method-assign]

    def publish(self, node: str, resources: dict[str, Any]) -> dict[str, Any]:
        """Replaces all that a node gets by `resources`; see `_messages`."""
        self._cache.replace(self._messages(node, **resources), node=node)
        return {}

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
    ) -> list[Any]:
        """Returns the messages for an Envoy (`proxy`) or a gRPC client.

        Endpoints: `addresses`, or `size` addresses of `port` for each of `services`. `full`: 19 more routes, a retry
        policy, outlier detection.
        """
        names = ["orders"] if services == 1 else [f"service-{number}" for number in range(services)]
        found: list[Any] = [
            xds.listener("orders", proxy=proxy),
            xds.routes("orders", names, 19 if full else 0, retry=full),
        ]
        for number, name in enumerate(names):
            known = addresses or [xds.address(number * size + one, port) for one in range(size)]
            found.append(xds.cluster(name, policy, outlier_detection=full))
            found.append(xds.assignment(name, known))
        self._assignments[node] = found[-1]
        return found

    def acknowledged(self, node: str) -> dict[str, Any]:
        """Waits until a client has acknowledged the newest clusters and endpoints that there are for it."""
        snapshot = self._cache.snapshot(node)
        versions = {url: snapshot.of(url).version for url in (type_urls.CLUSTER, type_urls.ENDPOINT)}
        self._await(
            node,
            lambda types: all(url in types and types[url].version_acked == versions[url] for url in versions),
        )
        return {}

    def change(self, node: str, pid: int, count: int, seconds: float) -> dict[str, Any]:
        """Exchanges one endpoint, `count` times or for `seconds`, but twice at least; waits for the client each time.

        Answers what the client (`pid`) spent in all: `cpu` seconds, and `bytes` of messages sent to it.
        """
        assignment = self._assignments[node]
        endpoints = assignment.endpoints[0].lb_endpoints
        settle(pid)
        began, cpu, sent, done = time.monotonic(), cpu_seconds(pid), self._bytes, 0
        while done < count and (done < 2 or time.monotonic() - began < seconds):
            place = endpoints[self._draw.randrange(len(endpoints))].endpoint.address.socket_address
            place.address = xds.address(self._fresh, 0)[0]
            self._fresh += 1
            self._cache.set(assignment, node=node)
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
