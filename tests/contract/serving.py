"""What the contracts of `serve` share: services of both kinds that end with the test, and a watched registry."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshsdk.discovery.memory import MemoryRegistry
from meshsdk.model.instance import Increment, InstanceState
from tests.contract.served import AioServed, SyncServed

KINDS = {"sync": SyncServed, "aio": AioServed}
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING

Serve = Callable[..., SyncServed]
States = queue.SimpleQueue


@contextmanager
def serving(kind: type[SyncServed]) -> Iterator[Serve]:
    """Starts services that are ended with the test."""
    with ExitStack() as stack:

        def start(**options) -> SyncServed:
            served = kind(**options)
            stack.callback(served.close)
            return served

        yield start


def seen_states(registry: MemoryRegistry) -> queue.SimpleQueue[InstanceState | None]:
    """The states of `orders` as a watcher sees them, None for gone."""
    seen: queue.SimpleQueue[InstanceState | None] = queue.SimpleQueue()

    def note(increment: Increment) -> None:
        for instance in increment.put:
            seen.put(instance.state)
        for _ in increment.removed:
            seen.put(None)

    registry.watch("orders", "", note)
    return seen


def taken(seen: queue.SimpleQueue) -> list[InstanceState | None]:
    """What was seen so far, a state that was told twice once."""
    found = [seen.get() for _ in range(seen.qsize())]
    return [state for number, state in enumerate(found) if number == 0 or found[number - 1] is not state]


def health(served: SyncServed, service: str = "") -> int:
    """The server's health, asked by grpcio-health-checking's client."""
    stub = health_pb2_grpc.HealthStub(served.channel)
    return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status


def watched_health(served: SyncServed) -> grpc.Call:
    """A health watch of the server."""
    return health_pb2_grpc.HealthStub(served.channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
