"""Registries in the session: sources are followed as resources are, over control planes that come and go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshsdk.bootstrap import load_bootstrap
from meshsdk.model.endpoints import Endpoint, EndpointMap
from meshsdk.model.matching import PathKind, PathMatch, RouteMatch
from meshsdk.model.migration import Migration
from meshsdk.model.resources import (
    AggregateSource,
    Cluster,
    ClusterEndpoints,
    EdsSource,
    Forward,
    Kind,
    Listener,
    Locality,
    LocalityEndpoints,
    RegistrySource,
    Route,
    RouteConfiguration,
    VirtualHost,
    WeightedCluster,
)
from meshsdk.model.snapshot import Snapshot, Unresolvable
from meshsdk.model.told import Told
from meshsdk.xds_client.direct import read_target
from meshsdk.xds_client.instances import Follow, Unfollow, instances_key
from meshsdk.xds_client.messages import Received, Response
from meshsdk.xds_client.resolve import resolve
from meshsdk.xds_client.session import Link, Session
from meshsdk.xds_client.store import EntryStatus

SERVERS = [{"server_uri": "one:1", "channel_creds": [{"type": "insecure"}]}]
REGISTRIES = {"registries": {"default": {"url": "etcd://h:1"}}, "transport": "sotw"}
ORDERS = RegistrySource("default", app="orders")
KEY = instances_key(ORDERS)


def endpoints(*addresses: str, name: str = "x") -> ClusterEndpoints:
    """Endpoints in one locality."""
    found = EndpointMap.of(Endpoint(address) for address in addresses)
    return ClusterEndpoints(name, (LocalityEndpoints(Locality(), 0, 1, found),))


def routed(*clusters: str) -> Listener:
    """A listener that routes everything to clusters of equal weight."""
    action = Forward(tuple(WeightedCluster(name, 1) for name in clusters))
    host = VirtualHost("h", ("*",), (Route("", RouteMatch(PathMatch(PathKind.PREFIX, "")), action),))
    return Listener("orders", route_config=RouteConfiguration("", (host,)))


class Desk:
    """A session over the real resolve; resources are given as values, by name."""

    def __init__(self, servers=SERVERS) -> None:
        self.bootstrap = load_bootstrap({"xds_servers": servers, "meshsdk": REGISTRIES}, {})
        self.resources: dict[str, object] = {}
        words = "registry {!r} (etcd://h:1)".format
        self.session = Session(self.bootstrap, self._decode, resolve, lambda: 0.5, registry_words=words)
        self.orders: list = []
        self.result = None
        self.count = 0

    def _decode(self, kind, raw, previous=None, previous_raw=b""):
        name, _, number = raw.decode().partition("|")
        return name, self.resources[f"{kind.name}{name}|{number}"]

    def take(self, now: float = 0.0):
        """Takes what follows."""
        todo = self.session.take(now)
        self.orders.extend(todo.orders)
        for publication in todo.publications:
            self.result = publication.result
        return todo

    def watch(self, target: str = "xds:///orders") -> None:
        """Watches."""
        self.session.watch(1, read_target(target, self.bootstrap))
        self.take()

    def give(self, kind: Kind, **resources) -> None:
        """The control plane gives resources of a kind."""
        self.count += 1
        received = []
        for name, resource in resources.items():
            self.resources[f"{kind.name}{name}|{self.count}"] = resource
            received.append(Received(name, f"{name}|{self.count}".encode(), kind.value))
        self.session.received(Link(0, 0), Response(kind.value, "1", f"n{self.count}", tuple(received)), 0.0)
        self.take()

    def tell(self, *addresses: str, key=KEY, problem="", origin="registry") -> None:
        """A registry tells."""
        self.session.told(Told(key, endpoints(*addresses) if addresses else None, problem, origin))
        self.take()

    def ordered(self) -> list:
        """What was to be followed and not any more since the last call."""
        orders, self.orders = self.orders, []
        return orders

    @property
    def addresses(self) -> dict[str, set[str]]:
        """The addresses in force by cluster."""
        return {
            name: {
                one.address for leaf in cluster.leaves for place in leaf.endpoints.localities for one in place.endpoints
            }
            for name, cluster in self.result.clusters.items()
        }


@pytest.fixture
def desk() -> Desk:
    """A session whose target's one cluster comes from the registry, and has its endpoints."""
    made = Desk()
    made.watch()
    made.give(Kind.LISTENER, orders=routed("orders"))
    made.give(Kind.CLUSTER, orders=Cluster("orders", ORDERS))
    assert made.result is None
    made.tell("a:1")
    assert made.addresses == {"orders": {"a:1"}}
    return made


