"""Ten thousand changes and a slow reader: it costs itself alone. And what the server counts of all its clients."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import grpc
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from controlplane.server.type_urls import CLUSTER, ENDPOINT, LB_ENDPOINT
from tests.e2e.peers import resources
from tests.e2e.processes import until
from tests.e2e.xds_bench import SECONDS, Bench, RawStream

CHANGES = 10_000
PREFIX = "xdstp:///envoy.config.endpoint.v3.LbEndpoint/orders/-/"


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A cache, and what a test starts around it."""
    made = Bench()
    yield made
    made.end()


def endpoint(weight: int) -> endpoint_components_pb2.LbEndpoint:
    """An endpoint told apart by its weight."""
    message = endpoint_components_pb2.LbEndpoint()
    message.load_balancing_weight.value = weight
    return message


def padded(mark: int, size: int) -> endpoint_pb2.ClusterLoadAssignment:
    """The EDS resource `a`, told apart by a mark, of about `size` bytes."""
    made = resources.endpoints("a", [1])
    made.endpoints[0].locality.sub_zone = f"{mark}-{'x' * size}"
    return made


def mark(response) -> str:
    """The mark of the resource in a state-of-the-world response."""
    message = endpoint_pb2.ClusterLoadAssignment.FromString(response.resources[0].value)
    return message.endpoints[0].locality.sub_zone.partition("-")[0]


class Unread:
    """A stream of which nothing is read until it is asked for, with the smallest window that HTTP/2 has."""

    def __init__(self, port: int) -> None:
        options = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535))
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", (*options, ("grpc.use_local_subchannel_pool", 1)))
        self._requests: queue.SimpleQueue = queue.SimpleQueue()
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(self._channel)
        self._call = stub.StreamAggregatedResources(iter(self._requests.get, None))
        self.send(node=base_pb2.Node(id="slow"))

    def send(self, **fields) -> None:
        """Sends a request for the endpoints `a`."""
        self._requests.put(discovery_pb2.DiscoveryRequest(type_url=ENDPOINT, resource_names=["a"], **fields))

    def read(self):
        """Reads one response."""
        return next(self._call)

    def close(self) -> None:
        """Ends it."""
        self._requests.put(None)
        self._call.cancel()
        self._channel.close()


def follow(stream: RawStream, last: int) -> None:
    """Reads and acknowledges as a good client until it has the change `last`."""
    while True:
        response = stream.read()
        stream.ask(ENDPOINT, "a", response_nonce=response.nonce, version_info=response.version_info)
        if mark(response) == str(last):
            return


def test_client_that_stops_reading_gets_the_newest_state_only(bench: Bench) -> None:
    """10,000 changes go by a client that does not read; another converges; then the slow one gets the last alone."""
    bench.cache.set(padded(0, 1_000))
    bench.start()
    slow = Unread(bench.port)
    try:
        until(lambda: bench.client("slow") and bench.client("slow").sent == 1, "the first answer is sent")
        for change in range(1, CHANGES + 1):
            bench.cache.set(padded(change, 1_000))
        quick = bench.stream(node="quick")
        quick.ask(ENDPOINT, "a")
        follow(quick, CHANGES)
        assert bench.client("slow").sent == 1
        first = slow.read()
        assert mark(first) == "0"
        slow.send(response_nonce=first.nonce, version_info=first.version_info)
        assert mark(slow.read()) == str(CHANGES)
    finally:
        slow.close()


def test_client_that_acknowledges_without_reading_fills_its_window_only(bench: Bench) -> None:
    """ACKs for responses that were never read do not make the server write without end: it stops at the window."""
    bench.cache.set(padded(0, 50_000))
    bench.start(debounce=(0.0, 0.0))
    quick, slow = bench.stream(node="quick"), Unread(bench.port)
    quick.ask(ENDPOINT, "a")
    try:
        for change in range(1, 101):
            follow(quick, change - 1)
            slow.send(response_nonce=str(change), version_info="?")
            bench.cache.set(padded(change, 50_000))
        follow(quick, 100)
        assert bench.client("quick").sent >= 100
        assert bench.client("slow").sent < 20
    finally:
        slow.close()


