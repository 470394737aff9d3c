"""Endpoints straight from a registry, as the control plane's configuration says it, beside clients that take EDS."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from meshsdk.discovery.opening import open_registry
from meshsdk.discovery.registry import Lease
from meshsdk.model.instance import Instance
from tests.e2e.peers.keyed_process import KeyedClient, bootstrap
from tests.e2e.processes import until
from tests.e2e.test_meshctl import Served

HEAD = """\
apiVersion: meshsdk.io/v1alpha1
kind: DiscoveryPolicy
metadata: {name: orders}
spec:
"""
PLAIN = HEAD + "  hosts: [orders]\n  registry: main\n  endpoints: REGISTRY\n"
MOVING = PLAIN + "  interface: test.Echo\n  migration: FORCE_INTERFACE\n"
UNITS = """\
---
apiVersion: meshsdk.io/v1alpha1
kind: UnitPolicy
metadata: {name: shop}
spec:
  units: [east, west]
  services: [{hosts: [orders], scope: CLOSED}]
  key:
    sources: [{header: x-user}]
    rules: [{unit: east, prefix: [e-]}, {unit: west, prefix: [w-]}]
"""
TTL = 60.0  # seconds; longer than any test

Start = Callable[[str, str], KeyedClient]


class World:
    """A registry in a file, a control plane that is fed from it, and what is registered. Owned by the test."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        self.url = f"sqlite://{folder / 'registry.db'}"
        self._registry = open_registry(self.url, "the test")
        self._leases: dict[tuple[str, str], Lease] = {}
        self._ports = ports
        self._file = folder / "config" / "policy.yaml"
        self._file.parent.mkdir()
        self.configure(PLAIN)
        self.served = Served(self._file.parent, "--registry", f"main={self.url}")

    def configure(self, text: str) -> None:
        """Writes the configuration; the control plane follows."""
        self._file.write_text(text)

    def register(self, name: str, app: str = "orders", unit: str = "") -> None:
        """Registers the server `name` as an instance of an application."""
        instance = Instance(app, name, f"127.0.0.1:{self._ports[name]}", unit=unit)
        self._leases[app, name] = self._registry.register(instance, TTL)

    def deregister(self, name: str, app: str = "orders") -> None:
        """Takes an instance away."""
        self._registry.deregister(self._leases.pop((app, name)))

    def client(self, kind: str, unit: str, app: str = "test") -> KeyedClient:
        """Starts a client; one of ours knows the registry."""
        node = f"{kind}-{app}-{unit or 'outside'}"
        config = bootstrap(self.served.xds, node, metadata={"LABELS": {"app": app}, **({"UNIT": unit} if unit else {})})
        config["meshsdk"] = {"registries": {"main": {"url": self.url}}}
        return KeyedClient(kind, "sync", node, config)

    def subscribed(self, node: str, kind: str) -> set[str]:
        """Returns the resources of a type that a client is subscribed to."""
        clients = json.loads(self.served.ask("clients", "-o", "json").stdout)
        subscriptions = [each for client in clients if client["node"] == node for each in client["subscriptions"]]
        return {name for each in subscriptions if each["type"] == kind for name in each["asked"]}

    def close(self) -> None:
        """Ends everything."""
        self.served.process.stop()
        self._registry.close()


@pytest.fixture
def world(backends: dict[str, int], tmp_path: Path) -> Iterator[World]:
    """The registry and the control plane."""
    made = World(tmp_path, backends)
    yield made
    made.close()


@pytest.fixture
def client(world: World) -> Iterator[Callable[..., KeyedClient]]:
    """Starts clients, which end with the test."""
    with ExitStack() as stack:

        def start(kind: str, unit: str = "", app: str = "test") -> KeyedClient:
            started = world.client(kind, unit, app)
            stack.enter_context(started.process)
            return started

        yield start


def settled(client: KeyedClient, *names: str) -> bool:
    """Tells whether calls are answered by exactly these servers, and none fails."""
    answers, errors = client.call("orders", count=10)
    assert not errors, errors
    return set(answers) == set(names)


