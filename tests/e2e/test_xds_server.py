"""`XdsServer` over real connections, with clients made of `xds-protos` alone and with grpcio's own xDS client."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.cluster.v3 import cds_pb2_grpc
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from envoy.service.endpoint.v3 import eds_pb2_grpc
from envoy.service.listener.v3 import lds_pb2_grpc
from envoy.service.route.v3 import rds_pb2_grpc

from controlplane import ResourceCache, XdsServer
from controlplane.server.status import ClientInfo, Event, EventKind, SubscriptionInfo
from controlplane.server.type_urls import CLUSTER, ENDPOINT, LISTENER, ROUTE
from controlplane.server.wire import Limits
from meshsdk.errors import ConfigurationError, LifecycleError
from tests.e2e.peers import resources
from tests.e2e.peers.grpc_process import stock_grpcio
from tests.e2e.processes import until

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


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Nothing started yet."""
    made = Bench()
    yield made
    made.end()


def names(response) -> list[str]:
    """The names of the resources in a state-of-the-world response."""
    found = []
    for resource in response.resources:
        kind = type(MAKE[resource.type_url]("x"))
        message = kind.FromString(resource.value)
        found.append(getattr(message, "cluster_name", "") or message.name)
    return found


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


def test_stop_ends_streams_and_tells_why(bench: Bench) -> None:
    """Stopping ends open streams with UNAVAILABLE and words, drops the hook's clients, and may be repeated."""
    bench.start()
    streams = [bench.stream(), bench.stream(CLUSTER, delta=True)]
    streams[0].ask(CLUSTER)
    streams[0].read()
    streams[1].subscribe(CLUSTER)
    streams[1].read()
    bench.server.stop(grace=10)
    for stream in streams:
        error = stream.error()
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "stopping" in error.details()
    bench.server.stop()
    assert bench.server.clients() == ()
    assert sum(event.kind is EventKind.CLOSED for event in bench.events) == 2
    bench.cache.set(MAKE[CLUSTER]("later"))
    with pytest.raises(LifecycleError):
        bench.server.start()


def test_client_that_leaves_is_forgotten(bench: Bench) -> None:
    """A closed stream vanishes from the client table and from the index."""
    bench.start()
    stream = bench.stream()
    stream.ask(CLUSTER, "a")
    stream.ask(ENDPOINT, "b")
    until(lambda: bench.subscription(ENDPOINT), "the subscription")
    stream.close()
    until(lambda: not bench.server.clients(), "the stream to be forgotten")
    assert bench.server._interest._views == {}


@pytest.mark.parametrize(
    ("limits", "requests", "code", "words"),
    [
        (Limits(names=2), [(CLUSTER, "a", "b", "c")], grpc.StatusCode.INVALID_ARGUMENT, "3 resource names"),
        (Limits(names=2), [(CLUSTER, "a", "b"), (ROUTE, "a")], grpc.StatusCode.RESOURCE_EXHAUSTED, "2 names"),
        (Limits(name_bytes=3), [(CLUSTER, "abcd")], grpc.StatusCode.INVALID_ARGUMENT, "name of 4"),
        (Limits(types=1), [(CLUSTER,), (ROUTE, "a")], grpc.StatusCode.INVALID_ARGUMENT, "1 resource types"),
        (Limits(), [("",)], grpc.StatusCode.INVALID_ARGUMENT, "no type_url"),
        (Limits(message_bytes=100), [(CLUSTER, "n" * 200)], grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
        (Limits(streams=0), [(CLUSTER,)], grpc.StatusCode.RESOURCE_EXHAUSTED, "streams are open"),
    ],
)
def test_limits(bench: Bench, limits: Limits, requests: list, code: grpc.StatusCode, words: str) -> None:
    """A client that asks for too much loses its stream, with words; the server goes on."""
    bench.start(limits=limits)
    stream = bench.stream()
    for request in requests:
        stream.ask(*request)
    error = stream.error()
    assert (error.code(), words in error.details()) == (code, True), error.details()
    until(lambda: not bench.server.clients(), "the stream to be forgotten")


def test_address_in_use_is_an_error(bench: Bench) -> None:
    """A port that another server holds is refused with the address; the server can be stopped without harm."""
    bench.start()
    second = XdsServer(ResourceCache())
    with pytest.raises(ConfigurationError, match=str(bench.port)):
        second.start(f"127.0.0.1:{bench.port}")
    second.stop()


def test_credentials(bench: Bench) -> None:
    """A server with credentials serves clients that have theirs."""
    bench.cache.set(MAKE[CLUSTER]("a"))
    bench.start(credentials=grpc.local_server_credentials())
    request = discovery_pb2.DiscoveryRequest(node={"id": "n"})
    with grpc.secure_channel(f"127.0.0.1:{bench.port}", grpc.local_channel_credentials()) as channel:
        assert names(cds_pb2_grpc.ClusterDiscoveryServiceStub(channel).FetchClusters(request, timeout=SECONDS)) == ["a"]


def test_further_services_share_the_server(bench: Bench) -> None:
    """A service given to the server is served on the same port."""

    async def echo(request: bytes, _: object) -> bytes:
        return request

    def add(server: grpc.aio.Server) -> None:
        handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("example.Echo", handlers),))

    bench.start(services=[add])
    assert bench.channel().unary_unary("/example.Echo/Echo")(b"hello", timeout=SECONDS) == b"hello"


def test_hook_that_fails_harms_no_stream(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """An exception of the hook is logged and the stream is served."""

    def fail(_: Event) -> None:
        raise ValueError("broken hook")

    server = XdsServer(bench.cache, on_event=fail)
    bench.port = server.start()
    try:
        stream = bench.stream()
        stream.ask(CLUSTER)
        assert stream.read().type_url == CLUSTER
        stream.close()
    finally:
        server.stop()
    assert "broken hook" in caplog.text


def test_beside_and_on_the_loop_of_a_program(caplog: pytest.LogCaptureFixture) -> None:
    """In one process a server on its own thread and one on the program's loop serve that loop's aio clients."""

    async def fetch(port: int) -> str:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            call = stub.StreamAggregatedResources()
            await call.write(discovery_pb2.DiscoveryRequest(type_url=CLUSTER, node={"id": "n"}))
            response = await call.read()
            call.cancel()
            return names(response)[0]

    async def program() -> list[str]:
        cache = ResourceCache()
        cache.set(MAKE[CLUSTER]("a"))
        threaded, own = XdsServer(cache), XdsServer(cache)
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        serving = asyncio.ensure_future(own.serve(ready=ready.set_result))
        ports = [threaded.start(), await ready]
        found = [await fetch(port) for port in ports]
        assert [client.id for client in own.clients()] in ([], [1])
        await asyncio.to_thread(threaded.stop)
        own.stop()
        await serving
        return found

    assert asyncio.run(program()) == ["a", "a"]
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


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
