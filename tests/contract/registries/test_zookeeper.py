"""ZooKeeper's own: sessions that end, nodes of dead sessions, lost data, users. Against a real server."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from kazoo.exceptions import NoNodeError

from meshsdk.discovery.entries import instance_from_text
from meshsdk.discovery.opening import open_registry
from meshsdk.discovery.registry import LeaseLapsed
from meshsdk.discovery.zookeeper.registry import ZooKeeperRegistry
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance
from tests.contract import channel_tls
from tests.contract.registries import lab_zookeeper
from tests.contract.registries.follower import Follower, Keeper, eventually
from tests.contract.registries.sample import ONE, PLAIN, TWO
from tests.e2e.processes import until
from tests.servers.process import free_port
from tests.servers.zookeeper import ZooKeeperServer

SHORT = 1.0  # seconds; the shortest session of the tests' server


class Ensemble(lab_zookeeper.TheLab):
    """The suite's lab with short sessions, and with what else a URL may say."""

    ttl = SHORT

    def open_with(self, parameters: str = "", host: str = "") -> ZooKeeperRegistry:
        """Returns a client, which is closed after the test."""
        url = f"zookeeper://{host or self.address}/{self.space}?session_timeout={self.ttl:g}{parameters}"
        registry = open_registry(url, "the test")
        assert isinstance(registry, ZooKeeperRegistry)
        self._opened.append(registry)
        return registry

    def truth(self, app: str) -> dict[str, Instance]:
        """Reads the instances of an application with a plain client."""
        found: dict[str, Instance] = {}
        root = f"/{self.space}/meshsdk/instances/{app}"
        with self._client() as client:
            try:
                for unit in client.get_children(root):
                    for name in client.get_children(f"{root}/{unit}"):
                        instance = instance_from_text(client.get(f"{root}/{unit}/{name}")[0])
                        found[instance.id] = instance
            except NoNodeError as error:
                raise AssertionError(f"not there: {error}") from None
        return found


@pytest.fixture
def ensemble(server_of) -> Iterator[Ensemble]:
    """A place of its own at the suite's server."""
    made = Ensemble(server_of(lab_zookeeper.TheLab))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def own(request) -> Iterator[Ensemble]:
    """A server of its own, for what would disturb others."""
    server = ZooKeeperServer(**getattr(request, "param", {})).start()
    made = Ensemble(server)
    try:
        yield made
    finally:
        made.close()
        server.remove()


def session_of(registry: ZooKeeperRegistry) -> int:
    """Returns the id of a client's session."""
    with registry._session.asking("find the session of") as client:
        return client.client_id[0] & 0xFFFFFFFFFFFFFFFF


def test_the_node_of_a_dead_session_is_replaced(ensemble):
    """A process that died and came back owns its node at once, and keeps it when the old session runs out."""
    dead, follower = ensemble.open_with(), Follower(ensemble.open_with(), "orders")
    dead.register(ONE, SHORT)
    follower.wait_for(ONE)
    session = session_of(dead)
    dead.close()
    assert session in ensemble.server.sessions(), "a closed registry leaves its instances to lapse"
    back, moved = ensemble.open_with(), replace(ONE, address="10.0.0.9:1")
    lease = back.register(moved, SHORT)
    follower.wait_for(moved)
    until(lambda: session not in ensemble.server.sessions(), "the dead session runs out")
    assert back.renew(lease) == lease
    assert ensemble.truth("orders") == {"1": moved}
    assert not any("1" in increment.removed for increment in follower.log), "it was never missing"


def test_ids_of_dots_stay_below_their_application(ensemble):
    """In a path of ZooKeeper dots would mean other nodes."""
    odd = [replace(ONE, id=".", unit=".."), replace(ONE, id="..", unit="")]
    for instance in odd:
        ensemble.writer.register(instance, SHORT)
    Follower(ensemble.open_with(), "orders").wait_for(*odd)
    assert ensemble.truth("orders").keys() == {".", ".."}