def test_the_registry_itself_and_eds_for_others(world: World, client: Callable[..., KeyedClient]) -> None:
    """Our client follows the registry and asks for no endpoints; a stock one gets the same ones as EDS."""
    world.register("a")
    ours, stock = client("mesh"), client("stock")
    for each in (ours, stock):
        until(lambda each=each: settled(each, "a"), f"{each.node} to call a")
    world.register("b")
    for each in (ours, stock):
        until(lambda each=each: settled(each, "a", "b"), f"{each.node} to call both")
    assert world.subscribed(ours.node, "Cluster") == world.subscribed(stock.node, "Cluster") == {"orders"}
    assert world.subscribed(ours.node, "ClusterLoadAssignment") == set()
    assert world.subscribed(stock.node, "ClusterLoadAssignment") == {"orders"}


def test_endpoints_follow_the_registry_without_a_control_plane(
    world: World, client: Callable[..., KeyedClient]
) -> None:
    """The control plane is killed: routes stay, instances that come and go are followed, and no call fails."""
    world.register("a")
    ours = client("mesh")
    until(lambda: settled(ours, "a"), "calls to a")
    os.kill(world.served.process.pid, signal.SIGKILL)
    ours.load("orders")
    world.register("b")
    until(lambda: settled(ours, "a", "b"), "calls to both")
    world.deregister("a")
    until(lambda: settled(ours, "b"), "calls to b")
    answers, errors = ours.unload()
    assert errors == {}
    assert set(answers) == {"a", "b"}


@pytest.mark.parametrize("kind", ["mesh", "stock"])
def test_units_in_the_registry(world: World, client: Callable[..., KeyedClient], kind: str) -> None:
    """Units work alike over both: a client in a unit has that unit's instances, one outside goes by the key."""
    world.configure(PLAIN + UNITS)
    world.register("a", unit="east")
    world.register("b", unit="west")
    until(lambda: "UnitPolicy" in world.served.ask("get", "all").stdout, "the policy to be in force")
    east, outside = client(kind, "east"), client(kind)
    until(lambda: settled(east, "a"), "calls at home")
    east.refused("orders", "w-1")
    outside.answered("orders", "e-1", "a")
    outside.answered("orders", "w-1", "b")
    resources = "Cluster" if kind == "mesh" else "ClusterLoadAssignment"
    assert world.subscribed(east.node, resources) == {"orders||east"}


def test_where_endpoints_come_from_is_switched_live(world: World, client: Callable[..., KeyedClient]) -> None:
    """A consumer is moved from the registry to the control plane and back by its labels; no call fails, others stay."""
    world.register("a")
    web, other = client("mesh", app="web"), client("mesh", app="other")
    for each in (web, other):
        until(lambda each=each: settled(each, "a"), f"{each.node} to call a")
        each.load("orders")
    world.configure(PLAIN + "  consumers: [{sourceLabels: {app: web}, endpoints: CONTROL_PLANE}]\n")
    until(lambda: world.subscribed(web.node, "ClusterLoadAssignment") == {"orders"}, "web to take EDS")
    world.configure(PLAIN)
    until(lambda: not world.subscribed(web.node, "ClusterLoadAssignment"), "web to take the registry again")
    assert not world.subscribed(other.node, "ClusterLoadAssignment")
    for each in (web, other):
        answers, errors = each.unload()
        assert errors == {}
        assert set(answers) == {"a"}


@pytest.mark.parametrize("kind", ["mesh", "stock"])
def test_migration_is_switched_live(world: World, client: Callable[..., KeyedClient], kind: str) -> None:
    """From interface-level entries to the application's, step by step, and for one consumer first; no call fails."""
    world.configure(MOVING)
    world.register("a", app="test.Echo")
    until(lambda: "interface" in world.served.ask("get", "dp", "orders", "-o", "yaml").stdout, "the policy in force")
    web, other = client(kind, app="web"), client(kind, app="other")
    for each in (web, other):
        until(lambda each=each: settled(each, "a"), f"{each.node} to call the interface's entry")
        each.load("orders")
    world.register("b")
    world.configure(MOVING + "  consumers: [{sourceLabels: {app: web}, migration: FORCE_APPLICATION}]\n")
    until(lambda: settled(web, "b"), "web to call the application's instance")
    assert settled(other, "a")
    world.configure(MOVING.replace("FORCE_INTERFACE", "APPLICATION_FIRST"))
    until(lambda: settled(other, "b"), "the others to follow")
    for each in (web, other):
        answers, errors = each.unload()
        assert errors == {}
        assert set(answers) == {"a", "b"}
