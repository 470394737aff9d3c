"""Units with real processes: a control plane, servers in three units, and clients of ours and of stock gRPC in each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.peers.envoy import Envoy
from tests.e2e.peers.keyed_process import KeyedClient, bootstrap
from tests.e2e.processes import python, until
from tests.e2e.test_meshctl import Served

SERVERS = ("orders-east", "orders-west", "carts-east", "carts-west", "prices-east", "prices-global", "audit-global")
CLIENTS = [("mesh", "sync"), ("mesh", "aio"), ("stock", "sync"), ("stock", "aio")]
EAST, WEST, NONE = "12", "77", "-"  # keys

POLICY = """\
apiVersion: meshsdk.io/v1alpha1
kind: UnitPolicy
metadata: {name: shop}
spec:
  units: [east, west, global]
  services:
  - {hosts: [orders, carts], scope: CLOSED}
  - {hosts: [prices], scope: COPIED, central: global}
  - {hosts: [audit], scope: CENTRAL, central: global}
  key:
    sources: [{header: x-user}]
    rules:
    - {unit: east, integers: [{from: 0, to: 49, modulo: 100}]}
    - {unit: west, integers: [{from: 50, to: 99, modulo: 100}]}
  exits:
  - {from: east, to: west, hosts: [carts]}
"""
DRAIN = "  drain: {west: east}\n"
REFUSED = "the key belongs to unit west; UnitPolicy/shop has no exit from east to it for orders"


def service(host: str, ports: dict[str, int]) -> str:
    """Returns the ServiceEntry of a host, its servers labelled with their units."""
    endpoints = "".join(
        f"  - {{address: 127.0.0.1, ports: {{grpc: {port}}}, labels: {{meshsdk.io/unit: {name.partition('-')[2]}}}}}\n"
        for name, port in ports.items()
        if name.startswith(host)
    )
    head = f"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {host}}}\n"
    spec = f"spec:\n  hosts: [{host}]\n  ports: [{{number: 1, name: grpc}}]\n  resolution: STATIC\n"
    return f"{head}{spec}  endpoints:\n{endpoints}"


class Shop:
    """The control plane and its configuration, which a test may replace. Owned by the test."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        self._file = folder / "shop.yaml"
        self._services = "".join(service(host, ports) for host in ("orders", "carts", "prices", "audit"))
        self.configure(POLICY)
        self.served = Served(folder)

    def configure(self, policy: str) -> None:
        """Writes the configuration; the control plane follows."""
        self._file.write_text(policy + self._services)

    def client(self, kind: str, flavour: str, unit: str) -> KeyedClient:
        """Starts a client in a unit, "" for none."""
        node = f"{kind}-{flavour}-{unit or 'outside'}"
        metadata = {"UNIT": unit} if unit else {}
        return KeyedClient(kind, flavour, node, bootstrap(self.served.xds, node, metadata=metadata))

    def asked(self, node: str, kind: str) -> set[str]:
        """Returns the resources that a client is subscribed to, as `meshctl clients` has it."""
        clients = json.loads(self.served.ask("clients", "-o", "json").stdout)
        subscriptions = [each for client in clients if client["node"] == node for each in client["subscriptions"]]
        return {name for each in subscriptions if each["type"] == kind for name in each["asked"]}


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """The ports of the servers."""
    with python("tests/e2e/peers/backend.py", *SERVERS) as process:
        yield json.loads(process.line())


@pytest.fixture
def shop(ports: dict[str, int], tmp_path: Path) -> Iterator[Shop]:
    """A control plane over all of them."""
    started = Shop(tmp_path, ports)
    yield started
    started.served.process.stop()


@pytest.fixture
def client(shop: Shop) -> Iterator[Callable[[str, str, str], KeyedClient]]:
    """Starts clients, which end with the test."""
    with ExitStack() as stack:

        def start(kind: str, flavour: str, unit: str) -> KeyedClient:
            started = shop.client(kind, flavour, unit)
            stack.enter_context(started.process)
            return started

        yield start


Start = Callable[[str, str, str], KeyedClient]


