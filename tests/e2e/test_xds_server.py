"""`XdsServer` over real connections: what each service says, to raw clients and to grpcio's own xDS client."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.listener.v3 import lds_pb2_grpc

from controlplane import ResourceCache
from controlplane.server.status import EventKind
from controlplane.server.type_urls import CLUSTER, ENDPOINT, LISTENER, ROUTE
from tests.e2e.peers import resources
from tests.e2e.peers.grpc_process import stock_grpcio
from tests.e2e.processes import until
from tests.e2e.xds_bench import MAKE, SECONDS, SERVICES, Bench, names


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Nothing started yet."""
    made = Bench()
    yield made
    made.end()


@pytest.mark.parametrize("separate", [True, False], ids=["separate", "ads"])
@pytest.mark.parametrize("type_url", [LISTENER, ROUTE, CLUSTER, ENDPOINT], ids=["lds", "rds", "cds", "eds"])
def test_state_of_the_world(bench: Bench, type_url: str, separate: bool) -> None:
    """Over each service a named resource arrives, is acknowledged, changes, and the change arrives."""
    bench.start()
    bench.cache.set([MAKE[type_url]("a"), MAKE[type_url]("b")])
    stream = bench.stream(type_url if separate else "")
    stream.ask(type_url, "a")
    first = stream.read()
    assert names(first) == ["a"]
    stream.ask(type_url, "a", version_info=first.version_info, response_nonce=first.nonce)
    until(lambda: (found := bench.subscription(type_url)) and found.version_acked == first.version_info, "the ACK")
    changed = MAKE[type_url]("a", 2)
    if type_url in {LISTENER, CLUSTER}:
        changed.MergeFrom(type(changed)(**{"stat_prefix" if type_url == LISTENER else "alt_stat_name": "2"}))
    bench.cache.set(changed)
    second = stream.read()
    assert names(second) == ["a"]
    assert type(changed).FromString(second.resources[0].value) == changed
    assert second.version_info != first.version_info
    client = bench.client()
    assert (client.transport, client.service) == ("sotw", type_url if separate else "ADS")


@pytest.mark.parametrize("separate", [True, False], ids=["separate", "ads"])
@pytest.mark.parametrize("type_url", [LISTENER, ROUTE, CLUSTER, ENDPOINT], ids=["lds", "rds", "cds", "eds"])
def test_delta(bench: Bench, type_url: str, separate: bool) -> None:
    """Over each service an increment brings what changed, names what went, and what is not there at once."""
    bench.start()
    bench.cache.set([MAKE[type_url]("a"), MAKE[type_url]("b")])
    stream = bench.stream(type_url if separate else "", delta=True)
    stream.subscribe(type_url, "a", "b", "nowhere")
    first = stream.read()
    assert [resource.name for resource in first.resources] == ["a", "b"]
    assert list(first.removed_resources) == ["nowhere"]
    stream.subscribe(type_url, response_nonce=first.nonce)
    bench.cache.delete(type_url, "a")
    second = stream.read()
    assert (list(second.resources), list(second.removed_resources)) == ([], ["a"])
    stream.subscribe(type_url, response_nonce=second.nonce)
    bench.cache.set(MAKE[type_url]("nowhere"))
    assert [resource.name for resource in stream.read().resources] == ["nowhere"]
    assert bench.client().transport == "delta"


