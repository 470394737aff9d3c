"""etcd as a registry where the contract suite does not go: several members, logins, TLS. Real servers."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshsdk.discovery.etcd import watching
from meshsdk.discovery.etcd.registry import EtcdRegistry
from meshsdk.discovery.opening import open_registry
from meshsdk.discovery.registry import LeaseLapsed, Registry
from meshsdk.errors import RegistryError
from tests.contract.registries.follower import Follower, Keeper, eventually
from tests.contract.registries.sample import ONE, OTHER, PLAIN, TWO
from tests.servers.etcd import EtcdServer, cluster_of

TLS = Path(__file__).parent / "tls"


@pytest.fixture
def cluster() -> Iterator[list[EtcdServer]]:
    """Three members."""
    members = cluster_of(3)
    yield members
    for member in members:
        member.thaw()
        member.remove()


@pytest.fixture
def opened() -> Iterator[list[Registry]]:
    """Registries to close."""
    registries: list[Registry] = []
    yield registries
    for registry in registries:
        registry.close()


def member_of(registry: EtcdRegistry, members: list[EtcdServer]) -> EtcdServer:
    """Returns the member that a client uses now."""
    transport = registry._client._transport
    endpoint = transport._place.endpoints[transport._current]
    return next(member for member in members if member.address == endpoint)


def test_a_cluster_serves_while_a_majority_does(cluster, opened, monkeypatch):
    """The member in use is killed, then frozen, then has no leader: calls and watches move on, or wait, or go on."""
    monkeypatch.setattr(watching, "_PROGRESS", 0.3)
    monkeypatch.setattr(watching, "_SILENCE", 1.5)
    hosts = ",".join(member.address for member in cluster)
    registry, writer = (open_registry(f"etcd://{hosts}", "the test") for _ in range(2))
    opened.extend((registry, writer))
    follower = Follower(registry, "orders")
    with Keeper(writer, 3.0) as keeper:
        keeper.keep(ONE)
        follower.wait_for(ONE)

        killed = member_of(registry, cluster)
        killed.kill()
        eventually(lambda: keeper.keep(TWO), "two members of three take registrations")
        follower.wait_for(ONE, TWO)
        killed.start()

        frozen = member_of(registry, cluster)
        frozen.freeze()
        eventually(lambda: keeper.keep(PLAIN), "two members of three take registrations")
        follower.wait_for(ONE, TWO, PLAIN)
        frozen.thaw()

        told = len(follower.log)
        for member in cluster[:2]:
            member.freeze()
        with pytest.raises(RegistryError) as refused:
            writer.register(OTHER, 3.0)
        assert not isinstance(refused.value, LeaseLapsed)
        assert not any(increment.removed for increment in follower.log[told:])
        for member in cluster[:2]:
            member.thaw()
        changed = Follower(registry, "users")
        eventually(lambda: keeper.keep(OTHER), "the cluster takes registrations again")
        changed.wait_for(OTHER, app="users")
        follower.wait_for(ONE, TWO, PLAIN)


def test_a_dead_member_in_the_list_costs_nothing(opened):
    """Of two endpoints one never answers: everything works from the first call on."""
    server = EtcdServer().start()
    try:
        for hosts in (f"127.0.0.1:1,{server.address}", f"{server.address},127.0.0.1:1"):
            for _ in range(3):  # the order is drawn
                registry = open_registry(f"etcd://{hosts}?prefix=/dead", "the test")
                opened.append(registry)
                lease = registry.register(ONE, 30.0)
                assert registry.renew(lease) == lease
                Follower(registry, "orders").wait_for(ONE)
    finally:
        server.remove()


def test_tls(opened):
    """With the server's authority the connection stands; without it the failure is an error in words."""
    server = EtcdServer(tls=(TLS / "server.pem", TLS / "server.key")).start()
    try:
        registry = open_registry(f"etcd://{server.address}?ca={TLS / 'server.pem'}", "the test")
        stranger = open_registry(f"etcd://{server.address}?tls=1", "the test")
        opened.extend((registry, stranger))
        registry.register(ONE, 30.0)
        Follower(registry, "orders").wait_for(ONE)
        with pytest.raises(RegistryError, match="UNAVAILABLE"):
            stranger.register(ONE, 30.0)
    finally:
        server.remove()


@pytest.fixture
def guarded() -> Iterator[EtcdServer]:
    """A server that demands a login; user `mesh` may use what is below /mesh/."""
    server = EtcdServer().start()
    try:
        for path, body in (
            ("user/add", {"name": "root", "password": "root's"}),
            ("user/grant", {"user": "root", "role": "root"}),
            ("user/add", {"name": "mesh", "password": "pass word"}),
            ("role/add", {"name": "mesh"}),
            ("role/grant", {"name": "mesh", "perm": {"permType": 2, "key": "L21lc2gv", "range_end": "L21lc2gw"}}),
            ("user/grant", {"user": "mesh", "role": "mesh"}),
            ("enable", {}),
        ):
            request = urllib.request.Request(
                f"http://{server.address}/v3/auth/{path}", json.dumps(body).encode(), method="POST"
            )
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - etcd's JSON gateway, on loopback
                assert answer.status == 200
        yield server
    finally:
        server.remove()


def test_logins(guarded, opened, tmp_path):
    """A user works below its prefix, also after the server forgot all logins; other keys and passwords are refused."""
    secret, wrong = tmp_path / "secret", tmp_path / "wrong"
    secret.write_text("pass word\n")
    wrong.write_text("guess\n")

    def registry_of(prefix: str, password: Path) -> Registry:
        url = f"etcd://{guarded.address}?prefix={prefix}&user=mesh&password_file={password}"
        opened.append(open_registry(url, "the test"))
        return opened[-1]

    registry = registry_of("/mesh/a", secret)
    follower = Follower(registry, "orders")
    lease = registry.register(ONE, 60.0)
    follower.wait_for(ONE)
    assert registry.renew(lease).id == lease.id

    with pytest.raises(RegistryError, match="authentication failed") as refused:
        registry_of("/mesh/a", wrong).register(ONE, 30.0)
    assert "guess" not in str(refused.value)
    with pytest.raises(RegistryError, match="permission denied"):
        registry_of("/other", secret).register(ONE, 30.0)
    opened.append(open_registry(f"etcd://{guarded.address}?prefix=/mesh/a", "the test"))
    with pytest.raises(RegistryError, match="user name is empty"):
        opened[-1].register(ONE, 30.0)

    guarded.kill()
    guarded.start()
    eventually(lambda: registry.renew(lease), "the client logs in again")
    registry.register(TWO, 60.0)
    follower.wait_for(ONE, TWO)
