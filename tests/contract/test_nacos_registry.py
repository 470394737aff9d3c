"""What is Nacos' own in its adapter: instances of others, restarts that lose them, logins, more than one server.

Against the fake, and with `make test-peers` the real server; what every adapter does is in tests/contract/registries.
"""

from __future__ import annotations

import http.server
import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from meshsdk.discovery.nacos import NacosRegistry
from meshsdk.discovery.opening import open_registry
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, MethodInfo, Revision
from tests.contract.registries.follower import Follower, Keeper, eventually
from tests.e2e.processes import until
from tests.servers.nacos import FakeNacos, NacosServer, RealNacos

ONE = Instance("orders", "1", "10.0.0.1:50051")
TWO = Instance("orders", "2", "10.0.0.2:50051")


class Setting:
    """A namespace of the fake, and clients of it."""

    def __init__(self, server: NacosServer) -> None:
        self.server = server
        self._namespace = f"t{uuid.uuid4().hex[:12]}"
        self._opened: list[NacosRegistry] = []

    def open(self, parameters: str = "", address: str = "") -> NacosRegistry:
        """Returns a client, which is closed after the test."""
        url = f"nacos://{address or self.server.address}?namespace={self._namespace}&timeout=2{parameters}"
        registry = open_registry(url, "the test")
        assert isinstance(registry, NacosRegistry)
        self._opened.append(registry)
        return registry

    def close(self) -> None:
        """Closes the clients."""
        for registry in self._opened:
            registry.close()


@pytest.fixture(scope="module", params=[FakeNacos, pytest.param(RealNacos, marks=pytest.mark.peers)])
def server(request) -> Iterator[NacosServer]:
    """One server for the module: the fake, and with `make test-peers` the real one as well."""
    started = request.param().start()
    yield started
    started.remove()


@pytest.fixture(scope="module")
def fake() -> Iterator[NacosServer]:
    """The fake, for what the real one cannot be made to do."""
    started = FakeNacos().start()
    yield started
    started.remove()


@pytest.fixture
def faked(fake) -> Iterator[Setting]:
    """A namespace of the fake."""
    made = Setting(fake)
    yield made
    made.close()


@pytest.fixture
def setting(server) -> Iterator[Setting]:
    """A namespace for each test."""
    made = Setting(server)
    yield made
    made.close()
    server.start()


def leave(registry: NacosRegistry, app: str, **host: object) -> None:
    """Registers an instance as another program would."""
    plain = {"ip": "10.0.9.9", "port": 80, "weight": 1.0, "healthy": True, "enabled": True, "ephemeral": True}
    instance = {**plain, "clusterName": "DEFAULT", "metadata": {}, **host}
    service = registry._where(app)
    registry._session.ask("leave at", "InstanceRequest", service | {"type": "registerInstance", "instance": instance})


def test_instances_of_others_are_taken_as_they_are(setting):
    """Metadata are labels, the cluster is the unit, the address is the id; one that its owner disabled is not there."""
    leave(setting.open(), "orders", metadata={"version": "v1"}, clusterName="eu")
    leave(setting.open(), "orders", ip="10.0.9.8", enabled=False)
    follower = Follower(setting.open(), "orders")
    follower.wait_for(Instance("orders", "10.0.9.9:80", "10.0.9.9:80", unit="eu", labels={"version": "v1"}))


def test_a_unit_is_all_that_is_subscribed(setting):
    """The server sends the clusters that are watched and no others, and more once more is watched."""
    writer, registry = setting.open(), setting.open()
    east, west = replace(ONE, unit="east"), replace(TWO, unit="west")
    writer.register(east, 15)
    writer.register(west, 15)
    follower = Follower(registry, "orders", "east")
    follower.wait_for(east)
    view = registry._views["orders"]
    assert [host.raw["clusterName"] for host in view.hosts.values()] == ["east"]
    everything = Follower(registry, "orders")
    everything.wait_for(east, west)
    everything.watch.cancel()
    until(lambda: [host.raw["clusterName"] for host in view.hosts.values()] == ["east"], "less again")
    assert follower.ids("orders") == {"1"}
    follower.watch.cancel()
    until(lambda: "orders" not in registry._views, "nothing is followed any more")


