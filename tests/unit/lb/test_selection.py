"""Which endpoints of a cluster a client uses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshsdk.lb.selection import Selection, select
from meshsdk.model.endpoints import Endpoint, EndpointMap, Health
from meshsdk.model.policy import LbConfig, Maglev, RingHash, RoundRobin
from meshsdk.model.resources import AggregateSource, Cluster, ClusterEndpoints, EdsSource, Locality, LocalityEndpoints
from meshsdk.model.snapshot import Leaf, ResolvedCluster
from tests.unit.lb.fleet import NOWHERE, address, cluster, endpoints, locality, mixed, selected


def test_leaves_and_their_priorities_make_the_order_of_groups() -> None:
    """An aggregate's leaves follow each other, each with its own priorities and overprovisioning."""
    own = Cluster("all", AggregateSource(("a", "b", "c")), LbConfig(subset_size=7))
    leaves = (
        Leaf(
            Cluster("a", EdsSource("a"), LbConfig(subset_size=1)),
            ClusterEndpoints("a", (locality(endpoints(9)), locality(endpoints(2, 1), priority=3)), (), 1.0),
        ),
        Leaf(Cluster("b", EdsSource("b")), None, "endpoints b do not exist"),
        Leaf(Cluster("c", EdsSource("c")), ClusterEndpoints("c", (locality(endpoints(1, 2)),))),
    )
    chosen = select(ResolvedCluster(own, leaves), NOWHERE, 1, None)
    assert [(group.cluster, group.priority, group.overprovisioning) for group in chosen.groups] == [
        ("a", 0, 1.0),
        ("a", 3, 1.0),
        ("c", 0, 1.4),
    ]
    assert chosen.problems == ("endpoints b do not exist",)
    assert len(chosen.addresses) == 7 + 2 + 1  # the aggregate's own subset size rules


def test_a_large_set_is_narrowed_and_a_small_one_is_not() -> None:
    """100 endpoints are all used; of 101 and of 5,000, a hundred are."""
    sizes = [len(selected(locality(endpoints(count))).endpoints) for count in (100, 101, 5000)]
    assert sizes == [100, 100, 100]


def test_the_limit_holds_for_all_localities_of_a_priority_together() -> None:
    """Localities share the places by their size, and none is left without."""
    chosen = selected(
        locality(endpoints(300)), locality(endpoints(99, 1), zone="b"), locality(endpoints(1, 2), zone="c")
    )
    sizes = [len(members.endpoints) for members in chosen.groups[0].localities]
    assert sum(sizes) == 100
    assert sizes == [75, 24, 1]


@pytest.mark.parametrize("policy", [RingHash(), Maglev()])
def test_hash_policies_are_subset_late(policy: RingHash | Maglev) -> None:
    """Up to 1,024 endpoints all clients see the same set, so that they agree on where a key goes."""
    chosen = selected(locality(endpoints(1500)), lb=LbConfig(policy=policy, subset_size=10))
    assert len(chosen.endpoints) == 1024


def test_draining_endpoints_are_left_and_unhealthy_ones_kept_for_panic() -> None:
    """Connections to draining endpoints may end with their calls; the others stay at hand."""
    chosen = selected(locality(mixed(healthy=2, degraded=1, unhealthy=1, draining=3)))
    assert sorted(endpoint.health.value for endpoint in chosen.endpoints.values()) == [
        "degraded",
        "healthy",
        "healthy",
        "unhealthy",
    ]


def test_where_all_are_draining_they_are_used() -> None:
    """In whatever localities and priorities; with one that stays, however unhealthy, they are left as ever."""
    leaving = [locality(mixed(draining=3)), locality(mixed(1, draining=2), priority=1)]
    chosen = selected(*leaving)
    assert {endpoint.health.value for endpoint in chosen.endpoints.values()} == {"healthy"}
    assert len(chosen.endpoints) == 5
    assert [group.localities[0].tally.staying for group in chosen.groups] == [3, 2]
    one_stays = selected(*leaving, locality(mixed(2, unhealthy=1), priority=2))
    assert [endpoint.health.value for endpoint in one_stays.endpoints.values()] == ["unhealthy"]


