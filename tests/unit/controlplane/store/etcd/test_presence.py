"""How a control plane notices that etcd is away: renewals, by a clock that the test turns."""

from __future__ import annotations

import pytest

from controlplane.store.etcd.layout import StoreLayout
from controlplane.store.etcd.presence import Presence
from meshsdk.discovery.etcd.values import GrantedLease
from meshsdk.discovery.registry import LeaseLapsed
from meshsdk.errors import RegistryError


class Client:
    """As much of an etcd client as a presence needs; answers while `away` is empty."""

    name = "etcd"

    def __init__(self) -> None:
        self.away = ""
        self.lease = 0
        self.written: list[int] = []

    def _asked(self) -> None:
        if self.away:
            raise RegistryError(self.away)

    def grant(self, _: float) -> GrantedLease:
        """Grants the next lease."""
        self._asked()
        self.lease += 1
        return GrantedLease(self.lease, 10.0)

    def put(self, key: str, _: bytes, lease: int) -> None:
        """Notes the lease."""
        assert key.startswith("/m/replicas/")
        self._asked()
        self.written.append(lease)

    def keep_alive(self, lease: int) -> float:
        """Renews the newest lease only."""
        self._asked()
        if lease != self.lease:
            raise LeaseLapsed("gone")
        return 10.0


def made(now: list[float]) -> tuple[Presence, Client, list[None]]:
    """Returns a presence, its client, and a note for each renewal."""
    client, renewed = Client(), []
    presence = Presence(client, StoreLayout("/m"), lambda: renewed.append(None), lambda: now[0])
    return presence, client, renewed


def test_it_is_late_while_etcd_is_silent_and_a_moment_after() -> None:
    """A silence counts until shortly after it ended, and not for ever."""
    now = [0.0]
    presence, client, renewed = made(now)
    presence.beat()
    assert not presence.late(1.0)
    assert presence.late(3.0)
    now[0] = 6.0
    presence.beat()
    assert (presence.problem, len(renewed)) == ("", 2)
    assert presence.late(6.1)
    for now[0] in (7.0, 8.0, 9.0):
        presence.beat()
    assert not presence.late(9.0)
    client.away = "etcd is away"
    presence.beat()
    assert presence.late(9.1)
    with pytest.raises(RegistryError, match="etcd is away"):
        presence.check()
    client.away = ""
    presence.beat()
    presence.check()
    assert presence.late(9.2)
    for now[0] in (10.0, 11.0, 12.0):
        presence.beat()
    assert not presence.late(12.0)


def test_a_lost_lease_is_taken_anew() -> None:
    """The key is written under a lease that stands."""
    presence, client, _ = made([0.0])
    presence.beat()
    presence.beat()
    assert client.written == [1]
    client.lease = 5
    presence.beat()
    assert client.written == [1, 6]
