"""LEDS end to end: `meshctl serve` tells endpoints one by one, the SDK follows, and calls follow the SDK."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshsdk import Mesh
from meshsdk.xds_client.client import LedgerRow
from meshsdk.xds_client.store import EntryStatus
from tests.e2e.control_planes import Served
from tests.e2e.processes import until
from tests.e2e.watchers import Clients, Watcher, ports, row

HEAD = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: orders}
spec:
  hosts: [orders]
  ports: [{number: 50051, name: grpc, protocol: GRPC}]
  resolution: STATIC
  endpoints:
"""


def write(folder: Path, *numbers: int, locality: str = "r/z") -> None:
    """Configures a service with endpoints at these ports."""
    lines = [f"  - {{address: 127.0.0.1, locality: {locality}, ports: {{grpc: {number}}}}}\n" for number in numbers]
    unfinished = folder / ".orders.yaml.new"
    unfinished.write_text(HEAD + "".join(lines))
    unfinished.replace(folder / "orders.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where `meshctl` finds its configuration."""
    (tmp_path / "config").mkdir()
    return tmp_path / "config"


@pytest.fixture
def clients() -> Iterator[Clients]:
    """Makes clients that are closed at the end, and leave no thread behind."""
    with Clients() as made:
        yield made


def until_ports(watcher: Watcher, expected: list[int]) -> None:
    """Reads what a watcher is told until it is this."""
    until(lambda: ports(watcher.snapshot()) == sorted(expected), f"the endpoints are {expected[:5]}...")


def collections(client) -> list[LedgerRow]:
    """The collections that a client follows."""
    return [one for one in client.ledger() if one.kind.name == "LB_ENDPOINTS"]


@pytest.mark.parametrize("transport", ["delta", "sotw"])
def test_endpoints_follow_the_configuration(folder, clients, transport):
    """Endpoints come, go and move to another zone; over delta they are a collection, over SotW a list."""
    numbers = list(range(10_000, 11_000))
    write(folder, *numbers)
    with Served(folder) as served:
        client = clients(served.xds, transport=transport)
        watcher = Watcher(client)
        assert ports(watcher.snapshot()) == numbers
        for changed in ([*numbers, 9_000], numbers[1:], numbers):
            write(folder, *changed)
            until_ports(watcher, changed)
        write(folder, *numbers, locality="r/other")
        until(lambda: zones(watcher.snapshot()) == {"other"}, "all endpoints are in the other zone")
        followed = collections(client)
        assert [one.status for one in followed] == [EntryStatus.PRESENT] * (transport == "delta")
        write(folder)
        until_ports(watcher, [])
        assert row(client, "ENDPOINTS").problem == ""


def zones(snapshot) -> set[str]:
    """The zones that have endpoints."""
    found = snapshot.clusters["orders"].leaves[0].endpoints.localities
    return {one.locality.zone for one in found if len(one.endpoints)}


def test_restart_of_the_control_plane(folder, clients):
    """What changed while the control plane was away is right after, and nothing was lost meanwhile."""
    write(folder, *range(10_000, 10_100))
    with Served(folder) as served:
        watcher = Watcher(clients(served.xds, transport="delta"))
        assert ports(watcher.snapshot()) == list(range(10_000, 10_100))
        address = served.xds
    assert watcher.quiet()
    write(folder, *range(10_001, 10_100), 9_000)
    with Served(folder, xds=address):
        until_ports(watcher, [9_000, *range(10_001, 10_100)])


def test_calls_follow(folder, backends):
    """Calls go to the one endpoint there is, and to the other one when the configuration says so."""
    write(folder, backends["a"])
    with Served(folder) as served:
        servers = [{"server_uri": served.xds, "channel_creds": [{"type": "insecure"}]}]
        with Mesh({"xds_servers": servers, "node": {"id": "n"}}) as mesh:
            call = mesh.channel("xds:///orders").unary_unary("/test.Backend/Name", _registered_method=False)
            assert call(b"", timeout=20, wait_for_ready=True) == b"a"
            assert [one.kind.name for one in mesh.ledger()].count("LB_ENDPOINTS") == 1
            write(folder, backends["b"])
            until(lambda: call(b"", timeout=20, wait_for_ready=True) == b"b", "calls go to the other backend")
