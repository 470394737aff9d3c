"""`meshctl serve --registry NAME=URL`: instances of other registries, beside the control plane's own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest

from controlplane.server.type_urls import CLUSTER
from meshsdk.discovery.controlplane import ControlPlaneRegistry
from meshsdk.discovery.opening import open_registry
from meshsdk.model.instance import Instance, InstanceState
from tests.e2e.control_planes import Served, meshctl
from tests.e2e.processes import entry_point, until
from tests.servers.etcd import EtcdServer
from tests.servers.process import free_port

SERVICES = "/envoy.service"


class Peer:
    """A control plane and its registration service."""

    def __init__(self, folder: Path, *arguments: str, xds: str = "127.0.0.1:0") -> None:
        self.served = Served(folder, *arguments, xds=xds)
        self.registry = ControlPlaneRegistry(grpc.insecure_channel(self.served.xds), self.served.xds, timeout=10)

    def endpoints(self, app: str = "orders") -> list[tuple[str, str]]:
        """Returns what is published."""
        rows = self.served.over_http(f"/v1/endpoints/{app}")
        return [(row["address"], row["health"]) for row in rows] if isinstance(rows, list) else []

    def feed(self) -> dict[str, object]:
        """Returns how the first feed fares."""
        return self.served.over_http("/v1/status")["feeds"][0]

    def stop(self) -> None:
        """Stops it."""
        self.registry.close()
        self.served.process.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Peer]]:
    """Starts a control plane, which is stopped in the end."""
    with ExitStack() as stack:

        def started(*arguments: str, xds: str = "127.0.0.1:0") -> Peer:
            peer = Peer(tmp_path, *arguments, xds=xds)
            stack.callback(peer.stop)
            return peer

        yield started


@pytest.fixture
def etcd() -> Iterator[EtcdServer]:
    """An etcd that is not started."""
    server = EtcdServer()
    yield server
    server.remove()


def instance(number: int, app: str = "orders", **fields: object) -> Instance:
    """Returns an instance."""
    return Instance(app, f"i{number}", f"127.0.0.1:{5000 + number}", **fields)


def test_another_control_plane_is_followed_through_its_restart(start: Callable[..., Peer]) -> None:
    """Its instances come, change and go here; while it is away the last known ones stay, and the truth follows."""
    upper = start()
    lower = start("--registry", f"upper=grpc://{upper.served.xds}")
    first = upper.registry.register(instance(1), 60)
    upper.registry.register(instance(2), 60)
    until(lambda: [address for address, _ in lower.endpoints()] == ["127.0.0.1:5001", "127.0.0.1:5002"], "both come")
    upper.registry.set_state(first, InstanceState.DRAINING)
    until(lambda: ("127.0.0.1:5001", "DRAINING") in lower.endpoints(), "one drains")
    upper.registry.deregister(first)
    until(lambda: lower.endpoints() == [("127.0.0.1:5002", "HEALTHY")], "and goes")
    os.kill(upper.served.process.pid, signal.SIGKILL)
    upper.stop()
    until(lambda: not lower.feed()["up"], "the outage is noticed")
    assert lower.endpoints() == [("127.0.0.1:5002", "HEALTHY")]
    text = lower.served.ask("status").stdout
    assert f"registry upper grpc://{upper.served.xds}: down (" in text
    assert "its last known instances stay" in text
    assert text.rstrip().endswith("configuration: in force")
    assert lower.served.metrics()['meshsdk_feed_up{feed="upper"}'] == 0
    back = start(xds=upper.served.xds)
    back.registry.register(instance(3), 60)
    until(lambda: lower.endpoints() == [("127.0.0.1:5003", "HEALTHY")], "the truth after the outage")
    assert lower.feed()["up"]


def test_no_client_is_answered_before_a_feed_was_heard(etcd: EtcdServer, tmp_path: Path) -> None:
    """A registry is away at the start: clients are refused, and it is said why; SIGTERM ends that, and so does it."""
    ports = [free_port(), free_port()]
    xds, admin = (f"127.0.0.1:{port}" for port in ports)
    addresses = ("--config", str(tmp_path), "--xds", xds, "--admin", admin)
    arguments = ("serve", *addresses, "--registry", f"main=etcd://{etcd.address}?timeout=1")
    with entry_point("controlplane.cli:main", *arguments) as ended:
        until(lambda: "xDS is not answered yet: waiting for registry main (cannot" in ended.errors, "it is said")
        assert ended.stop() == 0
    with entry_point("controlplane.cli:main", *arguments) as process, grpc.insecure_channel(xds) as channel:
        ads = channel.stream_stream(f"{SERVICES}.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources")
        fetch = channel.unary_unary(f"{SERVICES}.cluster.v3.ClusterDiscoveryService/FetchClusters")
        request = DiscoveryRequest(type_url=CLUSTER).SerializeToString()
        until(lambda: "waiting for registry main" in meshctl("status", server=admin).stdout, "status says so")
        for ask in (lambda: next(ads(iter([request]), timeout=10)), lambda: fetch(request, timeout=10)):
            with pytest.raises(grpc.RpcError) as refused:
                ask()
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert refused.value.details() == "the control plane waits for registry main"
        etcd.start()
        assert process.line().startswith("meshctl: ready: ")
        assert next(ads(iter([request]), timeout=10))
        assert fetch(request, timeout=10)
        assert "waiting" not in meshctl("status", server=admin).stdout


def test_a_feed_that_is_down_for_longer_than_the_patience_is_said(start: Callable[..., Peer], etcd: EtcdServer) -> None:
    """The rest is served then, the problem is said; when the registry is up its instances come."""
    peer = start("--patience", "0.2", "--registry", f"main=etcd://{etcd.address}?timeout=1")
    peer.registry.register(instance(9, "users"), 60)
    until(lambda: peer.endpoints("users") == [("127.0.0.1:5009", "HEALTHY")], "its own are served")
    assert f"meshctl: problem: registry main (etcd://{etcd.address}" in peer.served.process.errors
    assert "none of its instances is known yet" in peer.served.process.errors
    assert "xDS is answered without registry main" in peer.served.process.errors
    etcd.start()
    registry = open_registry(f"etcd://{etcd.address}", "test")
    try:
        registry.register(instance(1), 60)
        registry.register(Instance("orders", "named", "orders.example:80"), 60)
        until(lambda: peer.endpoints() == [("127.0.0.1:5001", "HEALTHY")], "the registry's instance is served")
        until(lambda: peer.feed()["skipped"] == 1, "a host name is no endpoint of xDS, and counted")
        assert peer.served.over_http("/v1/status")["problems"] == []
    finally:
        registry.close()


def test_own_registrations_go_before_feeds_and_feeds_before_later_ones(start: Callable[..., Peer]) -> None:
    """One id in three places: the control plane's own counts, then the first feed's; each conflict is a warning."""
    high, low = start(), start()
    feeds = ("--registry", f"high=grpc://{high.served.xds}", "--registry", f"low=grpc://{low.served.xds}")
    peer = start(*feeds)
    low.registry.register(Instance("orders", "i1", "127.0.0.1:7001"), 60)
    until(lambda: peer.endpoints() == [("127.0.0.1:7001", "HEALTHY")], "the lower feed's")
    held = high.registry.register(Instance("orders", "i1", "127.0.0.1:6001"), 60)
    until(lambda: peer.endpoints() == [("127.0.0.1:6001", "HEALTHY")], "the higher feed's")
    lease = peer.registry.register(Instance("orders", "other", "127.0.0.1:6001"), 60)
    warning = (
        "orders/i1 in high has the address 127.0.0.1:6001 of orders/other in the registration service, which is served "
        "in its place"
    )
    until(lambda: warning in peer.served.over_http("/v1/status")["warnings"], "the conflict is said")
    assert ("127.0.0.1:6001", "HEALTHY") in peer.endpoints()
    high.registry.set_state(held, InstanceState.DRAINING)  # else that it goes would be doubted for a minute
    high.registry.deregister(held)
    peer.registry.deregister(lease)
    until(lambda: peer.endpoints() == [("127.0.0.1:7001", "HEALTHY")], "the lower one is back")
    assert peer.served.over_http("/v1/status")["warnings"] == []


def test_a_feed_of_the_stores_own_etcd_is_no_conflict(start: Callable[..., Peer], etcd: EtcdServer) -> None:
    """One etcd is store and registry at once: each instance is served once, and there is nothing to warn of."""
    etcd.start()
    peer = start("--store", f"etcd://{etcd.address}", "--registry", f"main=etcd://{etcd.address}")
    peer.registry.register(instance(1), 60)
    until(lambda: peer.feed()["instances"] == 1, "the feed has it too")
    assert peer.endpoints() == [("127.0.0.1:5001", "HEALTHY")]
    until(lambda: peer.served.over_http("/v1/status")["warnings"] == [], "no warning")