@pytest.mark.parametrize(("kind", "flavour"), CLIENTS)
def test_calls_stay_in_the_unit(shop: Shop, client: Start, kind: str, flavour: str) -> None:
    """A key, and no key, keep calls at home; exits lead out; all else is refused; central and copied data are found."""
    east = client(kind, flavour, "east")
    east.answered("orders", EAST, "orders-east")
    east.answered("orders", NONE, "orders-east")
    east.answered("carts", WEST, "carts-west")
    east.answered("prices", WEST, "prices-east")
    east.answered("audit", NONE, "audit-global")
    words = "".join(east.refused("orders", WEST))
    assert (REFUSED in words) is (kind == "mesh")
    assert shop.asked(east.node, "Cluster") == {
        *("orders||east", "carts||east", "carts||west"),
        *("prices||east+global", "prices||east", "prices||global", "audit||global"),
    }
    assert shop.asked(east.node, "ClusterLoadAssignment") == {
        *("orders||east", "carts||east", "carts||west", "prices||east", "prices||global", "audit||global"),
    }


@pytest.mark.parametrize(("kind", "flavour"), [("mesh", "sync"), ("stock", "sync")])
def test_other_unit_and_outside(client: Start, kind: str, flavour: str) -> None:
    """The other unit has no exit; a caller outside of all units reaches each by the key; a missing copy is replaced."""
    west, outside = client(kind, flavour, "west"), client(kind, flavour, "")
    west.answered("carts", WEST, "carts-west")
    west.refused("carts", EAST)
    west.answered("prices", NONE, "prices-global")
    outside.answered("orders", EAST, "orders-east")
    outside.answered("orders", WEST, "orders-west")
    assert set(outside.call("orders", NONE, 20)[0]) == {"orders-east", "orders-west"}


@pytest.mark.parametrize(("kind", "flavour"), CLIENTS)
def test_drain_loses_no_call(shop: Shop, client: Start, kind: str, flavour: str) -> None:
    """A unit is drained into another by one line while it is called: no call fails, running ones come to their end."""
    west, outside, waiting = client(kind, flavour, "west"), client(kind, "sync", ""), client(kind, "sync", "west")
    waiting.answered("orders", WEST, "orders-west")
    for each, key in ((west, WEST), (outside, WEST)):
        each.load("orders", key)
    probe = client(kind, "sync", "west")
    probe.answered("orders", NONE, "orders-west")
    with ThreadPoolExecutor() as pool:
        running = pool.submit(waiting.call, "orders", WEST, 1, "Hold")
        shop.configure(POLICY + DRAIN)
        until(lambda: probe.call("orders", NONE) == ({"orders-east": 5}, {}), "new calls in the other unit")
        assert running.result() == ({"orders-west": 1}, {})
    until(lambda: waiting.call("orders", WEST) == ({"orders-east": 5}, {}), "its key in the other unit")
    for each in (west, outside):
        answers, errors = each.unload()
        assert errors == {}
        assert set(answers) == {"orders-west", "orders-east"}
        each.answered("orders", WEST, "orders-east")
    until(lambda: shop.asked(west.node, "ClusterLoadAssignment") == {"orders||east"}, "no subscription to be left over")


@pytest.mark.envoy
def test_envoy_is_shown_its_unit(shop: Shop, tmp_path: Path) -> None:
    """An Envoy, which asks for all clusters there are, is given those of its unit and exits, and routes by the key."""
    peer = Envoy(
        int(shop.served.xds.rpartition(":")[2]),
        "envoy-east",
        tmp_path,
        delta=True,
        lds=False,
        metadata={"UNIT": "east"},
    )
    try:
        until(lambda: peer.call("orders", 2) == ({"orders-east": 2}, {}), "calls to be answered at home")
        assert peer.call("orders", 2, metadata=(("x-user", EAST),)) == ({"orders-east": 2}, {})
        assert peer.call("orders", 1, metadata=(("x-user", WEST),))[1] == {f"UNAVAILABLE: {REFUSED}": 1}
        clusters = json.loads(peer.dynamic("dynamic_active_clusters"))["configs"]
        assert {each["cluster"]["name"] for each in clusters} == {
            *("orders||east", "carts||east", "carts||west"),
            *("prices||east+global", "prices||east", "prices||global", "audit||global"),
        }
        shop.configure(POLICY.replace("from: east, to: west, hosts: [carts]", "from: east, to: west"))
        until(
            lambda: peer.call("orders", 1, metadata=(("x-user", WEST),))[0] == {"orders-west": 1}, "the exit to be open"
        )
    finally:
        peer.stop()
