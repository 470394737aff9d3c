"""Endpoints straight from a registry: servers, registries and control planes come and go as processes, under load."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import grpc
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from google.protobuf import struct_pb2
from xds.type.v3 import typed_struct_pb2

import meshsdk
from meshsdk.discovery.opening import open_registry
from meshsdk.model.instance import Instance, InstanceState
from tests.e2e.control_planes import Served
from tests.e2e.processes import Process, python, until
from tests.e2e.scripted_ads import CDS, EDS, ScriptedAds, endpoints, listener, pack, route
from tests.servers.etcd import EtcdServer

METHOD = "/shop.Orders/Get"
CALLERS = 8
LEASE = "2"  # seconds, the least that etcd grants
SERVER = "tests/e2e/peers/short_lease.py"
LDS, RDS = (
    f"type.googleapis.com/envoy.config.{name}" for name in ("listener.v3.Listener", "route.v3.RouteConfiguration")
)


class Running(Protocol):
    """A registry as a process."""

    url: str

    def kill(self) -> None:
        """Kills it."""

    def start(self) -> object:
        """Starts it again, on the same port."""

    def remove(self) -> None:
        """Ends it for good."""


class ControlPlaneRegistry:
    """`meshctl serve` as a registry: with its memory it loses all instances and metadata."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._address = "127.0.0.1:0"
        self.start()

    @property
    def url(self) -> str:
        """For clients."""
        return f"grpc://{self._address}"

    def start(self) -> None:
        """See `Running`."""
        self._served = Served(self._folder, xds=self._address)
        self._address = self._served.xds

    def kill(self) -> None:
        """See `Running`."""
        os.kill(self._served.process.pid, signal.SIGKILL)
        self._served.process.stop()

    def remove(self) -> None:
        """See `Running`."""
        self._served.process.stop()


class Etcd(EtcdServer):
    """etcd as a registry: its data outlives it."""

    @property
    def url(self) -> str:
        """For clients."""
        return f"etcd://{self.address}?{self.parameters}"


@pytest.fixture(params=["control plane", "etcd"])
def registry(request, tmp_path) -> Iterator[Running]:
    """Each registry in turn, running."""
    started: Running = ControlPlaneRegistry(tmp_path) if request.param == "control plane" else Etcd().start()
    yield started
    started.remove()


def bootstrap(url: str, servers: tuple[str, ...] = (), **section: Any) -> dict[str, Any]:
    """A bootstrap with one registry and, at most, one control plane."""
    xds = [{"server_uri": server, "channel_creds": [{"type": "insecure"}]} for server in servers]
    registries = {"default": {"url": url}}
    return {"xds_servers": xds, "node": {"id": "n"}, "meshsdk": {"registries": registries, **section}}


@contextmanager
def instance(url: str, kind: str = "sync") -> Iterator[tuple[Process, str]]:
    """A server process, registered and ONLINE."""
    environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap(url))}
    with python(SERVER, kind, "0.5", LEASE, env=environment) as process:
        address = f"127.0.0.1:{process.line()}"
        until(lambda: online(url).get(address), f"{address} is online")
        yield process, address


def registered(url: str) -> dict[str, Instance]:
    """What an independent reader finds registered as `orders`, by address."""
    told: list[Any] = []
    reader = open_registry(url, "the test")
    try:
        reader.watch("orders", "", told.append)
        until(lambda: told, "the registry lists")
    finally:
        reader.close()
    return {one.address: one for one in told[0].put}


def online(url: str) -> dict[str, Instance]:
    """Those of them that are ONLINE."""
    return {address: one for address, one in registered(url).items() if one.state is InstanceState.ONLINE}


class Load:
    """Callers of a channel that go on all the time. `failures` is appended to by any of them."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._get = channel.unary_unary(METHOD)
        self._over = threading.Event()
        self._gate = threading.Event()
        self._gate.set()
        self._idle = threading.Semaphore(0)
        self.made = 0
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(f"{n}".encode(),)) for n in range(CALLERS)]

    def _run(self, name: bytes) -> None:
        while not self._over.is_set():
            if not self._gate.is_set():
                self._idle.release()
                self._gate.wait()
            try:
                self._get(name, timeout=10)
            except grpc.RpcError as error:
                self.failures.append(f"{error.code().name}: {error.details()}")
                time.sleep(0.01)
            self.made += 1  # counts that are lost to a race do no harm: they only ever tell that calls go on

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No call is in flight meanwhile: what a SIGKILL takes along is none of ours."""
        self._gate.clear()
        for _ in self._threads:
            assert self._idle.acquire(timeout=20)
        yield
        self._gate.set()

    def goes_on(self) -> None:
        """Waits for many more calls."""
        made = self.made
        until(lambda: self.made > made + 200, "calls go on")

    def __enter__(self):
        self._get(b"first", timeout=20, wait_for_ready=True)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._gate.set()
        for thread in self._threads:
            thread.join()


