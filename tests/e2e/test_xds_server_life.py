"""`XdsServer` as a server: start and stop, clients that leave or ask too much, hooks, further services, loops."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import grpc
import pytest
from envoy.service.cluster.v3 import cds_pb2_grpc
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from controlplane import ResourceCache, XdsServer
from controlplane.server.status import Event, EventKind
from controlplane.server.type_urls import CLUSTER, ENDPOINT, ROUTE
from controlplane.server.wire import Limits
from meshsdk.errors import ConfigurationError, LifecycleError
from tests.e2e.processes import until
from tests.e2e.xds_bench import MAKE, SECONDS, Bench, names


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Nothing started yet."""
    made = Bench()
    yield made
    made.end()


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
    interest = bench.server._interest
    assert (interest._named, interest._collected, interest._wild) == ({}, {}, {})


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
