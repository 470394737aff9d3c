"""Control planes over one etcd when something is away: a control plane, etcd, etcd's past, etcd's data.

At the end of each, what is served equals what is registered, read from etcd by a reader of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from meshsdk.discovery import entries
from meshsdk.discovery.controlplane import ControlPlaneRegistry
from meshsdk.discovery.etcd.client import EtcdClient
from meshsdk.discovery.etcd.place import Place
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance
from tests.e2e.control_planes import Served
from tests.e2e.peers.kept import Kept
from tests.e2e.processes import Process, python, until
from tests.servers.etcd import EtcdServer

SERVICE = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {0}}}
spec: {{hosts: [{0}], ports: [{{number: 50051, name: grpc}}]}}
"""
METHOD = "/shop.Orders/Get"


class World:
    """An etcd, two control planes, instances that answer calls, and callers of both kinds."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self.etcd = EtcdServer()
        stack.callback(self._remove)
        self.etcd.start()
        self.planes = [self.plane(), self.plane()]
        self.registries = [self._registry(plane) for plane in self.planes]
        self.kept: dict[str, Kept] = {}

    def _remove(self) -> None:
        self.etcd.remove()  # the one of the end, which need not be the one of the start

    def plane(self) -> Served:
        """Starts a control plane."""
        store = f"etcd://{self.etcd.address}?timeout=1&grace=4"
        return self._stack.enter_context(Served(self._folder, "--store", store))

    def _registry(self, plane: Served) -> ControlPlaneRegistry:
        registry = ControlPlaneRegistry(grpc.insecure_channel(plane.xds), plane.xds, timeout=2)
        self._stack.callback(registry.close)
        return registry

    def serve(self, number: int) -> str:
        """Starts an instance in this process; returns its address."""
        server = grpc.server(futures.ThreadPoolExecutor(4))
        handlers = {"Get": grpc.unary_unary_rpc_method_handler(lambda request, _: request)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", handlers),))
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        self._stack.callback(lambda: server.stop(None).wait())
        self.keep(number, address)
        return address

    def keep(self, number: int, address: str) -> Kept:
        """Registers an instance and keeps it, through either control plane."""
        registries = self.registries if number % 2 else self.registries[::-1]
        kept = self.kept[address] = Kept(Instance("orders", f"i{number}", address), *registries)
        self._stack.callback(kept.stop)
        assert kept.registered.wait(30)
        return kept

    def load(self, *kind: str) -> Process:
        """Starts callers; they know both control planes."""
        servers = [{"server_uri": plane.xds, "channel_creds": [{"type": "insecure"}]} for plane in self.planes]
        environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps({"xds_servers": servers, "node": {"id": "load"}})}
        # As a module: beside a script, peers/envoy.py would hide the package of that name.
        command = (sys.executable, "-m", "tests.e2e.peers.xds_load", "xds:///orders", METHOD, *kind)
        process = Process(*command, env=environment)
        self._stack.enter_context(process)
        assert process.line() == "ready"
        return process

    def truth(self) -> list[str]:
        """Returns the addresses that are registered in etcd."""
        client = EtcdClient(Place((self.etcd.address,), timeout=2.0))
        try:
            found = client.list("/meshsdk/instances/")
            return sorted(entries.instance_from_text(each.value).address for each in found.entries.values())
        except RegistryError as error:
            raise AssertionError(str(error)) from None
        finally:
            client.close()

    def settled(self, *planes: Served) -> None:
        """Waits until these control planes serve what is registered, which is what is kept here."""
        wanted = sorted(self.kept)
        until(lambda: self.truth() == wanted, "what is kept is in etcd")
        for plane in planes or self.planes:
            until(lambda plane=plane: served(plane) == wanted, "the control plane serves the truth")


def served(plane: Served) -> list[str]:
    """Returns the addresses of `orders` as this control plane publishes them."""
    rows = plane.over_http("/v1/endpoints/orders")
    return sorted(row["address"] for row in rows) if isinstance(rows, list) else []


def calls(load: Process) -> int:
    """Returns how many calls were made; none of them failed."""
    counts = json.loads(load.ask("?"))
    assert counts["failures"] == []
    return counts["made"]


def goes_on(*loads: Process) -> None:
    """Waits until each load has made more calls."""
    for load in loads:
        before = calls(load)
        until(lambda load=load, before=before: calls(load) > before + 200, "calls go on")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The world, without instances."""
    with ExitStack() as stack:
        yield World(tmp_path, stack)


def test_a_control_plane_killed_under_load_costs_no_call(world: World) -> None:
    """One of two is killed while stock and mesh callers work; instances come and go through the other."""
    first, second = world.serve(1), world.serve(2)
    world.settled()
    loads = [world.load(), world.load("mesh")]
    goes_on(*loads)
    os.kill(world.planes[0].process.pid, signal.SIGKILL)
    third = world.serve(3)
    world.kept.pop(first).leave()
    world.settled(world.planes[1])
    goes_on(*loads)
    assert served(world.planes[1]) == sorted([second, third])
    world.planes[0] = world.plane()
    assert served(world.planes[0]) == sorted([second, third])


