"""What the admin interface answers, without sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.admin.api import Api, Text
from controlplane.health import warnings
from controlplane.loads.book import LoadBook
from controlplane.model.identity import ResourceKind
from controlplane.plane import Plane
from controlplane.server.node import Node
from controlplane.server.status import ClientInfo, Counters, SubscriptionInfo
from controlplane.store.memory import MemoryStore
from meshsdk.model.instance import Instance

SERVICE = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: orders}
spec: {hosts: [orders], ports: [{number: 80, name: grpc}]}
"""
KINDS = ", ".join(kind.value for kind in ResourceKind)
CLUSTERS = "type.googleapis.com/envoy.config.cluster.v3.Cluster"

COUNTERS = Counters({"delta": 1}, 4, 2, 30, 999, {CLUSTERS: 3}, 5)


@pytest.fixture
def plane() -> Plane:
    """A control plane without doors or threads."""
    return Plane(None, MemoryStore(), lambda: 0.0, lambda: None)


@pytest.fixture
def api(plane: Plane) -> Api:
    """The admin interface of a plane with one client, which refuses a cluster."""
    refusing = SubscriptionInfo(
        CLUSTERS, False, 2, 1, "2", "1", False, True, "no such policy", "2", nacks=3, nacked_at=7.5
    )
    client = ClientInfo(1, Node("n1", "web"), "v", "ipv4:1", "delta", "ADS", 0.0, 3, (refusing,))
    return Api(plane, lambda: [client], lambda: {"xds": "127.0.0.1:1"}, lambda: COUNTERS, LoadBook(0.0))


def test_apply_get_and_delete(api: Api) -> None:
    """What was applied is listed with its text and place, and can be deleted."""
    answer = api.answer("POST", "/v1/resources?file=f.yaml", SERVICE.encode())
    assert (answer.status, answer.value) == (
        200,
        {"applied": [{"resource": "ServiceEntry/orders", "outcome": "created"}], "warnings": []},
    )
    for path in ("/v1/resources", "/v1/resources/ServiceEntry", "/v1/resources/ServiceEntry/default/orders"):
        (row,) = api.answer("GET", path, b"").value
        assert (row["name"], row["origin"], row["text"]) == ("orders", "f.yaml:1", SERVICE)
        assert row["body"]["spec"]["hosts"] == ["orders"]
    assert api.answer("GET", "/v1/resources/VirtualService", b"").value == []
    answer = api.answer("DELETE", "/v1/resources/ServiceEntry/default/orders", b"")
    assert answer.value == {"deleted": "ServiceEntry/orders"}
    assert api.answer("GET", "/v1/resources", b"").value == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("GET", "/", b"", 404, "there is nothing at /"),
        ("GET", "/v1/nothing", b"", 404, "there is nothing at /v1/nothing"),
        ("POST", "/v1/status", b"", 405, "POST is not possible on /v1/status"),
        ("GET", "/v1/routes/gone", b"", 404, "there is no service gone; meshctl status counts them"),
        ("GET", "/v1/resources/Pod", b"", 400, f"unknown kind 'Pod'; known are {KINDS}"),
        ("GET", "/v1/resources/ServiceEntry/default/gone", b"", 404, "there is no ServiceEntry/gone"),
        ("GET", "/v1/resources/ServiceEntry/default", b"", 405, "GET is not possible there"),
        ("DELETE", "/v1/resources/ServiceEntry/shop/gone", b"", 404, "there is no ServiceEntry/shop/gone"),
        ("DELETE", "/v1/resources", b"", 405, "DELETE is not possible there"),
        ("POST", "/v1/resources?file=f.yaml", b"a\n\xff", 400, "f.yaml:2: is not UTF-8"),
        ("POST", "/v1/resources?file=f.yaml", b"kind: 1\n", 422, "f.yaml:1: apiVersion: required field is missing"),
    ],
)  # fmt: skip
def test_refusals(api: Api, method: str, path: str, body: bytes, status: int, error: str) -> None:
    """What cannot be answered is refused with a status and words."""
    answer = api.answer(method, path, body)
    assert (answer.status, answer.value) == (status, {"errors": [error]})


