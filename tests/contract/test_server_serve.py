"""`serve`, the same for grpc.server and grpc.aio.server: online, health, outages of the registry, and the drain."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshsdk.bootstrap import load_bootstrap
from meshsdk.discovery.memory import MemoryRegistry
from meshsdk.interceptors.activity import DRAINING_KEY
from meshsdk.interceptors.rpc import rpc
from meshsdk.lifecycle import health_pb2 as own_pb
from meshsdk.lifecycle.drain import DrainTiming
from meshsdk.model.instance import Increment, InstanceState
from tests.contract.registration_server import RegistrationServer
from tests.contract.served import AioServed, SyncServed
from tests.contract.server_drivers import SERVICE, SHAPES, finish
from tests.e2e.processes import until

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING

Serve = Callable[..., SyncServed]


@pytest.fixture(params=[SyncServed, AioServed], ids=["sync", "aio"])
def serve(request) -> Iterator[Serve]:
    """Starts services that are ended with the test."""
    with ExitStack() as stack:

        def start(**options) -> SyncServed:
            served = request.param(**options)
            stack.callback(served.close)
            return served

        yield start


@pytest.fixture
def registry() -> MemoryRegistry:
    """A registry in this process."""
    return MemoryRegistry()


@pytest.fixture
def states(registry) -> queue.SimpleQueue[InstanceState | None]:
    """The states of `orders` as a watcher saw them, None for gone."""
    seen: queue.SimpleQueue[InstanceState | None] = queue.SimpleQueue()

    def note(increment: Increment) -> None:
        for instance in increment.put:
            seen.put(instance.state)
        for _ in increment.removed:
            seen.put(None)

    registry.watch("orders", "", note)
    return seen


def taken(seen: queue.SimpleQueue) -> list[InstanceState | None]:
    """What was seen so far."""
    return [seen.get() for _ in range(seen.qsize())]


def health(served: SyncServed, service: str = "") -> int:
    """The server's health, asked by grpcio-health-checking's client."""
    stub = health_pb2_grpc.HealthStub(served.channel)
    return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status


def test_a_served_instance_is_online_with_what_it_serves(serve, registry, states):
    """The registry holds address, labels and state, and the revision with the decorator's options."""
    served = serve(registry=registry, metadata={"version": "v1"}, zone="z", weight=2)
    served.wait_online()
    (instance,) = registry.instances("orders")
    assert instance.address == f"127.0.0.1:{served.port}"
    assert (dict(instance.labels), instance.zone, instance.weight) == ({"version": "v1"}, "z", 2)
    assert taken(states) in ([InstanceState.STARTING, InstanceState.ONLINE], [InstanceState.ONLINE])
    assert registry.map_service(SERVICE) == ("orders",)
    revision = registry.get_revision("orders", instance.revision)
    assert {method.name for method in revision.methods} == {f"/{SERVICE}/{shape}" for shape in SHAPES}
    assert served.service.state is InstanceState.ONLINE
    assert served.service.instance.address == instance.address


def test_decorated_handlers_are_published_and_work(serve, registry):
    """A handler under @meshsdk.rpc answers as before, and its options are in the revision."""

    class Servicer:
        @rpc(idempotent=True, timeout="2s")
        def plain(self, request, context):
            return b"plain " + request

        @rpc(idempotent=True, timeout="2s")
        async def awaited(self, request, context):
            return b"awaited " + request

    first = serve(registry=registry)
    for kind in first.handler_kinds:
        handlers = {"Get": grpc.unary_unary_rpc_method_handler(getattr(Servicer(), kind))}
        served = serve(registry=registry, handlers=handlers)
        assert served.call("unary_unary", b"x", method="Get").responses == (kind.encode() + b" x",)
        served.wait_online()
        found = registry.get_revision("orders", served.service.instance.revision)
        assert dict(found.methods[0].options) == {"idempotent": True, "timeout": 2.0}


