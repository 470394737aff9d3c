"""Where the calls to each endpoint are counted, as configurations come and go."""

from __future__ import annotations

from dataclasses import replace

from meshsdk.channel.balancer import ClusterBalancer
from meshsdk.lb.backend import Connectivity
from meshsdk.model.endpoints import Endpoint, EndpointMap
from meshsdk.model.policy import LbConfig
from meshsdk.model.resources import Cluster, ClusterEndpoints, EdsSource, Locality, LocalityEndpoints
from meshsdk.model.snapshot import Leaf, ResolvedCluster
from tests.unit.channel.fakes import World

NEAR, FAR = Locality("r", "near"), Locality("r", "far")


def cluster(places: dict[Locality, list[str]], server: str = "plane:1", eds: str = "orders") -> ResolvedCluster:
    """A cluster with endpoints in localities."""
    localities = tuple(
        LocalityEndpoints(where, 0, 1, EndpointMap.of(map(Endpoint, addresses))) for where, addresses in places.items()
    )
    made = Cluster("orders", EdsSource(eds), LbConfig(), reports=bool(server))
    return ResolvedCluster(made, (Leaf(made, ClusterEndpoints(eds, localities), report_to=server),))


class Counting:
    """A balancer whose connections are all up, and the counts of its world."""

    def __init__(self, first: ResolvedCluster) -> None:
        self.world = World()
        self.around = self.world.around()
        self.balancer = ClusterBalancer(first, "orders", self.around, eager=True)
        self.settle()

    def settle(self) -> None:
        """Brings all connections up."""
        self.world.set(Connectivity.READY)
        self.balancer.refresh()

    def call(self, address: str) -> None:
        """Counts a call to an endpoint."""
        self.balancer._backends[address].tally.succeed()

    def told(self, server: str = "plane:1") -> dict[tuple[str, str, str], int]:
        """What a report tells, by cluster, name in EDS and zone."""
        loads = self.around.loads.take(server, None)
        return {(one.place.cluster, one.place.service, one.place.locality.zone): one.succeeded for one in loads}


def test_by_locality():
    """Endpoints of a locality share a tally; the name in EDS is told where it is another than the cluster's."""
    counting = Counting(cluster({NEAR: ["a:1", "b:1"], FAR: ["c:1"]}, eds="orders-eds"))
    for address in ("a:1", "b:1", "c:1"):
        counting.call(address)
    assert counting.told() == {("orders", "orders-eds", "near"): 2, ("orders", "orders-eds", "far"): 1}


def test_endpoint_that_moves():
    """An endpoint that turns up in another locality counts there from then on; what it counted before is told."""
    counting = Counting(cluster({NEAR: ["a:1"], FAR: ["c:1"]}))
    counting.call("a:1")
    counting.balancer.update(cluster({FAR: ["a:1", "c:1"]}))
    counting.settle()
    counting.call("a:1")
    assert counting.told() == {("orders", "", "near"): 1, ("orders", "", "far"): 1}
    for _ in range(3):
        assert counting.told() == {}
    assert [place.locality for place in counting.around.loads._tallies] == [FAR]


def test_server_that_begins_to_ask():
    """The same endpoints under a server that asks, after one that did not, or the disk: counts begin at that."""
    first = cluster({NEAR: ["a:1"]}, server="")
    counting = Counting(first)
    counting.call("a:1")
    assert not counting.around.loads.wanted("plane:1")
    (leaf,) = first.leaves
    counting.balancer.update(replace(first, leaves=(replace(leaf, report_to="plane:1"),)))
    counting.call("a:1")
    assert counting.told() == {("orders", "", "near"): 1}


def test_balancer_that_is_closed():
    """Counts of a cluster that is gone are told, and then forgotten."""
    counting = Counting(cluster({NEAR: ["a:1"]}))
    counting.call("a:1")
    counting.balancer.close()
    assert counting.told() == {("orders", "", "near"): 1}
    for _ in range(3):
        assert counting.told() == {}
    assert not counting.around.loads.wanted("plane:1")