@pytest.mark.parametrize("type_url", [LISTENER, ROUTE, CLUSTER, ENDPOINT], ids=["lds", "rds", "cds", "eds"])
def test_fetch(bench: Bench, type_url: str) -> None:
    """The unary method of each service answers once with what is asked for."""
    bench.start()
    bench.cache.set([MAKE[type_url]("a"), MAKE[type_url]("b")])
    kind, noun = SERVICES[type_url]
    fetch = getattr(kind(bench.channel()), f"Fetch{noun}")
    request = discovery_pb2.DiscoveryRequest(resource_names=["b"], node={"id": "n"})
    assert names(fetch(request, timeout=SECONDS)) == ["b"]
    with pytest.raises(grpc.RpcError) as refused:
        fetch(discovery_pb2.DiscoveryRequest(type_url="other"), timeout=SECONDS)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_headers_come_before_any_message(bench: Bench) -> None:
    """Response headers are sent when a stream opens, though nothing was asked for yet."""
    bench.start()
    stream = bench.stream()
    headers = futures.Future()
    threading.Thread(target=lambda: headers.set_result(stream.call.initial_metadata()), daemon=True).start()
    assert headers.result(SECONDS) is not None


def test_refusal_is_recorded(bench: Bench) -> None:
    """A NACK stands in the client table with its text and version, and is told to the hook."""
    bench.start()
    bench.cache.set(MAKE[CLUSTER]("a"))
    stream = bench.stream()
    stream.ask(CLUSTER)
    response = stream.read()
    stream.ask(CLUSTER, response_nonce=response.nonce, error_detail={"code": 3, "message": "no such policy"})
    found = until(lambda: (s := bench.subscription(CLUSTER)) and s.rejected and s, "the NACK")
    assert (found.nack, found.nack_version, found.version_acked) == ("no such policy", response.version_info, "")
    assert (found.wildcard, found.names, found.held, found.pending) == (True, 0, 1, False)
    assert [(event.kind, event.text) for event in bench.events] == [
        (EventKind.OPENED, ""),
        (EventKind.NACKED, "no such policy"),
    ]
    assert bench.events[0].node.cluster == "raw"


def test_batch_arrives_make_before_break(bench: Bench) -> None:
    """A route moved to another cluster in one batch arrives after the new cluster, and before the old one goes."""
    bench.start()
    bench.cache.set([resources.routes("r", {"old": 1}), MAKE[CLUSTER]("old")])
    stream = bench.stream(delta=True)
    for type_url, wanted in ((CLUSTER, "*"), (ROUTE, "r")):
        stream.subscribe(type_url, wanted)
        stream.subscribe(type_url, response_nonce=stream.read().nonce)
    with bench.cache.batch():
        bench.cache.set([resources.routes("r", {"new": 1}), MAKE[CLUSTER]("new")])
        bench.cache.delete(CLUSTER, "old")
    story = []
    for _ in range(3):
        response = stream.read()
        story.append(([found.name for found in response.resources], list(response.removed_resources)))
        stream.subscribe(response.type_url, response_nonce=response.nonce)
    assert story == [(["new"], []), (["r"], []), ([], ["old"])]


def test_changes_in_a_burst_are_sent_together(bench: Bench) -> None:
    """A hundred commits in a burst reach a client that acknowledges at once in a few responses; the last is right."""
    bench.start(debounce=(0.3, 5.0))
    bench.cache.set(MAKE[ENDPOINT]("a"))
    stream = bench.stream()
    stream.ask(ENDPOINT, "a")
    last = MAKE[ENDPOINT]("a", 101).SerializeToString(deterministic=True)
    responses: list[bytes] = []

    def follow() -> None:
        while last not in responses:
            response = stream.read()
            responses.append(response.resources[0].value)
            stream.ask(ENDPOINT, "a", response_nonce=response.nonce)

    following = threading.Thread(target=follow, daemon=True)
    following.start()
    until(lambda: (found := bench.subscription(ENDPOINT)) and found.version_acked, "the first ACK")
    for port in range(2, 102):
        bench.cache.set(MAKE[ENDPOINT]("a", port))
        bench.client()  # the server's loop has passed this commit: without a debounce it would be on its way
    following.join(SECONDS)
    assert responses[-1] == last
    assert len(responses) <= 5


