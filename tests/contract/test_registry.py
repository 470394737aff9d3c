"""What every adapter of the Registry port does, the same for each."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass, replace

import grpc
import pytest

from meshsdk.discovery.controlplane import ControlPlaneRegistry
from meshsdk.discovery.memory import MemoryRegistry
from meshsdk.discovery.registry import Lease, LeaseLapsed, Registry
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Increment, Instance, InstanceState, MethodInfo, Revision
from tests.contract.registration_server import RegistrationServer
from tests.e2e.processes import until

ONE = Instance("orders", "1", "10.0.0.1:50051", revision="r", unit="u1", zone="z", weight=3, labels={"version": "v1"})
TWO = replace(ONE, id="2", address="10.0.0.2:50051", unit="u2")
OTHER = Instance("users", "1", "10.0.1.1:50051")


@dataclass
class Clock:
    """A clock that is moved by hand."""

    now: float = 0.0

    def __call__(self) -> float:
        """Returns the time."""
        return self.now


@dataclass
class Setting:
    """An adapter, the truth behind it, and its clock."""

    registry: Registry
    truth: MemoryRegistry
    clock: Clock
    server: RegistrationServer | None = None


@pytest.fixture(params=["memory", "controlplane"])
def setting(request) -> Iterator[Setting]:
    """Each adapter in turn."""
    clock = Clock()
    truth = MemoryRegistry(clock)
    if request.param == "memory":
        yield Setting(truth, truth, clock)
        return
    server = RegistrationServer(truth)
    server.start()
    options = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50))
    registry = ControlPlaneRegistry(grpc.insecure_channel(server.address, options), server.address)
    yield Setting(registry, truth, clock, server)
    registry.close()
    server.stop()


@pytest.fixture
def registry(setting) -> Registry:
    """The adapter alone."""
    return setting.registry


class Follower:
    """A watcher that keeps what it was told."""

    def __init__(self, registry: Registry, app: str, unit: str = "") -> None:
        self._told: queue.SimpleQueue[Increment] = queue.SimpleQueue()
        self.watch = registry.watch(app, unit, self._told.put)

    def next(self) -> Increment:
        """Returns the next increment."""
        return self._told.get(timeout=10)

    @property
    def silent(self) -> bool:
        """Whether nothing more was told."""
        return self._told.empty()


def test_an_instance_is_registered_renewed_and_removed(registry):
    """A watcher sees the instance come, change state and go."""
    follower = Follower(registry, "orders")
    assert follower.next() == Increment("orders", reset=True)
    lease = registry.register(ONE, 15)
    assert lease.ttl == 15
    assert follower.next() == Increment("orders", put=(ONE,))
    assert registry.renew(lease) == lease
    registry.set_state(lease, InstanceState.DRAINING)
    assert follower.next().put == (replace(ONE, state=InstanceState.DRAINING),)
    registry.deregister(lease)
    assert follower.next() == Increment("orders", removed=("1",))
    registry.deregister(lease)
    assert follower.silent


def test_a_lease_lapses_unless_renewed(setting):
    """Renewed in time it stays, forgotten it goes, and everything asked of it then is told so."""
    follower = Follower(setting.registry, "orders")
    follower.next()
    lease = setting.registry.register(ONE, 15)
    follower.next()
    for _ in range(3):
        setting.clock.now += 14
        setting.registry.renew(lease)
    setting.clock.now += 15
    setting.truth.expire()
    assert follower.next().removed == ("1",)
    with pytest.raises(LeaseLapsed):
        setting.registry.renew(lease)
    with pytest.raises(LeaseLapsed):
        setting.registry.set_state(lease, InstanceState.ONLINE)


def test_registering_again_replaces(registry):
    """The same (app, id) under a new lease: one instance, and the old lease is void."""
    old = registry.register(ONE, 15)
    moved = replace(ONE, address="10.0.0.9:1")
    registry.register(moved, 15)
    assert Follower(registry, "orders").next().put == (moved,)
    with pytest.raises(LeaseLapsed):
        registry.renew(old)


def test_watches_tell_applications_and_units_apart(registry):
    """One watch for an application, one for a unit of it, one for everything."""
    for instance in (ONE, TWO, OTHER):
        registry.register(instance, 15)
    assert {i.id for i in Follower(registry, "orders").next().put} == {"1", "2"}
    assert [i.id for i in Follower(registry, "orders", "u2").next().put] == ["2"]
    everything = Follower(registry, "")
    first, second = everything.next(), everything.next()
    assert {first.app, second.app} == {"orders", "users"}
    assert first.reset
    assert second.reset


def test_a_cancelled_watch_hears_nothing(registry):
    """After cancel nothing is delivered; cancelling twice is no error."""
    follower, witness = Follower(registry, "orders"), Follower(registry, "orders")
    follower.next()
    witness.next()
    follower.watch.cancel()
    follower.watch.cancel()
    registry.register(ONE, 15)
    witness.next()
    assert follower.silent


def test_revisions_are_kept_and_services_mapped(registry):
    """A revision comes back as it was published, and its services lead to the application."""
    revision = Revision(
        "orders", "r", (MethodInfo("/shop.Orders/Get", {"idempotent": True, "timeout": 2.0}), MethodInfo("/shop.X/Y"))
    )
    assert registry.get_revision("orders", "r") is None
    registry.publish_revision(revision)
    registry.publish_revision(revision)
    found = registry.get_revision("orders", "r")
    assert [(m.name, dict(m.options)) for m in found.methods] == [(m.name, dict(m.options)) for m in revision.methods]
    assert registry.map_service("shop.Orders") == ("orders",)
    assert registry.map_service("shop.Order") == ()


@pytest.mark.parametrize(
    "wrong", [replace(ONE, app=""), replace(ONE, address="nowhere"), replace(ONE, labels={"k": "v" * 2000})]
)
def test_what_cannot_be_is_refused(registry, wrong):
    """An instance nobody could use is refused, and nobody hears of it."""
    with pytest.raises(RegistryError):
        registry.register(wrong, 15)


def test_an_unknown_lease_has_lapsed(registry):
    """A lease from before the registry lost its data is told as lapsed."""
    with pytest.raises(LeaseLapsed):
        registry.renew(Lease("from-before", 15))


@pytest.fixture
def remote(setting) -> Setting:
    """Only the adapter with a network in between."""
    if setting.server is None:
        pytest.skip("a registry in this process has no outages")
    return setting


def test_an_outage_is_an_error_and_then_over(remote):
    """While the control plane is down calls fail with its address; when it is back they work."""
    remote.server.stop()
    with pytest.raises(RegistryError, match=remote.server.address):
        remote.registry.register(ONE, 15)
    remote.server.start()

    def registered() -> bool:
        try:
            return bool(remote.registry.register(ONE, 15))
        except RegistryError:
            return False

    until(registered, "the control plane answers again")
    assert [instance.id for instance in remote.truth.instances("orders")] == ["1"]


def test_a_watch_bridges_an_outage(remote, caplog):
    """The stream breaks; what changed meanwhile comes as a reset, and the log tells the outage once."""
    follower = Follower(remote.registry, "orders")
    assert follower.next().reset
    remote.registry.register(ONE, 15)
    assert follower.next().put == (ONE,)
    remote.server.stop()
    remote.truth.register(TWO, 15)
    remote.server.start()
    again = follower.next()
    assert again.reset
    assert {instance.id for instance in again.put} == {"1", "2"}
    assert caplog.text.count("broke") == 1


def test_a_failing_watcher_is_logged_and_goes_on(remote, caplog):
    """A listener's exception does not end its watch."""
    told: queue.SimpleQueue[Increment] = queue.SimpleQueue()

    def listener(increment: Increment) -> None:
        told.put(increment)
        raise RuntimeError("listener's own")

    remote.registry.watch("orders", "", listener)
    told.get(timeout=10)
    remote.registry.register(ONE, 15)
    assert told.get(timeout=10).put == (ONE,)
    assert "listener's own" in caplog.text


def test_a_closed_registry_says_so(remote):
    """After close, calls are errors in words and not exceptions of the channel."""
    remote.registry.close()
    with pytest.raises(RegistryError, match="closed"):
        remote.registry.register(ONE, 15)