def test_a_restart_that_forgets_everybody_empties_nothing(setting):
    """Those who have not come back within the grace period go then, and not before; those who have are never away."""
    follower = Follower(setting.open("&grace=3"), "orders")
    lost = setting.open()
    lost.register(TWO, 15)
    with Keeper(setting.open(), 3.0) as keeper:
        keeper.keep(ONE)
        follower.wait_for(ONE, TWO)
        told = len(follower.log)
        setting.server.kill()
        setting.server.start()
        follower.wait_for(ONE)
        assert [increment.removed for increment in follower.log[told:]] == [("2",)]


def test_all_gone_is_told_when_it_is_sure(setting):
    """The last instance of a service deregisters: that is told, after a second look."""
    registry = setting.open()
    follower = Follower(setting.open(), "orders")
    lease = registry.register(ONE, 15)
    follower.wait_for(ONE)
    registry.deregister(lease)
    follower.wait_for()


def test_another_server_is_used_when_one_is_away(setting):
    """Of two servers the one that answers is found, whichever is asked first."""
    for _ in range(4):
        registry = setting.open(address=f"127.0.0.1:2,{setting.server.address}")
        until(lambda one=registry: _registers(one), "the server that is there")


def _registers(registry: NacosRegistry) -> bool:
    try:
        return bool(registry.register(ONE, 15))
    except RegistryError:
        return False


def test_a_connection_that_the_server_asks_to_end_is_made_anew(faked):
    """ConnectResetRequest: registrations lapse with the old connection, watches go on."""
    registry = faked.open()
    follower = Follower(registry, "orders")
    follower.wait_for()
    epoch = registry._session.epoch
    registry._session.ask("have reset by", "FakeResetRequest", {})
    until(lambda: registry._session.epoch > epoch, "a new connection")
    faked.open().register(ONE, 15)
    follower.wait_for(ONE)


def test_two_writers_of_a_mapping_lose_nothing(setting):
    """Applications that publish the same service at once are all found by it, as Dubbo 3 would write it."""
    names = [f"app{number}" for number in range(6)]

    def publish(name: str) -> None:
        registry, revision = setting.open(), Revision(name, "r", (MethodInfo("/shop.Orders/Get"),))
        eventually(lambda: registry.publish_revision(revision), f"{name} is published")

    writers = [threading.Thread(target=publish, args=(name,)) for name in names]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert setting.open().map_service("shop.Orders") == tuple(names)


class _LoginPage(http.server.BaseHTTPRequestHandler):
    """Nacos' login over HTTP: `ada` with `secret`."""

    def log_message(self, *_: object) -> None:
        """Writes nothing."""

    def do_POST(self) -> None:
        """Answers a login."""
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        good = self.path == "/nacos/v1/auth/login" and form == "username=ada&password=secret"
        body = json.dumps({"accessToken": "t0ken", "tokenTtl": 18000} if good else {}).encode()
        self.send_response(200 if good else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_a_user_is_logged_in(faked, tmp_path, caplog):
    """The token of the login goes with every message; a wrong password is told without it."""
    page = http.server.HTTPServer(("127.0.0.1", 0), _LoginPage)
    thread = threading.Thread(target=page.serve_forever)
    thread.start()
    (tmp_path / "good").write_text("secret\n")
    (tmp_path / "bad").write_text("guess")
    port, grpc_port = page.server_port, faked.server.port + 1000
    try:
        url = f"&grpc_port={grpc_port}&user=ada&password_file={tmp_path}"
        registry = faked.open(f"{url}/good", f"127.0.0.1:{port}")
        assert registry.register(ONE, 15)
        answer = registry._session.ask("look at", "FakeHeadersRequest", {})
        assert answer.body.body["headers"] == {"accessToken": "t0ken"}
        refused = faked.open(f"{url}/bad", f"127.0.0.1:{port}")
        with pytest.raises(RegistryError, match=r"cannot log in .* as ada: HTTP Error 403"):
            refused.register(ONE, 15)
        assert "guess" not in caplog.text
        assert "t0ken" not in caplog.text
    finally:
        page.shutdown()
        page.server_close()
        thread.join()
