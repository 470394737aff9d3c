"""Ejection in a balancer: from a streak of failures to a picker without the endpoint, and back. Time is an argument."""

from __future__ import annotations

from dataclasses import replace

from meshsdk.channel.balancer import ClusterBalancer
from meshsdk.lb.backend import Connectivity
from meshsdk.model.policy import LbConfig, OutlierDetection, WeightedRoundRobin
from meshsdk.model.snapshot import Leaf, ResolvedCluster
from tests.unit.channel.fakes import World, cluster

POLICY = OutlierDetection(consecutive_5xx=2, base_ejection_time=30.0, max_ejection_percent=50)
FOUR = ("a:1", "b:1", "c:1", "d:1")


def judged(
    *addresses: str, policy: OutlierDetection | None = POLICY, lb: LbConfig | None = None, name: str = "c"
) -> ResolvedCluster:
    """A cluster with an outlier policy."""
    found = cluster(*addresses, name=name, lb=lb)
    own = replace(found.cluster, outlier=policy)
    return ResolvedCluster(own, (replace(found.leaves[0], cluster=own),))


def connected(world: World, found: ResolvedCluster, urged: list[None] | None = None) -> ClusterBalancer:
    """A balancer all of whose endpoints are connected."""
    urge = (lambda: None) if urged is None else (lambda: urged.append(None))
    balancer = ClusterBalancer(found, "orders", world.around(), urge, eager=True)
    world.set(Connectivity.READY)
    balancer.refresh()
    return balancer


def picks(balancer: ClusterBalancer) -> set[str]:
    """The addresses that are picked."""
    return {balancer.picker.pick(None).endpoint.address for _ in range(40)}


def fail(balancer: ClusterBalancer, address: str, times: int = 2) -> None:
    """Attempts on an endpoint fail."""
    for backend in balancer.backends:
        if backend.endpoint.address == address:
            assert backend.watch is not None
            for _ in range(times):
                backend.watch.failed("INTERNAL", local_origin=False)


def test_a_streak_urges_a_look_that_ejects() -> None:
    """The call only says that a look is due; the look takes the endpoint out, and 30 s later lets it back."""
    world, urged = World(), []
    balancer = connected(world, judged(*FOUR), urged)
    fail(balancer, "a:1", times=1)
    assert not urged
    fail(balancer, "a:1", times=1)
    assert urged == [None]
    assert picks(balancer) == set(FOUR)
    assert balancer.refresh()
    assert picks(balancer) == {"b:1", "c:1", "d:1"}
    world.now += 29
    assert not balancer.refresh()
    world.now += 1
    assert balancer.refresh()
    assert picks(balancer) == set(FOUR)


def test_an_update_keeps_who_is_out() -> None:
    """Endpoints that come and go change nothing for one that is ejected; one that left is new when it comes again."""
    world = World()
    balancer = connected(world, judged(*FOUR))
    fail(balancer, "a:1")
    balancer.refresh()
    balancer.update(judged("a:1", "b:1", "c:1", "e:1"))
    world.set(Connectivity.READY)
    balancer.refresh()
    assert picks(balancer) == {"b:1", "c:1", "e:1"}
    balancer.update(judged("b:1", "c:1", "e:1"))
    balancer.update(judged(*FOUR))
    world.set(Connectivity.READY)
    balancer.refresh()
    assert picks(balancer) == set(FOUR)


def test_a_policy_that_comes_and_goes() -> None:
    """Attempts are watched while there is a policy; without one everybody is back."""
    world = World()
    balancer = connected(world, judged(*FOUR, policy=None))
    assert all(backend.watch is None for backend in balancer.backends)
    balancer.update(judged(*FOUR))
    fail(balancer, "b:1")
    balancer.refresh()
    assert picks(balancer) == {"a:1", "c:1", "d:1"}
    balancer.update(judged(*FOUR, policy=None))
    assert picks(balancer) == set(FOUR)
    assert all(backend.watch is None for backend in balancer.backends)


def test_each_leaf_of_an_aggregate_has_its_own_detector() -> None:
    """Half of each leaf may be out, by each leaf's own policy; a leaf without one ejects nobody."""
    world = World()
    leaves: tuple[Leaf, ...] = (
        *judged("a:1", "b:1", name="one").leaves,
        *judged("c:1", "d:1", name="two").leaves,
        *judged("e:1", policy=None, name="three").leaves,
    )
    balancer = connected(world, ResolvedCluster(judged(name="whole").cluster, leaves))
    for address in ("a:1", "b:1"):
        fail(balancer, address)
    balancer.refresh()
    world.set(Connectivity.READY)
    balancer.refresh()
    for address in ("c:1", "d:1"):
        fail(balancer, address)
    balancer.refresh()
    assert set(balancer.outliers.ejections) <= {"a:1", "b:1", "c:1", "d:1"}
    assert len(balancer.outliers.ejections) == 2
    detectors = balancer.outliers.detectors
    assert [(sum(one.totals.values()), one.overflows) for one in detectors] == [(1, 1), (1, 1)]


def test_what_an_endpoint_told_ends_with_its_connection() -> None:
    """A58: reconnected, it has no weight until it tells one."""
    world = World()
    balancer = connected(world, judged(*FOUR, policy=None, lb=LbConfig(policy=WeightedRoundRobin())))
    first = balancer.backends[0]
    assert first.watch is not None
    first.watch.reported([("endpoint-load-metrics", "BIN not base64!")])
    assert first.load is None
    first.watch.reported([("endpoint-load-metrics", "BIN MQAAAAAAAFRASQAAAAAAANA/")])
    assert first.load is not None
    assert first.load.weight == 320
    world.set(Connectivity.CONNECTING, first.endpoint.address)
    balancer.refresh()
    world.set(Connectivity.READY)
    balancer.refresh()
    assert first.load is None


def test_weights_are_computed_anew_each_period() -> None:
    """Without any other change the picker is built again when its weights have expired."""
    world = World()
    balancer = connected(world, judged(*FOUR, policy=None, lb=LbConfig(policy=WeightedRoundRobin(update_period=5.0))))
    before = balancer.picker
    world.now += 4.9
    assert not balancer.refresh()
    world.now += 0.1
    assert balancer.refresh()
    assert balancer.picker is not before


def test_endpoints_are_asked_once_a_period() -> None:
    """Out of band: all connected ones but those that tell nothing; if it is not to be now, at the next look."""
    world = World()
    asked: list[set[str]] = []
    busy = [True]

    def ask(batch, period: float) -> bool:
        assert period == 10.0
        if not busy[0]:
            asked.append({one.connection.address for one in batch})
        return not busy[0]

    policy = WeightedRoundRobin(out_of_band=True, oob_period=10.0, update_period=1000.0)
    around = replace(world.around(), ask=ask)
    balancer = ClusterBalancer(judged("a:1", "b:1", policy=None, lb=LbConfig(policy=policy)), "o", around, eager=True)
    world.set(Connectivity.READY)
    balancer.refresh()
    assert asked == []
    busy[0] = False
    balancer.refresh()
    assert asked == [{"a:1", "b:1"}]
    balancer.backends[0].watch.tells_nothing()  # type: ignore[union-attr]
    world.now += 9.9
    balancer.refresh()
    assert len(asked) == 1
    world.now += 0.1
    balancer.refresh()
    assert asked[1] == {balancer.backends[1].endpoint.address}
