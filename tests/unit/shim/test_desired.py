"""What the shim's Envoy is to have, from what targets resolve to: never a part, and the same objects where it can."""

from __future__ import annotations

import dataclasses

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_pb2

from meshsdk.model.endpoints import Endpoint, EndpointMap
from meshsdk.model.resources import ClusterEndpoints, Kind, Locality, LocalityEndpoints
from meshsdk.model.snapshot import BrokenCluster, Key, ResolvedCluster, Snapshot, Unresolvable
from meshsdk.shim.desired import Desired
from meshsdk.shim.settings import Inbound, Settings
from meshsdk.shim.xds.contents import Contents
from meshsdk.xds_client.codec import decode
from meshsdk.xds_client.names import Target
from meshsdk.xds_client.resolve import resolve
from meshsdk.xds_client.store import Entry, EntryStatus, Store
from tests.unit.xds_client.codec import messages

_ORDERS = Target("xds:///orders", "orders", "orders")
_STOCK = Target("xds:///stock", "stock", "stock")


class World:
    """A store of resources, and what was published."""

    def __init__(self, *targets: Target, **settings: object) -> None:
        self.store = Store()
        self.published: list[Contents] = []
        fields = {"outbound": "127.0.0.1:15001", "inbound": (Inbound("127.0.0.1:8080", "127.0.0.1:80"),), **settings}
        made = Settings("web", "/run/shim", **fields)
        self.desired = Desired(made, targets, self, self.published.append)
        self.put(Kind.LISTENER, messages.listener())
        self.put(Kind.ROUTE, messages.route_config(messages.host(messages.to("orders"))))
        self.put(Kind.CLUSTER, messages.cluster())
        self.put(Kind.ENDPOINTS, messages.assignment(messages.locality(messages.endpoint(port=80))))

    def entry(self, key: Key) -> Entry | None:
        """As of `XdsClient`."""
        return self.store.get(key)

    def put(self, kind: Kind, raw: bytes) -> None:
        """A control plane gives a resource."""
        name, resource = decode(kind, raw)
        self.store.put(Entry(Key(kind, name), EntryStatus.PRESENT, resource, raw=raw))

    def resolve(self, target: Target = _ORDERS) -> Snapshot:
        """The target is resolved from what is in the store."""
        found = resolve(self.store, target.text, "orders", target.host).snapshot
        assert isinstance(found, Snapshot)
        self.desired.resolved(target, found)
        return found

    @property
    def last(self) -> Contents:
        """What was published last."""
        return self.published[-1]


@pytest.fixture
def world() -> World:
    """One target, and an application."""
    return World(_ORDERS)


def hosts(contents: Contents) -> dict[str, route_pb2.VirtualHost]:
    """The virtual hosts of the way out."""
    return {one.name: one for one in route_pb2.RouteConfiguration.FromString(contents.routes["outbound"]).virtual_hosts}


def test_the_way_in_is_there_at_once(world: World) -> None:
    """Before anything is resolved Envoy has the listener before the application, and no way out."""
    world.desired.begin()
    assert set(world.last.listeners) == set(world.last.routes) == set(world.last.clusters) == {"inbound-0"}
    assert not world.desired.known.is_set()


def test_the_way_out_comes_when_all_targets_are_known() -> None:
    """A part of the targets is not published: the application would call into the void."""
    world = World(_ORDERS, _STOCK)
    world.resolve()
    assert "outbound" not in world.last.listeners
    world.desired.resolved(_STOCK, Unresolvable(_STOCK.text, "nobody has it"))
    assert set(world.last.listeners) == {"inbound-0", "outbound"}
    assert world.desired.known.is_set()
    assert hosts(world.last)["orders"].routes[0].route.cluster == "orders"
    assert hosts(world.last)["stock"].routes[0].direct_response.status == 503
    assert world.desired.problems == ["stock: nobody has it"]


def test_endpoints_are_those_of_the_snapshot(world: World) -> None:
    """Whatever source the snapshot had them from, Envoy is given them under the cluster's name."""
    snapshot = world.resolve()
    resolved = snapshot.clusters["orders"]
    assert isinstance(resolved, ResolvedCluster)
    assert world.last.endpoints == {"orders": resolved.leaves[0].endpoints}
    assert cluster_pb2.Cluster.FromString(world.last.clusters["orders"]).eds_cluster_config.service_name == "orders"


def test_a_change_of_endpoints_changes_nothing_else(world: World) -> None:
    """Clusters and routes stay the very objects they were, so that a stream sees at a glance what changed."""
    snapshot = world.resolve()
    before = world.last
    fresh = ClusterEndpoints("orders", (LocalityEndpoints(Locality(), 0, 1, EndpointMap.of([Endpoint("10.0.0.9:1")])),))
    resolved = snapshot.clusters["orders"]
    leaf = dataclasses.replace(resolved.leaves[0], endpoints=fresh)
    changed = {"orders": dataclasses.replace(resolved, leaves=(leaf,))}
    world.desired.resolved(_ORDERS, dataclasses.replace(snapshot, clusters=changed))
    assert world.last.endpoints == {"orders": fresh}
    assert world.last.clusters["orders"] is before.clusters["orders"]
    assert world.last.routes["outbound"] is before.routes["outbound"]


def test_routes_follow(world: World) -> None:
    """New routes of the control plane are what Envoy has next."""
    world.resolve()
    world.put(Kind.ROUTE, messages.route_config(messages.host(messages.to("orders"), messages.to("orders"))))
    world.resolve()
    assert len(hosts(world.last)["orders"].routes) == 2


def test_broken_clusters_and_missing_endpoints(world: World) -> None:
    """A cluster that cannot be used is left out, and one without endpoints is empty: calls there fail, others go on."""
    snapshot = world.resolve()
    leaf = dataclasses.replace(snapshot.clusters["orders"].leaves[0], endpoints=None, problem="none")
    changed = {
        "orders": dataclasses.replace(snapshot.clusters["orders"], leaves=(leaf,)),
        "broken": BrokenCluster("broken", "is broken"),
    }
    world.desired.resolved(_ORDERS, dataclasses.replace(snapshot, clusters=changed))
    assert set(world.last.clusters) == {"inbound-0", "orders"}
    assert world.last.endpoints == {"orders": ClusterEndpoints("orders", ())}


def test_draining_is_said_in_answers(world: World) -> None:
    """While the application drains, its routes add the trailer by which peers of the SDK leave."""
    world.resolve()
    before = world.last.routes["inbound-0"]
    world.desired.draining(draining=True)
    assert b"meshsdk-draining" in world.last.routes["inbound-0"]
    assert world.last.routes["outbound"]
    world.desired.draining(draining=False)
    assert world.last.routes["inbound-0"] == before


def test_what_is_not_in_the_store_changes_nothing(world: World) -> None:
    """A snapshot whose routes are not there to pass on leaves Envoy what it has."""
    snapshot = world.resolve()
    count = len(world.published)
    world.store.drop(Key(Kind.ROUTE, "orders"))
    world.desired.resolved(_ORDERS, snapshot)
    assert len(world.published) == count