def test_etcd_frozen_for_longer_than_the_leases_costs_no_call(world: World) -> None:
    """etcd stops for longer than every lease lasts: nobody is taken out, and all are back with leases afterwards."""
    addresses = [world.serve(number) for number in range(4)]
    world.settled()
    loads = [world.load(), world.load("mesh")]
    kept = [world.kept[address] for address in addresses]
    before = [each.registrations for each in kept]
    world.etcd.freeze()
    for plane in world.planes:
        until(lambda plane=plane: plane.over_http("/v1/status")["store_health"]["problem"], "it is noticed")
        assert plane.apply(SERVICE.format("users")) == 503
    until(lambda: all(each.silence > 2 * each.ttl for each in kept), "nobody renews for two leases' time")
    assert [served(plane) for plane in world.planes] == [sorted(addresses)] * 2
    world.etcd.thaw()
    until(
        lambda: all(each.registrations > count for each, count in zip(kept, before, strict=True)),
        "leases had run out: they have registered again",
    )
    world.settled()
    goes_on(*loads)
    for plane in world.planes:
        until(lambda plane=plane: plane.over_http("/v1/status")["problems"] == [], "all is well again")
    assert world.planes[0].apply(SERVICE.format("users")) == 200


def test_etcd_killed_and_back_during_churn(world: World) -> None:
    """etcd dies and comes back while instances come and go: what is served stays, and is the truth afterwards."""
    staying = [world.serve(number) for number in range(3)]
    world.settled()
    load = world.load("mesh")
    world.etcd.kill()
    for plane in world.planes:
        until(lambda plane=plane: plane.over_http("/v1/status")["store_health"]["problem"], "it is noticed")
        assert served(plane) == sorted(staying)
    gone = world.kept.pop(staying[0])
    gone.stop()  # without a word: its lease has to run out
    goes_on(load)
    world.etcd.start()
    world.serve(7)
    world.settled()
    goes_on(load)


def test_a_past_that_was_compacted_is_listed_anew(world: World) -> None:
    """A control plane sleeps while instances come and go and etcd forgets how: it wakes to the truth."""
    gone, staying = world.serve(1), world.serve(2)
    world.settled()
    sleeper, other = world.planes
    os.kill(sleeper.process.pid, signal.SIGSTOP)
    try:
        for number in range(10, 16):
            address = f"127.0.0.1:{4000 + number}"
            world.keep(number, address)
            if number % 2:
                world.kept.pop(address).leave()
        world.kept.pop(gone).leave()
        assert other.apply(SERVICE.format("users")) == 200
        client = EtcdClient(Place((world.etcd.address,)))
        client.compact(client.list("/").revision)
        client.close()
        world.settled(other)
        world.etcd.kill()  # the sleeper's connection goes, and with it what is in flight
        world.etcd.start()
    finally:
        os.kill(sleeper.process.pid, signal.SIGCONT)
    world.settled()
    assert staying in served(sleeper)
    until(lambda: "users" in sleeper.over_http("/v1/services"), "what was applied meanwhile is in force")


def test_etcd_that_lost_its_data_gets_the_configuration_back(world: World) -> None:
    """etcd comes back empty: configuration and instances stay in force, and are in etcd again."""
    addresses = [world.serve(number) for number in range(2)]
    assert world.planes[0].apply(SERVICE.format("users")) == 200
    assert world.planes[1].apply(SERVICE.format("orders")) == 200
    world.settled()
    load = world.load("mesh")
    port = world.etcd.port
    world.etcd.remove()
    world.etcd = EtcdServer()
    world.etcd.port = port
    world.etcd.start()
    until(lambda: len(stored(world)) == 2, "the configuration is in etcd again")
    world.settled()
    for plane in world.planes:
        assert plane.over_http("/v1/services") == ["orders", "users"]
        until(lambda plane=plane: plane.over_http("/v1/status")["problems"] == [], "all is well")
    goes_on(load)
    assert world.planes[0].apply(SERVICE.format("stock")) == 200
    until(lambda: world.planes[1].over_http("/v1/services") == ["orders", "stock", "users"], "changes work")
    assert world.truth() == sorted(addresses)


def stored(world: World) -> list[str]:
    """Returns the keys of the applied resources in etcd."""
    client = EtcdClient(Place((world.etcd.address,), timeout=2.0))
    try:
        return sorted(client.list("/meshsdk/config/resources/").entries)
    except RegistryError as error:
        raise AssertionError(str(error)) from None
    finally:
        client.close()


def test_a_service_registers_with_the_control_plane_that_is_left(world: World) -> None:
    """The first of a server's `xds_servers` dies for good: the server renews and drains its lease with the second."""
    servers = [{"server_uri": plane.xds, "channel_creds": [{"type": "insecure"}]} for plane in world.planes]
    environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps({"xds_servers": servers, "node": {"id": "orders"}})}
    with python("tests/e2e/peers/short_lease.py", "sync", "0.2", "3", env=environment) as process:
        address = f"127.0.0.1:{process.line()}"
        first, second = world.planes
        until(lambda: served(first) == served(second) == [address], "it is registered")
        os.kill(first.process.pid, signal.SIGKILL)
        lease = time.monotonic() + 2 * 3  # of the lease that nobody renewed with the first
        until(lambda: time.monotonic() > lease, "its lease would have run out twice")
        assert served(second) == [address]
        os.kill(process.pid, signal.SIGTERM)
        until(lambda: served(second) == [], "it has left")
