"""Which clients are asked for the counts of their calls (gRFC A27 `lrs_server`)."""

from __future__ import annotations

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from google.protobuf.any_pb2 import Any

from controlplane.plane import Plane
from controlplane.server.node import Node
from controlplane.store.memory import MemoryStore
from controlplane.translate.names import CLUSTER
from controlplane.translate.view import LOADS_FEATURE, view_of
from meshsdk.model.instance import Instance

SERVICES = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: orders}
spec: {hosts: [orders], ports: [{number: 80, name: grpc}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders}
spec: {host: orders, subsets: [{name: v1, labels: {version: v1}}]}
"""


@pytest.mark.parametrize(
    ("all_report", "features", "asked"),
    [(False, (), False), (False, (LOADS_FEATURE,), True), (True, (), True), (True, (LOADS_FEATURE,), True)],
)
def test_who_is_asked(all_report, features, asked):
    """Clients that can report are asked to, for every cluster; with `--load-reports all` everyone is."""
    plane = Plane(None, MemoryStore(), lambda: 0.0, lambda: None, all_report=all_report)
    view = plane.cache.view_of(Node("web-1", features=frozenset(features)))  # before there is any service
    plane.registrar.register(Instance("users", "1", "10.9.9.9:80"), 60)
    plane.flush()
    assert asks(plane, view, "users") is asked
    plane.apply(SERVICES, "f.yaml")
    assert [asks(plane, view, name) for name in ("orders", "orders|v1", "users")] == [asked] * 3


def asks(plane: Plane, view: str, name: str) -> bool:
    """Tells whether a cluster, as a view sees it, asks for reports."""
    packed = plane.cache.snapshot(view).of(CLUSTER).get(name)
    cluster = cluster_pb2.Cluster.FromString(Any.FromString(packed.body).value)
    return cluster.HasField("lrs_server") and cluster.lrs_server.HasField("self")


def test_views_that_share():
    """Clients that report have views of their own, in which everything else is the same."""
    one, other = view_of({}, "web", "meshsdk"), view_of({}, "web", "meshsdk", (LOADS_FEATURE,))
    assert one.key != other.key
    assert view_of({}, "web", "meshsdk", (), {LOADS_FEATURE: True}) == other