def test_an_instance_that_another_process_replaced_has_lapsed(ensemble):
    """The older of two processes with one id loses its lease, and cannot remove what is no longer its own."""
    older, younger = ensemble.open_with(), ensemble.open_with()
    lease = older.register(ONE, SHORT)
    moved = replace(ONE, address="10.0.0.9:1")
    younger.register(moved, SHORT)
    older.deregister(lease)
    with pytest.raises(LeaseLapsed):
        older.renew(lease)
    assert ensemble.truth("orders") == {"1": moved}


def test_sessions_that_expire_during_churn(ensemble):
    """Keeper and watcher lose their sessions again and again while instances come and go: both end in the truth."""
    keeping, watching = ensemble.open_with(), ensemble.open_with()
    follower = Follower(watching, "orders")
    with Keeper(keeping, SHORT) as keeper:
        keeper.keep(ONE)
        follower.wait_for(ONE)
        for number, weight in enumerate((5, 6, 7)):
            ensemble.lapse(keeping if number % 2 else watching)
            ensemble.lapse(watching if number % 2 else keeping)
            changed = replace(TWO, weight=weight)
            eventually(lambda changed=changed: keeping.register(changed, SHORT), "it registers in its new session")
            follower.wait_for(ONE, changed)
        until(lambda: ensemble.truth("orders") == follower.apps["orders"], "the watcher holds the truth")


def test_frozen_for_longer_than_its_sessions_last(own):
    """Stopped for longer, a server ends all sessions when it goes on: keepers register anew, watchers follow."""
    follower = Follower(own.open_with(), "orders")
    with Keeper(own.open_with(), SHORT) as keeper:
        keeper.keep(ONE, TWO)
        follower.wait_for(ONE, TWO)
        before = own.server.sessions()
        own.freeze()
        own.elapse(3 * SHORT)
        assert follower.apps["orders"].keys() == {"1", "2"}, "what was known stays"
        own.thaw()
        until(lambda: not before & own.server.sessions(), "all sessions are new ones")
        until(lambda: own.truth("orders") == follower.apps["orders"] == {"1": ONE, "2": TWO}, "all is as it was")


def test_a_server_that_lost_its_data(own):
    """It refuses sessions that have seen more than it knows, without a word: they are given up, and all begins anew."""
    follower, keeping = Follower(own.open_with(), "orders"), own.open_with()
    with Keeper(keeping, SHORT) as keeper:
        keeper.keep(ONE, TWO)
        lease = keeping.register(PLAIN, SHORT)
        for _ in range(50):  # far more than a new server comes to know by sessions that begin
            keeping.set_state(lease, PLAIN.state)
        follower.wait_for(ONE, TWO, PLAIN)
        sessions = own.server.sessions()
        own.server.kill()
        own.server.forget()
        own.server.start()
        until(lambda: len(own.server.sessions()) == 2, "both have begun anew")
        assert not sessions & own.server.sessions()
        follower.wait_for(ONE, TWO)
        late = replace(PLAIN, weight=9)
        eventually(lambda: keeping.register(late, SHORT), "it registers")
        follower.wait_for(ONE, TWO, late)


def test_a_node_of_a_session_that_was_given_up(ensemble):
    """It is there until that session runs out: its lease has lapsed, and a new registration takes the node over."""
    registry, follower = ensemble.open_with(), Follower(ensemble.open_with(), "orders")
    lease = registry.register(ONE, SHORT)
    follower.wait_for(ONE)
    with registry._session._lock:
        registry._session._abandon()
    with pytest.raises(LeaseLapsed):
        registry.renew(lease)
    assert ensemble.truth("orders") == {"1": ONE}
    registry.renew(registry.register(ONE, SHORT))


def test_a_closed_client_leaves_no_session_and_no_thread(ensemble):
    """A client that only watched ends its session when it is closed, and kazoo's threads end."""
    threads = set(threading.enumerate())
    registry = ensemble.open_with()
    Follower(registry, "orders").wait_for()
    session = session_of(registry)
    assert session in ensemble.server.sessions()
    registry.close()
    until(lambda: session not in ensemble.server.sessions(), "its session is ended")
    until(lambda: set(threading.enumerate()) <= threads, "its threads end")