def test_status_counts_and_lists(api: Api, plane: Plane) -> None:
    """Status has counts, warnings, and who refuses what."""
    text = (
        SERVICE + "  # nothing\n---\n" + SERVICE.replace("orders", "users").replace("spec: {", "spec: {exportTo: [a], ")
    )
    api.answer("POST", "/v1/resources?file=f.yaml", text.encode())
    plane.registrar.register(Instance("stock", "1", "10.0.0.1:80"), 15)
    value = api.answer("GET", "/v1/status", b"").value
    assert value["resources"]["ServiceEntry"] == 2
    assert (value["services"], value["instances"], value["clients"], value["xds"]) == (3, 1, 1, "127.0.0.1:1")
    assert value["problems"] == []
    assert value["warnings"] == ["f.yaml:10: spec.exportTo: has no effect in this version"]
    assert value["rejected_by_clients"] == ["n1 (ipv4:1) refuses Cluster: no such policy"]


def test_clients_say_what_they_have(api: Api) -> None:
    """A client's row tells its application and the state of each subscription."""
    (row,) = api.answer("GET", "/v1/clients", b"").value
    assert (row["node"], row["app"], row["transport"]) == ("n1", "web", "delta")
    assert row["subscriptions"] == [
        {"type": "Cluster", "names": 2, "asked": [], "held": 1, "state": "rejected", "error": "no such policy"}
    ]
    assert row["nacks"] == [
        {"type": "Cluster", "count": 3, "at": 7.5, "version": "2", "text": "no such policy", "in_force": True}
    ]


def test_routes_and_endpoints_of_a_service(api: Api, plane: Plane) -> None:
    """A registered application's default route and its endpoint are shown."""
    plane.registrar.register(Instance("stock", "1", "10.0.0.1:80", labels={"version": "v1"}), 15)
    assert api.answer("GET", "/v1/routes/stock", b"").value[0]["to"] == "stock"
    (row,) = api.answer("GET", "/v1/endpoints/stock", b"").value
    assert (row["address"], row["labels"]) == ("10.0.0.1:80", {"version": "v1"})


def test_instances_without_calls_are_reported(plane: Plane) -> None:
    """An application that registers although its ServiceEntry lists endpoints is told so in status."""
    plane.apply(SERVICE.replace("spec: {", "spec: {resolution: STATIC, endpoints: [{address: 10.0.0.9}], "), "f.yaml")
    assert warnings(plane) == ()
    plane.registrar.register(Instance("orders", "1", "10.0.0.1:80"), 15)
    assert warnings(plane) == (
        "f.yaml:4: spec: 1 registered instances of orders get no calls: ServiceEntry/orders lists its endpoints",
    )


def test_application_is_dropped_after_it_lingered() -> None:
    """A service without instances stays known for a while, so that a restart is no removal, and then goes."""
    now = [0.0]
    plane = Plane(None, MemoryStore(), lambda: now[0], lambda: None)
    plane.registrar.register(Instance("stock", "1", "10.0.0.1:80"), 10)
    now[0] = 10.0
    assert plane.tick() == 310.0
    assert (plane.hosts(), plane.endpoints("stock")) == (["stock"], [])
    now[0] = 310.0
    assert plane.tick() is None
    assert plane.hosts() == []


def test_files_are_published(tmp_path: Path) -> None:
    """A plane on a directory serves what is in it, and what it becomes."""
    (tmp_path / "a.yaml").write_text(SERVICE)
    plane = Plane(tmp_path, MemoryStore(), lambda: 0.0, lambda: None)
    assert plane.hosts() == ["orders"]
    (tmp_path / "a.yaml").write_text(SERVICE.replace("orders", "users"))
    plane.look()
    plane.look()
    assert plane.hosts() == ["users"]


def test_metrics_are_prometheus_text(api: Api, plane: Plane) -> None:
    """A scrape has the server's counts, the plane's, and their types; it is no JSON."""
    api.answer("POST", "/v1/resources?file=f.yaml", SERVICE.encode())
    plane.registrar.register(Instance("stock", "1", "10.0.0.1:80"), 15)
    answer = api.answer("GET", "/metrics", b"")
    assert isinstance(answer, Text)
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    lines = answer.body.decode().splitlines()
    for line in (
        "# TYPE meshsdk_xds_nacks_total counter",
        'meshsdk_xds_nacks_total{type="Cluster"} 3.0',
        'meshsdk_xds_streams{transport="delta"} 1.0',
        "meshsdk_xds_rejecting_streams 1.0",
        "meshsdk_xds_messages_sent_total 30.0",
        "meshsdk_xds_sent_bytes_total 999.0",
        'meshsdk_resources{kind="ServiceEntry"} 1.0',
        "meshsdk_instances 1.0",
        "meshsdk_leases 1.0",
        "meshsdk_configuration_in_force 1.0",
        "meshsdk_store_up 1.0",
    ):
        assert line in lines
    assert api.answer("POST", "/metrics", b"").status == 404
