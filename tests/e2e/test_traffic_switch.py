"""TrafficSwitch through a real `meshctl serve`: what running nodes are told over RTDS, and what `meshctl` shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.e2e.control_planes import Served
from tests.e2e.processes import until
from tests.e2e.steered import CLUSTER, SteeredNode
from tests.servers.etcd import EtcdServer

SWITCH = """\
apiVersion: meshsdk.io/v1alpha1
kind: TrafficSwitch
metadata: {{name: {0}}}
spec: {{{1}}}
"""
ON, OFF = (True, True), (False, False)


def switch(name: str, spec: str) -> str:
    """A TrafficSwitch in YAML."""
    return SWITCH.format(name, spec)


@pytest.fixture
def ending() -> Iterator[ExitStack]:
    """Closes what a test opened, the last first."""
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])
def test_a_switch_reaches_streams_that_are_open(ending: ExitStack, tmp_path: Path, delta: bool) -> None:
    """Nodes are told on and on, then off by application, by label and by instance, and on again when it is deleted."""
    served = ending.enter_context(Served(tmp_path))

    def node(name: str, app: str = "orders", **labels: str) -> SteeredNode:
        return ending.enter_context(closing(SteeredNode(served.xds, name, app, labels, delta=delta, first=(CLUSTER,))))

    one, two, other = node("o-1", zone="a"), node("o-2", zone="b"), node("w-1", "web", zone="a")
    for each in (one, two, other):
        until(lambda each=each: each.turns == ON, "without a switch all is on")
    assert served.apply(switch("orders-off", 'app: orders, client: "off", server: off')) == 200
    until(lambda: (one.turns, two.turns) == (OFF, OFF), "off by application")
    assert served.apply(switch("zone-b", 'app: "*", labels: {zone: b}, server: on')) == 200
    until(lambda: two.turns == (False, True), "a label is more specific; what it does not decide stays")
    assert served.apply(switch("one", 'app: orders, instances: [o-1], client: "on"')) == 200
    until(lambda: one.turns == (True, False), "a named instance is more specific still")
    late = node("o-3")
    until(lambda: late.turns == OFF, "who comes later is told at once")
    for name in ("orders-off", "zone-b", "one"):
        assert served.ask("delete", "trafficswitch", name).returncode == 0
    for each in (one, two, late):
        until(lambda each=each: each.turns == ON, "on again")
    assert {layer["client"] for name, layer in other.seen if name == "meshsdk.traffic_switch"} == {True}
    # Its other resources go on: the stream moved to a view of its own while it had them.
    assert served.apply(SERVICE) == 200
    until(lambda: any("payments" in value for value in one.clusters), "a new service reaches the same stream")


SERVICE = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: payments}
spec: {hosts: [payments], ports: [{number: 50051, name: grpc}]}
"""


def test_meshctl_shows_switches_and_whom_they_are_for(ending: ExitStack, tmp_path: Path) -> None:
    """`get` has what a switch says and how many connected nodes it selects; contradictions are refused, naming both."""
    served = ending.enter_context(Served(tmp_path))
    nodes = [ending.enter_context(closing(SteeredNode(served.xds, f"o-{number}"))) for number in range(3)]
    assert served.apply(switch("some", 'app: orders, instances: [o-1, o-2], client: "off"')) == 200
    until(lambda: [each.turns for each in nodes] == [ON, (False, True), (False, True)], "two are told")
    table = served.ask("get", "trafficswitches").stdout.splitlines()
    assert [line.split() for line in table] == [
        ["NAMESPACE", "NAME", "APP", "FOR", "CLIENT", "SERVER", "NODES", "FROM"],
        ["default", "some", "orders", "2", "instances", "off", "-", "2", "f.yaml:1"],
    ]
    shown = served.ask("get", "ts", "some", "-o", "yaml").stdout
    assert "kind: TrafficSwitch" in shown
    assert "status:\n  nodes: 2\n" in shown
    refused = served.ask("apply", "-f", "-", stdin=switch("again", "app: orders, instances: [o-2], client: on"))
    assert refused.returncode == 1
    assert refused.stderr == (
        "meshctl: (stdin):4: spec: conflict: TrafficSwitch/again and TrafficSwitch/some (in f.yaml:4) may both be for "
        "one node, and neither is more specific; merge them, or name instances or more labels in one\n"
    )
    assert served.ask("apply", "-f", "-", stdin=shown).stdout == "TrafficSwitch/some unchanged\n"


def test_a_percentage_grows_over_the_same_nodes(ending: ExitStack, tmp_path: Path) -> None:
    """A quarter of the nodes is off, then half with the same ones in it, whatever replica of an etcd they ask."""
    server = EtcdServer()
    ending.callback(server.remove)
    server.start()
    store = f"etcd://{server.address}?prefix=/switch"
    planes = [ending.enter_context(Served(tmp_path, "--store", store)) for _ in range(2)]
    nodes = [
        [ending.enter_context(closing(SteeredNode(plane.xds, f"o-{number}"))) for number in range(12)]
        for plane in planes
    ]

    def off() -> list[set[int]]:
        return [{number for number, each in enumerate(those) if each.turns == OFF} for those in nodes]

    before: set[int] = set()
    for percentage, expected in ((25, range(1, 8)), (60, range(4, 12)), (100, range(12, 13))):
        spec = f"app: orders, percentage: {percentage}, client: off, server: off"
        assert planes[0].apply(switch("some", spec)) == 200
        until(lambda wanted=percentage: len(set(map(frozenset, off()))) == 1 and _share(off()[0], wanted), "both agree")
        found = off()[0]
        assert len(found) in expected
        assert before <= found
        before = found


def _share(found: set[int], percentage: int) -> bool:
    """Tells whether these are the nodes that a switch with this name and percentage is for, by its own arithmetic."""
    from meshsdk.model.xxh64 import xxh64_python  # noqa: PLC0415 - the other implementation of the hash

    wanted = {n for n in range(12) if xxh64_python(f"default/some/o-{n}".encode()) % 10_000 < percentage * 100}
    return found == wanted