def test_draining_endpoints_are_left_as_soon_as_another_comes() -> None:
    """The selection follows: one comes online, those that drained are out; it drains too, all are in."""
    first, second = endpoints(2)
    away = replace(first, health=Health.DRAINING)
    alone = select(cluster(locality([away])), NOWHERE, 1, None)
    joined = select(cluster(locality([away, second])), NOWHERE, 1, alone)
    again = select(cluster(locality([away, replace(second, health=Health.DRAINING)])), NOWHERE, 1, joined)
    assert [alone.addresses, joined.addresses, again.addresses] == [
        {first.address},
        {second.address},
        {first.address, second.address},
    ]


def test_an_update_costs_the_change(monkeypatch) -> None:
    """One of 5,000 endpoints leaves the subset: one other comes in, and the set is not ranked anew."""
    source = EndpointMap.of(endpoints(5000))

    def resolved(members: EndpointMap) -> ResolvedCluster:
        return cluster(LocalityEndpoints(Locality(), 0, 1, members))

    first = select(resolved(source), NOWHERE, 1, None)
    victim = next(iter(first.addresses))
    monkeypatch.setattr("meshsdk.lb.selection.ranked", lambda *_: (_ for _ in ()).throw(AssertionError))
    monkeypatch.setattr("meshsdk.lb.subsetting.ranked", lambda *_: (_ for _ in ()).throw(AssertionError))
    second = select(resolved(source.updated(removed=[victim])), NOWHERE, 1, first)
    assert first.addresses - second.addresses == {victim}
    assert len(second.addresses) == 100
    monkeypatch.undo()
    assert second.groups == select(resolved(source.updated(removed=[victim])), NOWHERE, 1, None).groups


def test_what_did_not_change_is_the_same_object() -> None:
    """An update outside the subset leaves groups and endpoints as they are, by identity; one inside does not."""
    source = EndpointMap.of(endpoints(500))

    def chosen(members: EndpointMap, previous: Selection | None) -> Selection:
        return select(cluster(LocalityEndpoints(Locality(), 0, 1, members)), NOWHERE, 1, previous)

    first = chosen(source, None)
    outside = next(endpoint.address for endpoint in source if endpoint.address not in first.addresses)
    inside = next(iter(first.addresses))
    second = chosen(source.updated([Endpoint(outside, weight=9)]), first)
    assert second.groups is first.groups
    assert second.endpoints is first.endpoints
    third = chosen(source.updated([Endpoint(inside, weight=9)]), second)
    assert third.endpoints[inside].weight == 9
    assert third.groups is not first.groups


def test_a_new_policy_seed_or_limit_is_not_mixed_with_the_old() -> None:
    """The previous selection helps only where it was made the same way; the result never depends on it."""
    members = locality(endpoints(300))
    first = selected(members)
    for lb, seed in (
        (LbConfig(subset_size=30), 1),
        (LbConfig(), 2),
        (LbConfig(policy=RoundRobin(), subset_size=250), 1),
    ):
        again = select(cluster(members, lb=lb), NOWHERE, seed, first)
        assert again.endpoints == select(cluster(members, lb=lb), NOWHERE, seed, None).endpoints


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        (Locality("r", "a", "x"), [True, False]),
        (Locality("q", "a"), [False, False]),
        (Locality("r", ""), [False, False]),
    ],
)
def test_a_locality_is_local_by_region_and_zone(local: Locality, expected: list[bool]) -> None:
    """Sub-zones do not matter; a client without a zone has no local locality."""
    chosen = select(cluster(locality([Endpoint(address(1))], zone="a"), locality([], zone="b")), local, 1, None)
    assert [members.local for members in chosen.groups[0].localities] == expected