def test_health_is_served(serve, registry):
    """Check, List and Watch answer for the server and its services, and NOT_FOUND for others."""
    served = serve(registry=registry)
    assert health(served) == health(served, SERVICE) == SERVING
    stub = health_pb2_grpc.HealthStub(served.channel)
    ask = served.channel.unary_unary(
        "/grpc.health.v1.Health/List", response_deserializer=own_pb.HealthListResponse.FromString
    )
    listing = ask(b"", timeout=10)  # the stub of grpcio-health-checking 1.80 has no List
    assert {name: entry.status for name, entry in listing.statuses.items()} == {"": SERVING, SERVICE: SERVING}
    with pytest.raises(grpc.RpcError) as missing:
        health(served, "none.Such")
    assert missing.value.code() is grpc.StatusCode.NOT_FOUND
    unknown = stub.Watch(health_pb2.HealthCheckRequest(service="none.Such"), timeout=10)
    assert next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    unknown.cancel()
    with pytest.raises(grpc.RpcError) as long:
        next(stub.Watch(health_pb2.HealthCheckRequest(service="x" * 2000), timeout=10))
    assert long.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_drain_is_seen_everywhere_and_loses_no_call(serve, registry, states):
    """A call in flight ends well; meanwhile registry, health and trailing metadata tell of the drain."""
    served = serve(registry=registry)
    served.wait_online()
    watch = health_pb2_grpc.HealthStub(served.channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
    assert next(watch).status == SERVING
    held = served.start("unary_unary", b"hold")
    assert served.scripted.began.acquire(timeout=10)
    taken(states)
    served.drain(wait=False)
    assert states.get(timeout=10) is InstanceState.DRAINING
    assert next(watch).status == NOT_SERVING
    assert health(served) == NOT_SERVING
    for shape in SHAPES:
        late = served.call(shape, b"ok")
        assert late.code is grpc.StatusCode.OK
        assert late.trailing[DRAINING_KEY] == "1"
    served.scripted.gate.set()
    answer = finish("unary_unary", held)
    assert (answer.responses, answer.trailing[DRAINING_KEY]) == ((b"re:hold",), "1")
    served.wait()
    assert taken(states) == [None]
    with pytest.raises(grpc.RpcError) as ended:
        next(watch)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert served.call("unary_unary", b"ok").code is grpc.StatusCode.UNAVAILABLE


def test_draining_twice_is_draining_once(serve, registry, states):
    """Several requests to drain end together; draining and stopping what has ended return at once."""
    served = serve(registry=registry)
    served.wait_online()
    served.drain(wait=False)
    served.drain()
    served.drain()
    served.stop()
    assert taken(states)[-2:] == [InstanceState.DRAINING, None]
    assert registry.instances("orders") == ()


def test_stop_cuts_a_drain_short(serve, registry):
    """`stop` deregisters and cancels what runs, also in the middle of a drain."""
    served = serve(registry=registry, drain=DrainTiming(quiet=1, timeout=600))
    served.wait_online()
    held = served.start("unary_unary", b"hold")
    assert served.scripted.began.acquire(timeout=10)
    served.drain(wait=False)
    until(lambda: served.service.state is InstanceState.DRAINING, "the drain began")
    served.stop()
    assert finish("unary_unary", held).code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert registry.instances("orders") == ()


def test_a_server_stopped_by_others_leaves_the_registry(serve, registry):
    """The application stops the server itself: the instance is deregistered and the wait ends."""
    served = serve(registry=registry)
    served.wait_online()
    served.stop_server()
    served.wait()
    assert registry.instances("orders") == ()


def test_a_server_that_runs_already_is_served(serve, registry):
    """Applications that start their server before `serve` are online all the same, health included."""
    served = serve(registry=registry, started=True)
    served.wait_online()
    assert served.call("unary_unary", b"ok").responses == (b"re:ok",)


def test_an_application_keeps_its_own_health_service(serve, registry):
    """Where a health service was added before, ours stays away."""

    class Ours(health_pb2_grpc.HealthServicer):
        def Check(self, request, context):
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.UNKNOWN)

    served = serve(
        registry=registry, prepare=lambda server: health_pb2_grpc.add_HealthServicer_to_server(Ours(), server)
    )
    assert health(served) == health_pb2.HealthCheckResponse.UNKNOWN


def test_a_server_without_interceptors_is_told(serve, registry, caplog):
    """Without server_interceptors() the drain is blind: the log says so, and it still ends."""
    served = serve(registry=registry, intercepted=False)
    assert "server_interceptors()" in caplog.text
    served.wait_online()
    served.drain()
    assert registry.instances("orders") == ()


@pytest.fixture
def plane(registry) -> Iterator[RegistrationServer]:
    """A control plane that can be stopped and started, running at first."""
    server = RegistrationServer(registry, granted=1)
    server.start()
    yield server
    server.stop()


def bootstrap(plane: RegistrationServer):
    """A bootstrap that names it."""
    return load_bootstrap({"xds_servers": [{"server_uri": plane.address, "channel_creds": [{"type": "insecure"}]}]}, {})


def test_the_control_plane_of_the_bootstrap_is_the_registry(serve, registry, plane):
    """Without a registry of its own the service registers with the first xds server, and renews its lease there."""
    served = serve(bootstrap=bootstrap(plane))
    served.wait_online()
    (first,) = registry.instances("orders")
    shelf = registry._shelf
    registered = shelf.leases[shelf.lease_of["orders", first.id]]
    first_end = registered.expires
    until(lambda: registered.expires > first_end, "the lease was renewed")
    served.drain()
    assert registry.instances("orders") == ()


def test_an_outage_holds_nothing_up(serve, registry, plane, caplog):
    """The control plane is down at the start: the server serves, and registers when it is up; the log tells once."""
    plane.stop()
    served = serve(bootstrap=bootstrap(plane))
    assert served.call("unary_unary", b"ok").responses == (b"re:ok",)
    until(lambda: "trying again" in caplog.text, "the outage was logged")
    assert served.service.state is None
    plane.start()
    served.wait_online()
    assert caplog.text.count("serving goes on") == 1


def test_a_control_plane_that_forgot_is_told_again(serve, registry, plane):
    """It restarts without its data: instance and revision are there again, as they were."""
    served = serve(bootstrap=bootstrap(plane))
    served.wait_online()
    plane.stop()
    plane.registry = fresh = MemoryRegistry()
    plane.start()
    until(lambda: fresh.instances("orders"), "registered again")
    (instance,) = fresh.instances("orders")
    assert instance.state is InstanceState.ONLINE
    assert instance.id == served.service.instance.id
    assert fresh.get_revision("orders", instance.revision) is not None


def test_a_drain_does_not_wait_for_a_dead_control_plane(serve, plane):
    """The control plane is gone when the drain comes: the service still ends, within its patience."""
    served = serve(bootstrap=bootstrap(plane))
    served.wait_online()
    plane.stop()
    served.drain()
    plane.start()