def test_a_cluster_is_followed_and_published_when_told(desk):
    """The source becomes an order to the registry; each thing told is published; nothing is asked of EDS."""
    assert desk.ordered() == [Follow(KEY, ORDERS)]
    desk.tell("a:1", "b:1")
    assert desk.addresses == {"orders": {"a:1", "b:1"}}
    entry = desk.session.store.get(KEY)
    assert (entry.status, entry.server, entry.problem) == (EntryStatus.PRESENT, "registry", "")


def test_instances_are_not_saved_as_resources_are(desk):
    """The disk copy of the control plane's resources is not for what registries tell: discovery keeps its own."""
    desk.session.told(Told(KEY, endpoints("c:1")))
    assert desk.take().touched == frozenset()


def test_what_nobody_wants_is_not_followed(desk):
    """The last watch takes the source along; what it still tells finds nobody."""
    desk.ordered()
    desk.session.cancel(1)
    desk.take()
    assert desk.ordered() == [Unfollow(KEY)]
    desk.tell("z:1")
    assert desk.session.store.get(KEY) is None


def test_from_eds_to_the_registry_and_back():
    """The old endpoints stay in force, and subscribed, until the new ones are there: make before break."""
    desk = Desk()
    desk.watch()
    desk.give(Kind.LISTENER, orders=routed("orders"))
    desk.give(Kind.CLUSTER, orders=Cluster("orders", EdsSource("orders")))
    desk.give(Kind.ENDPOINTS, orders=endpoints("old:1"))
    assert desk.addresses == {"orders": {"old:1"}}
    desk.give(Kind.CLUSTER, orders=Cluster("orders", ORDERS))
    assert desk.ordered() == [Follow(KEY, ORDERS)]
    assert desk.addresses == {"orders": {"old:1"}}
    desk.tell("new:1")
    assert desk.addresses == {"orders": {"new:1"}}
    desk.give(Kind.CLUSTER, orders=Cluster("orders", EdsSource("orders")))
    assert desk.addresses == {"orders": {"new:1"}}
    assert desk.ordered() == []
    desk.give(Kind.ENDPOINTS, orders=endpoints("old:2"))
    assert desk.addresses == {"orders": {"old:2"}}
    assert desk.ordered() == [Unfollow(KEY)]


def test_the_registry_wins_over_eds():
    """An EDS resource of the same name says something else: for a cluster of the registry it does not count."""
    desk = Desk()
    desk.watch()
    desk.give(Kind.LISTENER, orders=routed("orders", "eds"))
    desk.give(Kind.CLUSTER, orders=Cluster("orders", ORDERS), eds=Cluster("eds", EdsSource("orders")))
    desk.give(Kind.ENDPOINTS, orders=endpoints("eds:1"))
    desk.tell("registry:1")
    assert desk.addresses == {"orders": {"registry:1"}, "eds": {"eds:1"}}


def test_a_migration_mode_that_changes(desk):
    """The control plane changes the mode alone: the same source is told so, and nothing is subscribed anew."""
    desk.ordered()
    first = RegistrySource("default", interface="shop.Orders", migration=Migration.FORCE_INTERFACE)
    desk.give(Kind.CLUSTER, orders=Cluster("orders", first))
    desk.tell("b:1", key=instances_key(first))
    desk.ordered()
    second = replace(first, migration=Migration.FORCE_APPLICATION)
    desk.give(Kind.CLUSTER, orders=Cluster("orders", second))
    assert desk.ordered() == [Follow(instances_key(first), second)]
    assert desk.addresses == {"orders": {"b:1"}}


def test_leaves_of_an_aggregate():
    """A registry cluster may be a priority of an aggregate, beside one of EDS."""
    desk = Desk()
    desk.watch()
    desk.give(Kind.LISTENER, orders=routed("all"))
    desk.give(Kind.CLUSTER, all=Cluster("all", AggregateSource(("direct", "eds"))))
    desk.give(
        Kind.CLUSTER,
        all=Cluster("all", AggregateSource(("direct", "eds"))),
        direct=Cluster("direct", ORDERS),
        eds=Cluster("eds", EdsSource("eds")),
    )
    desk.give(Kind.ENDPOINTS, eds=endpoints("eds:1"))
    desk.tell("direct:1")
    assert desk.addresses == {"all": {"direct:1", "eds:1"}}


