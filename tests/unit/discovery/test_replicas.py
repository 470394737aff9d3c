"""`ControlPlaneReplicas` on scripted control planes."""

from __future__ import annotations

import pytest

from meshsdk.discovery.controlplane import ControlPlaneAway
from meshsdk.discovery.registry import Lease, LeaseLapsed
from meshsdk.discovery.replicas import ControlPlaneReplicas
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, InstanceState

ORDERS = Instance("orders", "1", "10.0.0.1:1")


class Plane:
    """A control plane: `up`, the `leases` that it knows (shared or not), and what it was asked."""

    def __init__(self, server: str, leases: set[str]) -> None:
        self.server = server
        self.leases = leases
        self.up = True
        self.asked: list[str] = []

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if not self.up:
            raise ControlPlaneAway(f"{self.server} is away")

    def register(self, instance: Instance, ttl: float) -> Lease:
        """Registers, but for the application `bad`."""
        self._ask("register")
        if instance.app == "bad":
            raise RegistryError("refused")
        self.leases.add(f"{self.server}-lease")
        return Lease(f"{self.server}-lease", ttl)

    def renew(self, lease: Lease) -> Lease:
        """Renews what it knows."""
        self._ask("renew")
        if lease.id not in self.leases:
            raise LeaseLapsed("unknown")
        return lease

    def set_state(self, lease: Lease, state: InstanceState) -> None:
        """Notes it."""
        self._ask(f"{state.value} of {lease.id}")


def planes(*, shared: bool) -> tuple[ControlPlaneReplicas, Plane, Plane]:
    """Two control planes, over one store or each with its own."""
    leases: set[str] = set()
    first, second = Plane("a", leases), Plane("b", leases if shared else set())
    return ControlPlaneReplicas([first, second]), first, second


def test_lease_goes_on_with_the_other():
    """The control plane that an instance registered with is gone: its replica renews and changes the lease."""
    registry, first, second = planes(shared=True)
    lease = registry.register(ORDERS, 15)
    first.up = False
    assert registry.renew(lease) == lease
    registry.set_state(lease, InstanceState.DRAINING)
    assert second.asked == ["renew", "DRAINING of a-lease"]
    assert first.asked == ["register", "renew"]
    assert registry.server == "b"


def test_lease_of_a_stranger_is_registered_anew():
    """The other control plane keeps leases of its own: it does not know this one, and takes a registration."""
    registry, first, _ = planes(shared=False)
    lease = registry.register(ORDERS, 15)
    first.up = False
    with pytest.raises(LeaseLapsed):
        registry.renew(lease)
    assert registry.register(ORDERS, 15).id == "b-lease"


@pytest.mark.parametrize("shared", [True, False])
def test_return_to_the_first(shared):
    """The preferred control plane is back: within a few renewals the instance is registered there again."""
    registry, first, _ = planes(shared=shared)
    first.up = False
    lease = registry.register(ORDERS, 15)
    first.up = True
    for _ in range(4):
        try:
            lease = registry.renew(lease)
        except LeaseLapsed:
            lease = registry.register(ORDERS, 15)
    assert registry.server == "a"
    assert lease.id in first.leases


def test_refusal_is_an_answer():
    """What one control plane refuses is not tried with the next."""
    registry, _, second = planes(shared=True)
    with pytest.raises(RegistryError, match="refused"):
        registry.register(Instance("bad", "1", "10.0.0.1:1"), 15)
    assert second.asked == []


def test_all_are_away():
    """Nobody answers: the error says so of each."""
    registry, first, second = planes(shared=True)
    first.up = second.up = False
    with pytest.raises(RegistryError, match="a is away; b is away"):
        registry.register(ORDERS, 15)
