"""Several `meshctl serve` over one etcd: whatever is done through one of them is so on all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from envoy.service.discovery.v3 import discovery_pb2

from controlplane.model.identity import ResourceId, ResourceKind
from controlplane.store.etcd.opening import open_etcd_store
from controlplane.store.port import StoredResource
from controlplane.store.shared import StoreConflict
from meshsdk.discovery import etcd
from meshsdk.discovery.controlplane import ControlPlaneRegistry
from meshsdk.discovery.etcd.client import EtcdClient
from meshsdk.discovery.etcd.place import Place
from meshsdk.discovery.registry import LeaseLapsed
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Increment, Instance, InstanceState, MethodInfo, Revision
from tests.e2e.control_planes import Served, meshctl
from tests.e2e.processes import until
from tests.servers.etcd import EtcdServer

SERVICE = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {0}}}
spec: {{hosts: [{0}], ports: [{{number: 50051, name: grpc}}]}}
"""
ROUTES = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {0}}}
spec: {{hosts: [orders], http: [{{timeout: {1}s, route: [{{destination: {{host: orders}}}}]}}]}}
"""
CLUSTERS = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
DELTA = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


@pytest.fixture(scope="module")
def etcd_server() -> Iterator[EtcdServer]:
    """An etcd for the module."""
    server = EtcdServer()
    try:
        yield server.start()
    finally:
        server.remove()


class Replicas:
    """Two control planes over one etcd, below a prefix of their own, and their registration services."""

    def __init__(self, server: EtcdServer, folder: Path, prefix: str, count: int = 2) -> None:
        self.store = f"etcd://{server.address}?prefix=/{prefix}"
        self.prefix = f"/{prefix}"
        self.folder = folder
        self.planes: list[Served] = []
        self.registries: list[ControlPlaneRegistry] = []
        try:
            for _ in range(count):
                self.add()
        except BaseException:
            self.stop()
            raise

    def add(self) -> Served:
        """Starts another control plane."""
        plane = Served(self.folder, "--store", self.store)
        self.planes.append(plane)
        self.registries.append(ControlPlaneRegistry(grpc.insecure_channel(plane.xds), plane.xds, timeout=10))
        return plane

    def stop(self) -> None:
        """Stops all of it."""
        for registry in self.registries:
            registry.close()
        for plane in self.planes:
            plane.process.stop()


@pytest.fixture
def replicas(etcd_server: EtcdServer, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Replicas]:
    """Two control planes."""
    started = Replicas(etcd_server, tmp_path, request.node.name.replace("[", "-").replace("]", ""))
    try:
        yield started
    finally:
        started.stop()


def addresses(plane: Served, app: str = "orders") -> list[tuple[str, str]]:
    """Returns the endpoints of a service as this control plane publishes them."""
    rows = plane.over_http(f"/v1/endpoints/{app}")
    return [(row["address"], row["health"]) for row in rows] if isinstance(rows, list) else []


def test_what_is_applied_on_one_is_in_force_on_all(replicas: Replicas) -> None:
    """Apply on one, change and delete on the other: both serve the same at each step, and `get` says whence."""
    one, two = replicas.planes
    assert one.ask("apply", "-f", "-", stdin=SERVICE.format("orders")).stdout == "ServiceEntry/orders created\n"
    assert one.over_http("/v1/services") == ["orders"]
    until(lambda: two.over_http("/v1/services") == ["orders"], "the other one serves it too")
    assert two.ask("apply", "-f", "-", stdin=ROUTES.format("orders", 3)).returncode == 0
    until(lambda: [row["timeout"] for row in one.over_http("/v1/routes/orders")] == ["3s"], "its route is here")
    refused = one.ask("apply", "-f", "-", stdin=ROUTES.format("others", 4))
    assert refused.returncode == 1
    assert "are both for the host orders" in refused.stderr
    assert two.ask("delete", "VirtualService", "orders").returncode == 0
    assert two.ask("delete", "ServiceEntry", "orders").returncode == 0
    until(lambda: one.over_http("/v1/services") == [], "it is gone here as well")
    facts = one.over_http("/v1/status")["store_health"]
    assert (facts["problem"], facts["replicas"]) == ("", 2)
    third = replicas.add()
    assert third.over_http("/v1/services") == []
    until(lambda: one.over_http("/v1/status")["store_health"]["replicas"] == 3, "three are counted")


def test_concurrent_applies_lose_nothing_and_contradict_nothing(replicas: Replicas) -> None:
    """Both are told many things at once: what does not contradict is all in force; of what does, one is refused."""
    one, two = replicas.planes
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda number: replicas.planes[number % 2].apply(SERVICE.format(f"s{number}")),
                range(12),
            )
        )
    assert answers == [200] * 12
    wanted = sorted(f"s{number}" for number in range(12))
    for plane in replicas.planes:
        until(lambda plane=plane: plane.over_http("/v1/services") == wanted, "all are in force")
    assert one.apply(SERVICE.format("orders")) == 200
    start = threading.Barrier(2)

    def claim(plane: Served, name: str) -> int:
        start.wait()
        return plane.apply(ROUTES.format(name, 1))

    with ThreadPoolExecutor(2) as pool:
        codes = sorted(pool.map(claim, (one, two), ("first", "second")))
    assert codes == [200, 422]
    for plane in replicas.planes:
        until(lambda plane=plane: len(plane.over_http("/v1/resources/VirtualService")) == 1, "one of them is in force")


def test_a_lease_is_anybodys(replicas: Replicas) -> None:
    """Registered with one, renewed, drained and dropped with the other; a watcher there follows each step."""
    first, second = replicas.registries
    seen: list[Increment] = []
    second.watch("orders", "", seen.append)
    until(lambda: seen, "the watch stands")
    lease = first.register(Instance("orders", "1", "127.0.0.1:5001", unit="u1", revision="r1"), 30)
    assert addresses(replicas.planes[0]) == [("127.0.0.1:5001", "HEALTHY")]
    assert second.renew(lease).ttl == 30
    until(lambda: addresses(replicas.planes[1]) == [("127.0.0.1:5001", "HEALTHY")], "the other serves it")
    second.set_state(lease, InstanceState.DRAINING)
    assert addresses(replicas.planes[1]) == [("127.0.0.1:5001", "DRAINING")]
    until(lambda: addresses(replicas.planes[0]) == [("127.0.0.1:5001", "DRAINING")], "drained here as well")
    first.publish_revision(Revision("orders", "r1", (MethodInfo("/shop.Orders/Get"),)))
    until(lambda: second.map_service("shop.Orders") == ("orders",), "what it serves is known there")
    assert second.get_revision("orders", "r1").methods[0].name == "/shop.Orders/Get"
    second.deregister(lease)
    assert addresses(replicas.planes[1]) == []
    until(lambda: addresses(replicas.planes[0]) == [], "and gone here")
    with pytest.raises(LeaseLapsed):
        first.renew(lease)
    states = [each.state for increment in seen for each in increment.put]
    assert states == [InstanceState.ONLINE, InstanceState.DRAINING]
    until(lambda: seen[-1].removed == ("1",), "the watcher was told")


def test_a_direct_reader_of_etcd_sees_the_same_instances(replicas: Replicas, etcd_server: EtcdServer) -> None:
    """What registers with a control plane is in etcd for SDKs that read it, and what they write there is served."""
    place = Place((etcd_server.address,), prefix=replicas.prefix)
    registry = etcd.EtcdRegistry(EtcdClient(place), place.prefix)
    try:
        seen: dict[str, str] = {}
        registry.watch("orders", "", lambda told: seen.update((each.id, each.address) for each in told.put))
        replicas.registries[0].register(Instance("orders", "1", "127.0.0.1:5001"), 30)
        until(lambda: seen == {"1": "127.0.0.1:5001"}, "the reader sees it")
        registry.register(Instance("orders", "2", "127.0.0.1:5002"), 30)
        registry.register(Instance("orders", "3", "orders.example:5003"), 30)
        for plane in replicas.planes:
            until(lambda plane=plane: len(addresses(plane)) == 2, "both are served")
            until(lambda plane=plane: plane.over_http("/v1/status")["store_health"]["skipped"] == 1, "no host names")
    finally:
        registry.close()


def test_a_client_resumes_on_another_replica(replicas: Replicas) -> None:
    """Versions are made of content: a delta client that names what it has from one gets nothing anew from the other."""
    one, two = replicas.planes
    assert one.apply(SERVICE.format("orders")) == 200
    until(lambda: two.over_http("/v1/services") == ["orders"], "both serve it")
    first = delta(one, {})
    assert [resource.name for resource in first.resources] == ["orders"]
    held = {resource.name: resource.version for resource in first.resources}
    assert one.apply(SERVICE.format("users")) == 200
    until(lambda: two.over_http("/v1/services") == ["orders", "users"], "both serve both")
    assert [resource.name for resource in delta(two, held).resources] == ["users"]


def delta(plane: Served, held: dict[str, str]) -> discovery_pb2.DeltaDiscoveryResponse:
    """Returns the first answer to a wildcard subscription of a client that has `held`."""
    request = discovery_pb2.DeltaDiscoveryRequest(type_url=CLUSTERS, initial_resource_versions=held)
    request.node.id = "resuming"
    with grpc.insecure_channel(plane.xds) as channel:
        call = channel.stream_stream(
            DELTA,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
        )
        stop = threading.Event()

        def requests() -> Iterator[discovery_pb2.DeltaDiscoveryRequest]:
            yield request
            stop.wait()

        answers = call(requests(), timeout=20)
        try:
            return next(iter(answers))
        finally:
            stop.set()
            answers.cancel()


def test_a_store_that_does_not_answer_is_said_at_the_start(tmp_path: Path) -> None:
    """Without its store a control plane has nothing to serve: it does not start, and says why in one line."""
    ended = meshctl(
        *("serve", "--config", str(tmp_path), "--store", "etcd://127.0.0.1:9?timeout=0.2"),
        *("--xds", "127.0.0.1:0", "--admin", "127.0.0.1:0"),
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    line = next(line for line in ended.stderr.splitlines() if line.startswith("meshctl: "))
    assert "the store etcd 127.0.0.1:9 cannot be read: cannot list etcd 127.0.0.1:9: UNAVAILABLE" in line
    bad = meshctl("serve", "--config", str(tmp_path), "--store", "etcd://nowhere")
    assert bad.stderr == (
        "meshctl: --store 'etcd://nowhere': 'nowhere' is not HOST:PORT; expected etcd://HOST:PORT[,HOST:PORT]\n"
    )


def test_replicas_are_told_apart_from_refusals(replicas: Replicas) -> None:
    """What cannot be registered is refused by the control plane itself, in words, and never reaches etcd."""
    with pytest.raises(RegistryError, match="is not IP:PORT"):
        replicas.registries[0].register(Instance("orders", "1", "localhost:5001"), 30)
    assert replicas.planes[0].over_http("/v1/status")["instances"] == 0


def test_a_change_against_an_older_state_is_refused_by_the_store(etcd_server: EtcdServer) -> None:
    """Two writers on one generation: etcd takes the first, and the second has seen its change when it is told so."""
    stores = [open_etcd_store(f"etcd://{etcd_server.address}?prefix=/conflict") for _ in range(2)]
    rows = [
        StoredResource(ResourceId(ResourceKind.SERVICE_ENTRY, "default", name), "text", "f.yaml", 1)
        for name in ("first", "second")
    ]
    try:
        for store in stores:
            store.start(lambda: None)
        known = [store.generation for store in stores]
        stores[0].change_resources([rows[0]], [], known[0])
        with pytest.raises(StoreConflict):
            stores[1].change_resources([rows[1]], [rows[0].id], known[1])
        assert stores[1].drain(0.0).put == (rows[0],)
        stores[1].change_resources([rows[1]], [], stores[1].generation)
        assert stores[1].drain(0.0).put == (rows[1],)
    finally:
        for store in stores:
            store.close()