def test_closing_while_nothing_answers_ends(ensemble):
    """A frozen server holds up neither close nor the threads."""
    threads = set(threading.enumerate())
    registry = ensemble.open_with()
    registry.register(ONE, SHORT)
    Follower(registry, "orders").wait_for(ONE)
    ensemble.freeze()
    registry.close()
    until(lambda: set(threading.enumerate()) <= threads, "its threads end")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12: of processes with threads, as this is
def test_a_child_process_closes_its_copy(ensemble):
    """Closing the registry in a forked child leaves the parent's session and instances alone."""
    registry = ensemble.open_with()
    lease = registry.register(ONE, SHORT)
    session, losses = session_of(registry), []
    with registry._session.asking("listen to") as client:
        client.add_listener(losses.append)
    child = os.fork()
    if child == 0:
        try:
            registry.close()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert registry.renew(lease) == lease
    assert session_of(registry) == session
    assert not losses, "the connection that they share is whole"


def test_a_user_owns_what_it_makes_and_its_password_is_in_no_log(ensemble, tmp_path, caplog):
    """Others read and do not write; the password appears in no line, at the most talkative level either."""
    secret = "hunter-2-and-more"  # noqa: S105 - of a server that lives for a second
    (tmp_path / "password").write_text(f"{secret}\n")
    caplog.set_level(1)
    kazoo = logging.getLogger("meshsdk.discovery.kazoo")
    kazoo.setLevel(1)
    try:
        user = ensemble.open_with(f"&user=mesh&password_file={tmp_path / 'password'}")
        user.register(ONE, SHORT)
        stranger = ensemble.open_with()
        Follower(stranger, "orders").wait_for(ONE)
        with pytest.raises(RegistryError, match="NoAuth"):
            stranger.register(PLAIN, SHORT)
    finally:
        kazoo.setLevel(logging.ERROR)
    assert caplog.records
    assert secret not in caplog.text
    assert secret not in repr(user._session._place)


def test_private_nodes_are_read_by_their_user_alone(ensemble, tmp_path):
    """acl=private: a stranger is told in words that it may not read."""
    (tmp_path / "password").write_text("x")
    user = ensemble.open_with(f"&user=mesh&password_file={tmp_path / 'password'}&acl=private")
    user.register(ONE, SHORT)
    Follower(user, "orders").wait_for(ONE)
    stranger = ensemble.open_with()
    watch = stranger.watch("orders", "", lambda _: None)
    until(lambda: "NoAuth" in watch.problem, "it says why it cannot follow")


@pytest.fixture
def secure(tmp_path) -> Iterator[tuple[ZooKeeperServer, str, str]]:
    """A server that serves TLS as well: itself, the address of that, and the file of its certificate."""
    own, certificate, port = tmp_path / "own.pem", tmp_path / "certificate.pem", free_port()
    own.write_bytes(channel_tls._KEY + channel_tls._CERTIFICATE)
    certificate.write_bytes(channel_tls._CERTIFICATE)
    server = ZooKeeperServer(
        secureClientPort=str(port),
        serverCnxnFactory="org.apache.zookeeper.server.NettyServerCnxnFactory",
        **{"ssl.keyStore.location": str(own), "ssl.trustStore.location": str(certificate), "ssl.clientAuth": "none"},
    ).start()
    yield server, f"localhost:{port}", str(certificate)
    server.remove()


def test_tls(secure):
    """With TLS an instance is registered and watched; a server whose certificate is not trusted is not talked to."""
    server, address, certificate = secure
    lab = Ensemble(server)
    try:
        registry = lab.open_with(f"&ca={certificate}", address)
        registry.register(ONE, SHORT)
        Follower(registry, "orders").wait_for(ONE)
        with pytest.raises(RegistryError, match="cannot be reached"):
            lab.open_with("&tls=1", address).map_service("any.Service")
    finally:
        lab.close()