def in_force(mesh: meshsdk.Mesh, target: str) -> set[str]:
    """The addresses that a mesh uses for a target."""
    (scope,) = mesh._engine._threads.values()
    routes = scope._watched[target].target.routes
    if routes is None:
        return set()
    leaves = [leaf for balancer in routes.balancers for leaf in balancer._cluster.leaves if leaf.endpoints is not None]
    return {one.address for leaf in leaves for place in leaf.endpoints.localities for one in place.endpoints}


def test_the_life_of_instances_and_of_their_registry_under_load(registry):
    """Instances come, drain and are killed, the registry is killed and comes back: no call fails.

    There is no control plane. After each step the client's endpoints are what an independent reader finds registered.
    """
    with ExitStack() as stack:
        mesh = stack.enter_context(meshsdk.Mesh(bootstrap(registry.url)))
        first, second = (stack.enter_context(instance(registry.url, kind)) for kind in ("sync", "aio"))
        load = stack.enter_context(Load(mesh.channel("mesh:///orders")))

        def settled(*there: tuple[Process, str]) -> None:
            expected = {address for _, address in there}
            until(lambda: in_force(mesh, "mesh:///orders") == expected, f"{expected} are in force")
            assert set(registered(registry.url)) == expected

        third = stack.enter_context(instance(registry.url))
        settled(first, second, third)
        load.goes_on()

        os.kill(first[0].pid, signal.SIGTERM)
        first[0].line()
        settled(second, third)
        fourth = stack.enter_context(instance(registry.url, "aio"))
        settled(second, third, fourth)

        with load.paused():
            os.kill(second[0].pid, signal.SIGKILL)
            second[0].stop()
        load.goes_on()
        settled(third, fourth)

        registry.kill()
        load.goes_on()
        time.sleep(1.5 * float(LEASE))  # longer than any lease: nobody can renew, and nobody is forgotten
        load.goes_on()
        registry.start()
        until(lambda: set(online(registry.url)) == {third[1], fourth[1]}, "the instances are registered again")
        settled(third, fourth)
        fifth = stack.enter_context(instance(registry.url))
        settled(third, fourth, fifth)
        load.goes_on()
        assert load.failures == []


def test_a_process_that_starts_while_the_registry_is_away(registry, tmp_path):
    """With a cache directory a new process calls the instances that the one before knew; then follows the registry."""
    given = bootstrap(registry.url, cache_dir=str(tmp_path / "cache"))
    with ExitStack() as stack:
        first = stack.enter_context(instance(registry.url))
        for target in ("mesh:///orders", "mesh:///shop.Orders"):
            with meshsdk.Mesh(given) as mesh:
                mesh.channel(target).unary_unary(METHOD)(b"x", timeout=20, wait_for_ready=True)
                until(lambda mesh=mesh, target=target: in_force(mesh, target) == {first[1]}, "it is in force")
        registry.kill()
        with meshsdk.Mesh(given) as mesh, mesh.channel("mesh:///shop.Orders") as service:
            channel = stack.enter_context(mesh.channel("mesh:///orders"))
            assert service.unary_unary(METHOD)(b"x", timeout=20) == b"x"
            assert channel.unary_unary(METHOD)(b"x", timeout=20) == b"x"
            assert {row.server for row in mesh.ledger()} == {"cache"}
            registry.start()
            second = stack.enter_context(instance(registry.url))
            until(lambda: in_force(mesh, "mesh:///orders") == {first[1], second[1]}, "the registry is followed")
            assert "cache" not in {row.server for row in mesh.ledger() if row.name.endswith("/orders")}


def registry_cluster(name: str, **fields: str) -> Any:
    """A cluster whose endpoints come from the registry."""
    value = struct_pb2.Struct()
    value.update(fields)
    config = typed_struct_pb2.TypedStruct(
        type_url="type.googleapis.com/meshsdk.clusters.registry.v1.RegistryCluster", value=value
    )
    message = cluster_pb2.Cluster(name=name)
    message.cluster_type.name = "meshsdk.clusters.registry"
    message.cluster_type.typed_config.Pack(config)
    return pack(message)


class Ads(ScriptedAds):
    """A control plane that gives `orders`, at first from the registry. `clusters` are the CDS requests it got."""

    def serve(self, cluster: Any, *ports: int) -> Any:
        """Answers the next stream."""
        stream = self.stream()
        resources = {(LDS, "orders"): listener("orders"), (RDS, "orders"): route("orders"), (CDS, "orders"): cluster}
        stream.answer_all({**resources, (EDS, "orders"): endpoints("orders", *ports)})
        return stream