def test_views(bench: Bench) -> None:
    """Nodes of one view get the same, made when its first node appears; another view's change does not reach them."""
    made: list[str] = []

    def view(node) -> str:
        key = f"zone={node.id[0]}"
        if key not in made:
            made.append(key)
            bench.cache.set(MAKE[CLUSTER](key), node=key)
        return key

    bench.cache = ResourceCache(view)
    bench.cache.set(MAKE[CLUSTER]("shared"))
    bench.start()
    streams = {node: bench.stream(CLUSTER, delta=True, node=node) for node in ("a1", "a2", "b1")}
    for node, stream in streams.items():
        stream.subscribe(CLUSTER, "*")
        response = stream.read()
        assert [found.name for found in response.resources] == ["shared", f"zone={node[0]}"]
        stream.subscribe(CLUSTER, response_nonce=response.nonce)
    bench.cache.set(MAKE[CLUSTER]("only-a"), node="zone=a")
    bench.cache.set(MAKE[CLUSTER]("all"))
    for node, stream in streams.items():
        expected = ["all", "only-a"] if node[0] == "a" else ["all"]
        assert [found.name for found in stream.read().resources] == expected
    assert made == ["zone=a", "zone=b"]


def test_slow_reader_holds_up_nobody(bench: Bench) -> None:
    """While a client leaves megabytes unread others get every change; when it reads on, it gets the newest state."""
    bench.start(debounce=(0.0, 0.0))

    def publish(number: int) -> None:
        big = MAKE[LISTENER]("a")
        big.stat_prefix = f"{number:x>1000000}"
        bench.cache.set([big, MAKE[ENDPOINT]("e", number)])

    publish(1)
    asked: queue.SimpleQueue = queue.SimpleQueue()
    slow = lds_pb2_grpc.ListenerDiscoveryServiceStub(bench.channel()).StreamListeners(iter(asked.get, None))
    asked.put(discovery_pb2.DiscoveryRequest(resource_names=["a"], node={"id": "slow"}))
    until(lambda: bench.subscription(LISTENER, "slow"), "the slow client")
    quick = bench.stream(ENDPOINT)
    quick.ask(ENDPOINT, "e")
    for number in range(1, 21):
        publish(number)
        response = quick.read()
        assert response.resources[0].value == MAKE[ENDPOINT]("e", number).SerializeToString(deterministic=True)
        quick.ask(ENDPOINT, "e", response_nonce=response.nonce)
    response = next(slow)
    asked.put(discovery_pb2.DiscoveryRequest(resource_names=["a"], response_nonce=response.nonce))
    response = next(slow)
    assert response.resources[0].value == bench.cache.get(LISTENER, "a").body[-len(response.resources[0].value) :]
    assert response.resources[0].value.endswith(b"x20")
    asked.put(None)
    slow.cancel()


def test_grpcio_calls_through_it(bench: Bench, backends: dict[str, int]) -> None:
    """grpcio's own xDS client finds a service set in the cache, follows an endpoint, and loses it with its listener."""
    bench.start()
    service = "orders"

    def publish(port: int) -> None:
        bench.cache.set(
            [
                resources.client_listener(service, service),
                resources.routes(service, {service: 1}),
                resources.cluster(service),
                resources.endpoints(service, [port]),
            ]
        )

    publish(backends["a"])
    peer = stock_grpcio("sync", bench.port, "stock")
    try:
        until(lambda: set(peer.call(service)[0]) == {"a"}, "answers of a")
        publish(backends["b"])
        until(lambda: set(peer.call(service)[0]) == {"b"}, "answers of b")
        client = bench.client("stock")
        assert client.node.user_agent.startswith("gRPC")
        assert not any(found.rejected for found in client.subscriptions)
        assert {found.type_url for found in client.subscriptions} == {LISTENER, ROUTE, CLUSTER, ENDPOINT}
        bench.cache.delete(LISTENER, service)
        until(lambda: not peer.call(service)[0], "calls to fail")
    finally:
        peer.stop()
