"""A client that asks for a type of which each node has its own: its stream moves to a view of its own, without loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.runtime.v3 import rtds_pb2, rtds_pb2_grpc

from controlplane import ResourceCache
from controlplane.server.node import Node
from controlplane.server.type_urls import CLUSTER, ENDPOINT, RUNTIME
from tests.e2e.peers import resources
from tests.e2e.processes import until
from tests.e2e.xds_bench import Bench


def runtime(name: str, value: float) -> rtds_pb2.Runtime:
    """A Runtime resource."""
    message = rtds_pb2.Runtime(name=name)
    message.layer.update({"value": value})
    return message


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A server on a cache in which all nodes share a view until they ask for Runtime."""
    made = Bench()

    def own(node: Node, type_url: str) -> Callable[[], str] | None:
        return (lambda: f"own {node.id}") if type_url == RUNTIME else None

    made.cache = ResourceCache(view=lambda _: "shared", own=own)
    made.cache.compose({"own n": ("shared", "verdict"), "own m": ("shared",)})
    made.start(debounce=(0.0, 0.0))
    yield made
    made.end()


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
def test_the_stream_moves_with_all_it_has(bench: Bench, delta: bool) -> None:
    """What was shared goes on to arrive, by name and by wildcard; what is its own arrives too, and nothing else's."""
    bench.cache.set(resources.endpoints("orders", [1]), node="shared")
    bench.cache.set([resources.cluster("orders")], node="shared")
    bench.cache.set(runtime("switch", 1.0), node="verdict")
    stream = bench.stream(delta=delta)
    ask = stream.subscribe if delta else stream.ask
    ask(CLUSTER, "*")
    clusters = stream.read()
    ask(CLUSTER, *(() if delta else ("*",)), response_nonce=clusters.nonce)
    ask(ENDPOINT, "orders")
    first = stream.read()
    ask(ENDPOINT, *(() if delta else ("orders",)), response_nonce=first.nonce)
    until(lambda: bench.client().view == "shared", "it shares a view")
    ask(RUNTIME, "switch")
    told = stream.read()
    assert told.type_url == RUNTIME
    ask(RUNTIME, *(() if delta else ("switch",)), response_nonce=told.nonce)
    assert bench.client().view == "own n"
    bench.cache.set(resources.endpoints("orders", [2]), node="shared")
    changed = stream.read()
    assert changed.type_url == ENDPOINT
    ask(ENDPOINT, *(() if delta else ("orders",)), response_nonce=changed.nonce)
    bench.cache.set(resources.cluster("users"), node="shared")
    added = stream.read()
    assert added.type_url == CLUSTER
    ask(CLUSTER, *(() if delta else ("*",)), response_nonce=added.nonce)
    bench.cache.set(runtime("switch", 0.0), node="verdict")
    assert _values(stream.read(), delta=delta) == [0.0]


def test_what_its_own_view_lacks_is_taken_away(bench: Bench) -> None:
    """A resource of the old view that the new one has otherwise is sent anew with the move."""
    bench.cache.set(resources.endpoints("orders", [1]), node="shared")
    bench.cache.set([runtime("switch", 1.0), resources.endpoints("orders", [2])], node="verdict")
    stream = bench.stream(delta=True)
    stream.subscribe(ENDPOINT, "orders")
    first = stream.read()
    stream.subscribe(ENDPOINT, response_nonce=first.nonce)
    until(lambda: bench.subscription(ENDPOINT).version_acked, "the ACK")
    stream.subscribe(RUNTIME, "switch")
    assert sorted(stream.read().type_url for _ in range(2)) == sorted((ENDPOINT, RUNTIME))


def test_a_fetch_is_answered_from_its_own_view(bench: Bench) -> None:
    """The unary method knows whose resources they are."""
    bench.cache.set(runtime("switch", 1.0), node="verdict")
    request = discovery_pb2.DiscoveryRequest(node=base_pb2.Node(id="n"), type_url=RUNTIME, resource_names=["switch"])
    answer = rtds_pb2_grpc.RuntimeDiscoveryServiceStub(bench.channel()).FetchRuntime(request, timeout=20)
    assert _values(answer, delta=False) == [1.0]


def _values(response: object, *, delta: bool) -> list[float]:
    packed = [each.resource if delta else each for each in response.resources]
    return [rtds_pb2.Runtime.FromString(each.value).layer["value"] for each in packed]