def test_a_control_plane_and_a_registry_that_come_and_go(registry):
    """Routes from the control plane, endpoints from the registry: each is down alone, then both, and both come back."""
    with ExitStack() as stack:
        first = stack.enter_context(instance(registry.url))
        ads = stack.enter_context(Ads())
        mesh = stack.enter_context(meshsdk.Mesh(bootstrap(registry.url, (ads.address,))))
        channel = mesh.channel("xds:///orders")
        call = channel.unary_unary(METHOD).future(b"x", timeout=20)
        # EDS says something else, and does not count: the registry wins.
        stream = ads.serve(registry_cluster("orders", registry="default", app="orders"), 1)
        assert call.result() == b"x"
        load = stack.enter_context(Load(channel))
        until(lambda: in_force(mesh, "xds:///orders") == {first[1]}, "the registry's instance is in force")
        assert "meshsdk.registry_clusters" in stream.requests[0].node.client_features

        ads.stop()
        second = stack.enter_context(instance(registry.url, "aio"))
        until(lambda: in_force(mesh, "xds:///orders") == {first[1], second[1]}, "the registry is followed alone")
        load.goes_on()

        registry.kill()
        load.goes_on()
        again = stack.enter_context(Ads(port=ads.port))
        again.serve(registry_cluster("orders", registry="default", app="orders"))
        load.goes_on()
        again.stop()
        load.goes_on()

        registry.start()
        until(lambda: set(online(registry.url)) == {first[1], second[1]}, "the instances are registered again")
        third = stack.enter_context(instance(registry.url))
        expected = {first[1], second[1], third[1]}
        until(lambda: in_force(mesh, "xds:///orders") == expected, "the registry is followed again")
        last = stack.enter_context(Ads(port=ads.port))
        last.serve(registry_cluster("orders", registry="default", app="orders"))
        load.goes_on()
        assert load.failures == []


def test_a_registry_that_the_client_does_not_have(registry):
    """A cluster of another registry is NACKed; calls fail with the words that the control plane gets."""
    with Ads() as ads, meshsdk.Mesh(bootstrap(registry.url, (ads.address,))) as mesh:
        call = mesh.channel("xds:///orders").unary_unary(METHOD).future(b"x", timeout=20)
        stream = ads.serve(registry_cluster("orders", registry="other", app="orders"))
        words = "'other' is not among meshsdk.registries of this client's bootstrap (default)"
        assert words in str(call.exception())
        until(lambda: words in "".join(one.error_detail.message for one in stream.requests), "the NACK arrives")


def test_migration_by_the_control_plane(registry):
    """The control plane changes the mode in its cluster: calls move between the interface's and its applications'."""
    with ExitStack() as stack:
        _, new = stack.enter_context(instance(registry.url))
        _, old = stack.enter_context(instance(registry.url, "aio"))
        keeper = open_registry(registry.url, "the test")
        stack.callback(keeper.close)
        old_world = Instance("shop.Orders", old, old)
        keeper.register(old_world, 3600.0)
        ads = stack.enter_context(Ads())
        mesh = stack.enter_context(meshsdk.Mesh(bootstrap(registry.url, (ads.address,))))
        channel = mesh.channel("xds:///orders")
        first = channel.unary_unary(METHOD).future(b"x", timeout=20)
        facts = {"registry": "default", "interface": "shop.Orders"}
        stream = ads.serve(registry_cluster("orders", **facts, migration="FORCE_INTERFACE"))
        assert first.result() == b"x"
        load = stack.enter_context(Load(channel))
        until(lambda: in_force(mesh, "xds:///orders") == {old}, "the interface's entry is in force")
        for version, (mode, expected) in enumerate(
            [("FORCE_APPLICATION", {new, old}), ("FORCE_INTERFACE", {old}), ("APPLICATION_FIRST", {new, old})]
        ):
            cluster = registry_cluster("orders", **facts, migration=mode)
            stream.respond(CDS, cluster, version=f"v{version}", names=("orders",))
            until(lambda expected=expected: in_force(mesh, "xds:///orders") == expected, mode)
            load.goes_on()
        assert load.failures == []


def test_a_prefork_server_over_a_registry(registry):
    """The parent has used the registry, eight children call over what they inherited, and the parent goes on."""
    environment = {"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap(registry.url))}
    with instance(registry.url), python("-m", "tests.e2e.peers.forks", env=environment) as process:
        lines = Counter(process.line() for _ in range(10))
        assert lines == {"parent": 2, "child": 8}, process.errors
        assert "Traceback" not in process.errors
