"""The registration service over gRPC, on the port of xDS: what an instance and those who watch it see."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import grpc
import pytest

from controlplane import embedded
from meshsdk.discovery import registration_pb2 as pb
from tests.e2e.processes import until


class Registry:
    """A client of the registration service."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def ask(self, name: str, request: object, answer: type) -> object:
        """Calls a unary method."""
        call = self._channel.unary_unary(
            f"/meshsdk.registration.v1.Registration/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return call(request, timeout=10)

    def register(self, identifier: str, ttl: int = 60, **fields: object) -> pb.Lease:
        """Registers an instance of orders."""
        given = {"app": "orders", "id": identifier, "address": f"127.0.0.1:500{identifier}", **fields}
        return self.ask("Register", pb.RegisterRequest(instance=pb.Instance(**given), ttl_seconds=ttl), pb.Lease)

    def watch(self, **fields: str) -> Watch:
        """Starts a watch."""
        call = self._channel.unary_stream(
            "/meshsdk.registration.v1.Registration/Watch",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=pb.Increment.FromString,
        )
        return Watch(call(pb.WatchRequest(**fields)))


class Watch:
    """A watch stream, read by a thread of its own so that each step has a deadline."""

    def __init__(self, call: grpc.Call) -> None:
        self.call = call
        self._seen: queue.SimpleQueue[pb.Increment | grpc.RpcError] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for increment in self.call:
                self._seen.put(increment)
        except grpc.RpcError as error:
            self._seen.put(error)

    def next(self) -> pb.Increment:
        """Returns the next increment; raises how the stream ended."""
        found = self._seen.get(timeout=10)
        if isinstance(found, grpc.RpcError):
            raise found
        return found


@pytest.fixture
def mesh() -> Iterator[embedded.Embedded]:
    """A control plane in this process."""
    with embedded.start() as running:
        yield running


@pytest.fixture
def registry(mesh: embedded.Embedded) -> Iterator[Registry]:
    """A client of it."""
    with grpc.insecure_channel(mesh.xds_address) as channel:
        yield Registry(channel)


def addresses(mesh: embedded.Embedded) -> list[tuple[str, str]]:
    """Returns the endpoints of orders with their health, as xDS clients are told."""
    return [(str(row["address"]), str(row["health"])) for row in mesh.endpoints("orders")]


def test_life_of_an_instance(mesh: embedded.Embedded, registry: Registry) -> None:
    """Register, renew, drain, deregister: xDS and a watcher follow each step."""
    watch = registry.watch(app="orders")
    first = watch.next()
    assert (first.app, first.reset, len(first.put)) == ("orders", True, 0)
    lease = registry.register("1", labels={"version": "v1"}, started_at=5.5)
    seen = watch.next()
    assert (seen.reset, [each.id for each in seen.put], seen.put[0].started_at) == (False, ["1"], 5.5)
    assert (seen.put[0].weight, seen.put[0].state) == (1, pb.ONLINE)
    assert addresses(mesh) == [("127.0.0.1:5001", "HEALTHY")]
    assert registry.ask("Renew", pb.RenewRequest(lease_id=lease.id), pb.Lease).ttl_seconds == 60
    request = pb.SetStateRequest(lease_id=lease.id, state=pb.DRAINING)
    assert registry.ask("SetState", request, pb.Instance).state == pb.DRAINING
    assert watch.next().put[0].state == pb.DRAINING
    assert addresses(mesh) == [("127.0.0.1:5001", "DRAINING")]
    registry.ask("Deregister", pb.DeregisterRequest(lease_id=lease.id), pb.DeregisterResponse)
    assert list(watch.next().removed_ids) == ["1"]
    assert addresses(mesh) == []


def test_lapsed_lease_and_coming_back(mesh: embedded.Embedded, registry: Registry) -> None:
    """An instance that does not renew goes; renewing then is NOT_FOUND, and registering again works."""
    watch = registry.watch(app="orders")
    watch.next()
    lease = registry.register("1", ttl=1)
    assert watch.next().put[0].id == "1"
    assert list(watch.next().removed_ids) == ["1"]
    until(lambda: addresses(mesh) == [], "the endpoint to go")
    with pytest.raises(grpc.RpcError) as caught:
        registry.ask("Renew", pb.RenewRequest(lease_id=lease.id), pb.Lease)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "it lapsed or was replaced; register again" in caught.value.details()
    registry.register("1")
    assert addresses(mesh) == [("127.0.0.1:5001", "HEALTHY")]


def test_watchers_of_a_unit_and_of_all(registry: Registry) -> None:
    """A watch of one unit sees that unit; a watch of everything lists each application and marks the end."""
    registry.register("1", unit="u1")
    registry.register("2", unit="u2")
    registry.register("3", app="users")
    assert [each.id for each in registry.watch(app="orders", unit="u1").next().put] == ["1"]
    every = registry.watch()
    listing = [every.next() for _ in range(3)]
    assert all(increment.reset for increment in listing)
    assert [(increment.app, len(increment.put)) for increment in listing] == [("orders", 2), ("users", 1), ("", 0)]


def test_revisions_and_services(registry: Registry) -> None:
    """A revision is published once and found again; its services map to the application while it is in use."""
    method = pb.Method(name="/shop.Orders/Get", options_json='{"idempotent": true}')
    revision = pb.Revision(app="orders", revision="r1", methods=[method])
    registry.ask("PublishRevision", revision, pb.PublishRevisionResponse)
    assert registry.ask("GetRevision", pb.GetRevisionRequest(app="orders", revision="r1"), pb.Revision) == revision
    request = pb.MapServiceRequest(service="shop.Orders")
    assert list(registry.ask("MapService", request, pb.MapServiceResponse).apps) == []
    registry.register("1", revision="r1")
    assert list(registry.ask("MapService", request, pb.MapServiceResponse).apps) == ["orders"]
    with pytest.raises(grpc.RpcError) as caught:
        registry.ask("GetRevision", pb.GetRevisionRequest(app="orders", revision="r2"), pb.Revision)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("name", "request_message", "answer", "words"),
    [
        (
            "Register",
            pb.RegisterRequest(instance=pb.Instance(app="orders", id="1", address="localhost:1")),
            pb.Lease,
            "address: 'localhost:1' is not IP:PORT",
        ),
        (
            "Register",
            pb.RegisterRequest(instance=pb.Instance(app="orders", id="1", address="127.0.0.1:1", state=77)),
            pb.Lease,
            "instance state 77 is not one of STARTING, ONLINE, DRAINING, OFFLINE",
        ),
        (
            "SetState",
            pb.SetStateRequest(lease_id="x"),
            pb.Instance,
            "instance state 0 is not one of STARTING, ONLINE, DRAINING, OFFLINE",
        ),
        (
            "PublishRevision",
            pb.Revision(app="orders", revision="r", methods=[pb.Method(name="/a/b", options_json="[")]),
            pb.PublishRevisionResponse,
            "method /a/b: options_json is not JSON",
        ),
    ],
)
def test_refusals_are_in_words(
    registry: Registry, name: str, request_message: object, answer: type, words: str
) -> None:
    """What cannot be registered is INVALID_ARGUMENT with the field and the reason."""
    with pytest.raises(grpc.RpcError) as caught:
        registry.ask(name, request_message, answer)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details()


def test_bad_watch_is_refused(registry: Registry) -> None:
    """A watch of what cannot be an application is refused, not left hanging."""
    with pytest.raises(grpc.RpcError) as caught:
        registry.watch(app="a|b").next()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_stop_ends_watches(mesh: embedded.Embedded, registry: Registry) -> None:
    """A control plane that stops tells its watchers, and does not wait for them."""
    watch = registry.watch(app="orders")
    watch.next()
    mesh.stop()
    with pytest.raises(grpc.RpcError) as caught:
        watch.next()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_watch_that_is_cancelled_is_forgotten(mesh: embedded.Embedded, registry: Registry) -> None:
    """A watcher that leaves costs nothing afterwards."""
    watch = registry.watch(app="orders")
    watch.next()
    assert mesh.status()["watchers"] == 1
    watch.call.cancel()
    until(lambda: mesh.status()["watchers"] == 0, "the watcher to be forgotten")