def test_counters(bench: Bench) -> None:
    """Streams by transport, messages, bytes, NACKs by type and stale requests are counted, also of closed streams."""
    bench.cache.set([resources.cluster("a"), resources.endpoints("a", [1])])
    assert bench_counts(bench.idle()) == (0, 0, {}, 0)
    bench.start()
    sotw, delta = bench.stream(node="s"), bench.stream(delta=True, node="d")
    sotw.ask(CLUSTER)
    answer = sotw.read()
    sotw.ask(CLUSTER, response_nonce=answer.nonce, error_detail={"code": 3, "message": "not this one"})
    delta.subscribe(ENDPOINT, "a")
    told = delta.read()
    delta.subscribe(ENDPOINT, response_nonce=told.nonce, error_detail={"code": 3, "message": "first"})
    delta.subscribe(ENDPOINT, response_nonce=told.nonce, error_detail={"code": 3, "message": "second"})
    delta.subscribe(ENDPOINT, response_nonce="99")

    def counted():
        found = bench.server.counters()
        assert (found.streams, found.opened) == ({"sotw": 1, "delta": 1}, 2)
        assert found.bytes == answer.ByteSize() + told.ByteSize()
        assert bench_counts(found) == (2, 0, {CLUSTER: 1, ENDPOINT: 2}, 1)
        return True

    until(counted, "the counters")
    known = bench.subscription(ENDPOINT, "d")
    assert (known.nacks, known.nack, known.rejected) == (2, "second", True)
    assert known.nacked_at >= bench.client("d").opened_at
    delta.close()
    until(lambda: bench.server.counters().streams == {"sotw": 1}, "the stream to be gone")
    assert bench_counts(bench.server.counters()) == (2, 0, {CLUSTER: 1, ENDPOINT: 2}, 1)


def bench_counts(found) -> tuple:
    """Messages, refusals, NACKs and stale requests."""
    return found.messages, found.refused, dict(found.nacks), found.stale


def test_collection_over_the_wire(bench: Bench) -> None:
    """A glob subscription brings all members, then one change; a state-of-the-world client is refused in words."""
    bench.cache.set({PREFIX + name: endpoint(1) for name in "xyz"})
    bench.start()
    stream = bench.stream(delta=True)
    stream.subscribe(LB_ENDPOINT, PREFIX + "*?xds.node.id=n")
    answer = stream.read()
    assert [found.name for found in answer.resources] == [f"{PREFIX}{name}?xds.node.id=n" for name in "xyz"]
    stream.subscribe(LB_ENDPOINT, response_nonce=answer.nonce)
    bench.cache.set({PREFIX + "y": endpoint(2)})
    answer = stream.read()
    assert [found.name for found in answer.resources] == [f"{PREFIX}y?xds.node.id=n"]
    stream.subscribe(LB_ENDPOINT, response_nonce=answer.nonce)
    bench.cache.delete(LB_ENDPOINT, PREFIX + "z")
    assert list(stream.read().removed_resources) == [f"{PREFIX}z?xds.node.id=n"]
    assert bench.subscription(LB_ENDPOINT).collections == 1
    refused = bench.stream(node="s")
    refused.ask(LB_ENDPOINT, PREFIX + "*")
    error = refused.error()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "only the incremental protocol" in error.details()


def test_what_is_asked_for_is_made_before_the_answer(bench: Bench) -> None:
    """The first answer to a client has what the hook made for it, whatever the transport, and was not awaited twice."""
    asked = []

    def wanted(_view, type_url, names):
        asked.append(set(names))
        return lambda: bench.cache.set(resources.endpoints("a", [1])) if type_url == ENDPOINT else None

    bench.cache._wanted = wanted
    bench.start()
    stream = bench.stream(delta=True)
    stream.subscribe(ENDPOINT, "a")
    answer = stream.read()
    assert ([found.name for found in answer.resources], list(answer.removed_resources)) == (["a"], [])
    stream.subscribe(ENDPOINT, response_nonce=answer.nonce)
    stream.subscribe(ENDPOINT, "b")
    assert list(stream.read().removed_resources) == ["b"]
    assert asked == [{"a"}, {"b"}]
    assert bench.server.asking(ENDPOINT, ["a", "z"]) == {"a": {"n"}, "z": frozenset()}


def test_a_hook_that_waits_holds_up_its_own_client_only(bench: Bench) -> None:
    """While the view of one client, and the endpoints of another, take their time, a third is served."""
    free = threading.Event()

    def view(node):
        return node.id if node.id != "late" or free.wait(SECONDS) else ""

    def wanted(view, _type_url, _names):
        return (lambda: free.wait(SECONDS)) if view == "slow" else None

    bench.cache._view, bench.cache._wanted = view, wanted
    bench.cache.set(resources.endpoints("a", [1]))
    bench.start()
    streams = {node: bench.stream(node=node) for node in ("late", "slow", "quick")}
    try:
        for stream in streams.values():
            stream.ask(ENDPOINT, "a")
        assert mark(streams["quick"].read()) == ""
        assert not bench.client("slow").sent
    finally:
        free.set()
    for node in ("late", "slow"):
        assert mark(streams[node].read()) == ""