def test_the_registry_is_down_at_the_start():
    """The cluster is broken in the registry's words; other clusters and later changes of the target are published."""
    desk = Desk()
    desk.watch()
    desk.give(Kind.LISTENER, orders=routed("orders"))
    desk.give(Kind.CLUSTER, orders=Cluster("orders", ORDERS))
    desk.tell(problem="registry 'default': refused")
    assert desk.result.clusters["orders"].leaves[0].problem == (
        "instances 'mesh://default/?app=orders': registry 'default': refused"
    )
    desk.give(Kind.LISTENER, orders=routed("orders", "eds"))
    desk.give(Kind.CLUSTER, orders=Cluster("orders", ORDERS), eds=Cluster("eds", EdsSource("eds")))
    desk.give(Kind.ENDPOINTS, eds=endpoints("eds:1"))
    assert set(desk.result.clusters) == {"orders", "eds"}
    desk.tell("a:1")
    assert desk.addresses == {"orders": {"a:1"}, "eds": {"eds:1"}}


def test_the_registry_goes_down(desk):
    """What it told last stays in force."""
    desk.tell(problem="registry 'default': refused")
    assert desk.addresses == {"orders": {"a:1"}}
    entry = desk.session.store.get(KEY)
    assert (entry.status, entry.problem) == (EntryStatus.UNREACHABLE, "registry 'default': refused")


def test_a_move_to_a_registry_that_is_down(desk):
    """A half-arrived change does not replace what works: the old source serves until the new one answers."""
    other = RegistrySource("default", app="other")
    desk.give(Kind.CLUSTER, orders=Cluster("orders", other))
    desk.tell(key=instances_key(other), problem="refused")
    assert desk.addresses == {"orders": {"a:1"}}
    desk.tell("a:2")
    assert desk.addresses == {"orders": {"a:1"}}  # what changes there is part of a configuration that is on its way out
    desk.tell("b:1", key=instances_key(other))
    assert desk.addresses == {"orders": {"b:1"}}


def test_the_control_plane_goes_down_and_the_registry_goes_on(desk):
    """The routes stay, and the registry's changes are followed; both down, both stay."""
    desk.session.closed(Link(0, 0), "UNAVAILABLE", "down", 1.0)
    desk.take(1.0)
    desk.tell("b:1")
    assert desk.addresses == {"orders": {"b:1"}}
    desk.tell(problem="refused")
    assert desk.addresses == {"orders": {"b:1"}}
    desk.tell("c:1")
    assert desk.addresses == {"orders": {"c:1"}}


def test_what_is_known_from_before():
    """Instances from the disk copy are in force, and the ledger says that they are old."""
    desk = Desk()
    desk.watch()
    desk.give(Kind.LISTENER, orders=routed("orders"))
    desk.give(Kind.CLUSTER, orders=Cluster("orders", ORDERS))
    desk.tell("a:1", problem="those known before", origin="cache")
    assert desk.addresses == {"orders": {"a:1"}}
    entry = desk.session.store.get(KEY)
    assert (entry.status, entry.server) == (EntryStatus.UNREACHABLE, "cache")


def test_a_target_without_a_control_plane():
    """`mesh:///orders` opens no stream; progress names the registry; every change is published."""
    desk = Desk(servers=[])
    desk.watch("mesh:///orders")
    source = RegistrySource("default", interface="orders")
    assert desk.ordered() == [Follow(instances_key(source), source)]
    assert desk.take().effects == []
    assert desk.session.deadline() is None
    words = "waiting for instances 'mesh://default/orders' from registry 'default' (etcd://h:1)"
    assert desk.session.progress("mesh:///orders") == words
    desk.tell(key=instances_key(source), problem="refused")
    assert desk.result == Unresolvable("mesh:///orders", "instances 'mesh://default/orders': refused")
    desk.tell("a:1", key=instances_key(source))
    assert isinstance(desk.result, Snapshot)
    desk.session.cancel(1)
    desk.take()
    assert desk.ordered() == [Unfollow(instances_key(source))]


def test_targets_of_both_kinds_side_by_side(desk):
    """A `mesh:` target beside an `xds:` one in the same process: each has its own source."""
    desk.session.watch(2, read_target("mesh:///orders", desk.bootstrap))
    desk.take()
    source = RegistrySource("default", interface="orders")
    assert desk.ordered()[-1] == Follow(instances_key(source), source)
    desk.tell("m:1", key=instances_key(source))
    assert {one.address for place in _only(desk.result).endpoints.localities for one in place.endpoints} == {"m:1"}


def _only(result: Snapshot):
    (cluster,) = result.clusters.values()
    return cluster.leaves[0]
