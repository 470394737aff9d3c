"""The picker as a whole: what is connected, what fails over, what waits, what fails."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.lb.backend import Backend, Connectivity
from meshsdk.lb.picker import Failing, Picker, Waiting, build
from meshsdk.lb.selection import Selection, select
from meshsdk.model.endpoints import Endpoint, Health
from meshsdk.model.policy import (
    EndpointPolicy,
    LbConfig,
    LeastRequest,
    Maglev,
    PickFirst,
    RandomChoice,
    RingHash,
    RoundRobin,
)
from meshsdk.model.resources import Cluster, ClusterEndpoints, Drop, EdsSource
from meshsdk.model.snapshot import Leaf, ResolvedCluster
from tests.unit.lb.fleet import (
    NOWHERE,
    address,
    backends,
    by_net,
    cluster,
    draws,
    endpoints,
    locality,
    mixed,
    picker,
    selected,
    tallied,
)

IDLE, CONNECTING, READY, FAILED = Connectivity
POLICIES: list[EndpointPolicy] = [
    RoundRobin(),
    RandomChoice(),
    LeastRequest(),
    LeastRequest(3),
    PickFirst(),
    PickFirst(shuffle=True),
    RingHash(min_size=64, max_size=64),
    Maglev(table_size=101),
]
every_policy = pytest.mark.parametrize("policy", POLICIES, ids=repr)


def outcome(chosen: Selection, made: dict[str, Backend]) -> Picker | Waiting | Failing:
    """What `build` gives."""
    return build(chosen, made, 0.0, draws().random)


an_endpoint = st.tuples(st.sampled_from(Health), st.sampled_from(Connectivity), st.integers(1, 5))
a_locality = st.lists(an_endpoint, max_size=5)


@given(
    st.lists(st.lists(a_locality, max_size=2), max_size=3),
    st.sampled_from(POLICIES),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 0.5]),
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(Connectivity)), max_size=6),
)
def test_only_ready_backends_are_picked_as_long_as_any_is(
    priorities: list[list[list[tuple[Health, Connectivity, int]]]],
    policy: EndpointPolicy,
    weighted: bool,
    by_zone: bool,
    panic: float,
    later: list[tuple[int, Connectivity]],
) -> None:
    """In any cluster in any state, a READY usable endpoint means a picker, and that gives usable READY endpoints only.

    That holds even after states have changed under it, as long as one of its backends is READY.
    """
    localities, states = [], {}
    for priority, zones in enumerate(priorities):
        for zone, members in enumerate(zones):
            net = 10 * priority + zone
            made_here = [Endpoint(address(at, net), weight, health) for at, (health, _, weight) in enumerate(members)]
            localities.append(locality(made_here, priority, 1 + zone, f"z{zone}"))
            states.update({address(at, net): state for at, (_, state, _) in enumerate(members)})
    lb = LbConfig(policy, locality_weighted=weighted, zone_preference=by_zone, panic_threshold=panic)
    chosen = selected(*localities, lb=lb, zone="z0")
    made = backends(chosen)
    for one, backend in made.items():
        backend.state = states[one]
    built = outcome(chosen, made)
    usable = {Health.HEALTHY, Health.DEGRADED}
    connected = [b for b in made.values() if b.state is READY and b.endpoint.health in usable]
    if connected:
        assert isinstance(built, Picker)
    if not isinstance(built, Picker):
        return
    allowed = {Health.HEALTHY, Health.DEGRADED} if panic == 0 else {*Health} - {Health.DRAINING}
    for key in [None, *range(0, 2**64, 2**60)]:
        backend = built.pick(key)
        assert backend.state is READY
        assert backend.endpoint.health in allowed
    reachable = {built.pick(key).endpoint.address for key in [None] * 50}
    for at, state in later:
        if at < len(made):
            list(made.values())[at].state = state
    if any(made[one].state is READY for one in reachable):
        assert all(built.pick(key).state is READY for key in [None, *range(0, 2**64, 2**60)])


@every_policy
def test_calls_fail_over_when_a_priority_cannot_be_reached(policy: EndpointPolicy) -> None:
    """All of priority 0 failed to connect: priority 1 takes every call, and gives them back."""
    chosen = selected(locality(endpoints(3)), locality(endpoints(3, 1), priority=1), lb=LbConfig(policy))
    made = backends(chosen, net0=FAILED)
    assert by_net(tallied(picker(chosen, made), 50)) == {"1": 1}
    for one in made.values():
        one.state = READY
    assert by_net(tallied(picker(chosen, made), 50)) == {"0": 1}


@every_policy
@pytest.mark.parametrize("state", [IDLE, CONNECTING])
def test_no_call_waits_while_a_lower_priority_is_connected(policy: EndpointPolicy, state: Connectivity) -> None:
    """Priority 0 is being connected: the connected priority 1 takes the calls meanwhile."""
    chosen = selected(locality(endpoints(3)), locality(endpoints(3, 1), priority=1), lb=LbConfig(policy))
    assert by_net(tallied(picker(chosen, backends(chosen, net0=state)), 50)) == {"1": 1}


def test_load_is_shared_with_the_next_priority_when_too_few_are_usable() -> None:
    """Half of priority 0 fails to connect: with the default overprovisioning it keeps 70 % of the calls."""
    chosen = selected(locality(endpoints(10)), locality(endpoints(10, 1), priority=1))
    made = backends(chosen)
    for number in range(5):
        made[address(number)].state = FAILED
    got = by_net(tallied(picker(chosen, made), 5000))
    assert got["0"] == pytest.approx(0.7, abs=0.04)


def test_what_a_subset_shows_is_taken_for_the_whole_set() -> None:
    """Of 1,000 endpoints 750 are unhealthy: a subset of healthy ones does not hide that 35 % is all they can carry."""
    chosen = selected(
        locality(mixed(0, healthy=250, unhealthy=750)),
        locality(endpoints(9, 1), priority=1),
        lb=LbConfig(subset_size=10),
    )
    got = by_net(tallied(picker(chosen, backends(chosen)), 5000))
    assert got["0"] == pytest.approx(0.35, abs=0.04)


@pytest.mark.parametrize("policy", [RingHash(min_size=64), Maglev(table_size=101)])
def test_a_key_keeps_its_priority_and_its_endpoint(policy: RingHash | Maglev) -> None:
    """With load split over priorities, each key goes to one endpoint, and all endpoints of both get keys."""
    chosen = selected(
        locality(mixed(0, healthy=5, unhealthy=5)), locality(endpoints(5, 1), priority=1), lb=LbConfig(policy)
    )
    built = picker(chosen, backends(chosen))
    keys = [number * 0x9E3779B97F4A7C15 % 2**64 for number in range(3000)]
    first = [built.pick(key) for key in keys]
    assert [built.pick(key) for key in keys] == first
    counts = Counter(backend.endpoint.address for backend in first)
    assert by_net(counts)["0"] == pytest.approx(0.7, abs=0.04)
    assert len(counts) == 10


def test_degraded_endpoints_stand_in_only_for_the_last_healthy_one() -> None:
    """They get nothing while any priority has a usable healthy endpoint, and everything after."""
    chosen = selected(locality(mixed(0, healthy=1, degraded=5)), locality(mixed(1, degraded=1, healthy=2), priority=1))
    made = backends(chosen)
    healthy = {one for one, endpoint in chosen.endpoints.items() if endpoint.health is Health.HEALTHY}
    assert set(tallied(picker(chosen, made), 500)) == healthy
    for one in healthy:
        made[one].state = FAILED
    assert set(tallied(picker(chosen, made), 500)) <= set(made) - healthy


def test_a_connected_degraded_endpoint_is_better_than_waiting() -> None:
    """Healthy ones are still connecting, a degraded one is connected: it takes the calls."""
    chosen = selected(locality(mixed(0, healthy=2)), locality(mixed(1, degraded=1), priority=1))
    assert by_net(tallied(picker(chosen, backends(chosen, net0=CONNECTING)), 10)) == {"1": 1}


def test_panic_uses_unhealthy_endpoints_and_no_draining_ones() -> None:
    """With 1 of 4 healthy, calls go to all but the draining ones; with panic off, to the healthy one only."""
    members = locality(mixed(healthy=1, unhealthy=3, draining=2))
    chosen = selected(members)
    assert len(tallied(picker(chosen, backends(chosen)), 100)) == 4
    calm = selected(members, lb=LbConfig(panic_threshold=0))
    assert set(tallied(picker(calm, backends(calm)), 100)) == {address(0)}


def test_draining_endpoints_do_not_lower_availability() -> None:
    """A rolling restart that drains half of a priority moves no call to the next one."""
    chosen = selected(locality(mixed(0, healthy=3, draining=3)), locality(endpoints(3, 1), priority=1))
    assert by_net(tallied(picker(chosen, backends(chosen)), 500)) == {"0": 1}


@pytest.mark.parametrize(
    ("states", "kind", "words"),
    [
        ([IDLE, CONNECTING], Waiting, "cluster 'orders': connecting to 2 endpoints"),
        ([CONNECTING, FAILED], Waiting, "cluster 'orders': connecting to 1 endpoint; 1 failed to connect"),
        ([FAILED, FAILED], Failing, "cluster 'orders': 2 of 2 endpoints failed to connect"),
        ([FAILED], Failing, "cluster 'orders': its only endpoint failed to connect"),
    ],
)
def test_without_a_connection_calls_wait_or_fail(states: list[Connectivity], kind: type, words: str) -> None:
    """While an attempt is due calls wait; when all have failed they fail, and the reason counts."""
    chosen = selected(locality(endpoints(len(states))))
    made = backends(chosen)
    for number, state in enumerate(states):
        made[address(number)].state = state
    assert outcome(chosen, made) == kind(words)


def test_backends_that_are_not_made_yet_are_due() -> None:
    """Before any connection object exists, calls wait."""
    assert outcome(selected(locality(endpoints(3))), {}) == Waiting("cluster 'orders': connecting to 3 endpoints")


def test_an_empty_or_unusable_cluster_fails_with_its_reason() -> None:
    """No endpoints, none that may be used, and leaves with problems are told apart."""
    assert outcome(selected(), {}) == Failing("cluster 'orders' has no endpoints")
    spent = selected(locality(mixed(unhealthy=2, draining=1)), lb=LbConfig(panic_threshold=0))
    assert outcome(spent, backends(spent)) == Failing(
        "cluster 'orders' has no usable endpoint: 2 unhealthy, 1 draining"
    )
    own = Cluster("orders", EdsSource("orders"))
    broken = select(ResolvedCluster(own, (Leaf(own, None, "EDS orders does not exist"),)), NOWHERE, 1, None)
    assert outcome(broken, {}) == Failing("cluster 'orders' has no endpoints; EDS orders does not exist")


def test_drops_happen_at_their_rates_one_after_another() -> None:
    """10 % and then half of the rest are dropped under their categories; the others pass."""
    chosen = select(
        cluster(locality(endpoints(1)), drops=[Drop("lb", 100_000), Drop("none", 0), Drop("throttle", 500_000)]),
        NOWHERE,
        1,
        None,
    )
    built = picker(chosen, backends(chosen))
    assert built.has_drops
    draw = draws().random
    counts = Counter(built.dropped(draw) for _ in range(20_000))
    assert {category: count / 20_000 for category, count in counts.items()} == pytest.approx(
        {"lb": 0.1, "throttle": 0.45, None: 0.45}, abs=0.015
    )


def test_drops_of_a_leaf_apply_to_its_share_of_calls() -> None:
    """A leaf that takes 70 % of the calls and drops all of them drops 70 % of the aggregate's; most have no drops."""
    own = Cluster("all", EdsSource("all"))
    leaves = (
        Leaf(
            Cluster("a", EdsSource("a")),
            ClusterEndpoints("a", (locality(mixed(healthy=5, unhealthy=5)),), (Drop("x", 10**6),)),
        ),
        Leaf(Cluster("b", EdsSource("b")), ClusterEndpoints("b", (locality(endpoints(9, 1)),))),
    )
    chosen = select(ResolvedCluster(own, leaves), NOWHERE, 1, None)
    built = picker(chosen, backends(chosen))
    assert [bound for bound, _ in built.drops] == pytest.approx([0.7])
    plain = selected(locality(endpoints(1)))
    assert not picker(plain, backends(plain)).has_drops


@pytest.mark.parametrize("policy", [RingHash(min_size=64), Maglev(table_size=101)])
def test_tables_are_built_once_per_membership(policy: RingHash | Maglev, monkeypatch) -> None:
    """Connections come and go, and updates outside the set arrive, without a new table; a new member needs one."""
    members = locality(endpoints(5))
    chosen = selected(members, lb=LbConfig(policy))
    made = backends(chosen)
    picker(chosen, made)
    with monkeypatch.context() as patched:
        for name in ("build_ring", "build_table"):
            patched.setattr(f"meshsdk.lb.hashing.{name}", lambda *_: (_ for _ in ()).throw(AssertionError))
        made[address(3)].state = FAILED
        assert address(3) not in tallied(picker(chosen, made), 100)
        again = select(cluster(members, lb=LbConfig(policy)), NOWHERE, 1, chosen)
        picker(again, made)
    grown = select(cluster(locality(endpoints(6)), lb=LbConfig(policy)), NOWHERE, 1, again)
    assert address(5) in tallied(picker(grown, backends(grown)), 300)
    for number in range(7, 30):
        grown = select(cluster(locality(endpoints(number)), lb=LbConfig(policy)), NOWHERE, 1, grown)
        picker(grown, backends(grown))
    assert len(grown.tables) <= 8


def test_locality_weights_count_on_a_ring() -> None:
    """On a ring, a locality's weight is shared by its endpoints, however many (A113)."""
    lb = LbConfig(RingHash(min_size=4096))
    chosen = selected(locality(endpoints(2, 0), zone="a"), locality(endpoints(6, 1), zone="b"), lb=lb)
    got = by_net(tallied(picker(chosen, backends(chosen)), 4000))
    assert got["0"] == pytest.approx(0.5, abs=0.06)


def test_pick_first_stays_with_the_first_connected() -> None:
    """One backend takes all calls; when it breaks the next connected one does."""
    chosen = selected(locality(endpoints(3)), lb=LbConfig(PickFirst()))
    made = backends(chosen)
    built = picker(chosen, made)
    assert set(tallied(built, 20)) == {address(0)}
    made[address(0)].state = IDLE
    assert built.pick(None).state is READY
    assert set(tallied(picker(chosen, made), 20)) == {address(1)}


def test_pick_first_needs_one_endpoint_of_a_priority() -> None:
    """Failed endpoints do not push calls to the next priority while one of the first is connected."""
    chosen = selected(locality(endpoints(9)), locality(endpoints(3, 1), priority=1), lb=LbConfig(PickFirst()))
    made = backends(chosen, net0=FAILED)
    made[address(7)].state = READY
    assert set(tallied(picker(chosen, made), 200)) == {address(7)}


def test_shuffled_pick_first_spreads_clients() -> None:
    """Clients with different seeds choose different first endpoints, each always the same."""
    firsts = []
    for seed in range(200):
        chosen = selected(locality(endpoints(4)), lb=LbConfig(PickFirst(shuffle=True)), seed=seed)
        firsts.append(picker(chosen, backends(chosen)).pick(None).endpoint.address)
    assert min(Counter(firsts).values()) > 25


def test_pick_first_in_the_own_zone_first() -> None:
    """With zone preference, the endpoint of the client's zone comes before those of heavier localities."""
    localities = (locality(endpoints(1, 0), zone="a", weight=9), locality(endpoints(1, 1), zone="b"))
    for lb, net in ((LbConfig(PickFirst()), "0"), (LbConfig(PickFirst(), zone_preference=True), "1")):
        chosen = selected(*localities, lb=lb, zone="b")
        assert by_net(tallied(picker(chosen, backends(chosen)), 5)) == {net: 1}


@every_policy
def test_threads_pick_while_states_change(policy: EndpointPolicy) -> None:
    """Four threads pick without pause while states, calls and pickers change under them: none raises."""
    chosen = selected(locality(endpoints(4)), locality(endpoints(4, 1), priority=1), lb=LbConfig(policy))
    made = backends(chosen)
    current = [picker(chosen, made)]
    problems: list[BaseException] = []
    done = threading.Event()

    def hammer(seed: int) -> None:
        try:
            while not done.is_set():
                backend = current[0].pick(seed)
                backend.calls.append(None)
                seed = seed * 6364136223846793005 + 1 & 2**64 - 1
                backend.calls.pop()
        except BaseException as problem:  # noqa: BLE001 - the test reports whatever it is
            problems.append(problem)

    threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    change = draws()
    for _ in range(200):
        change.choice(list(made.values())).state = change.choice([READY, READY, *Connectivity])
        built = outcome(chosen, made)
        if isinstance(built, Picker):
            current[0] = built
    done.set()
    for thread in threads:
        thread.join(timeout=30)
    assert problems == []
    assert [backend.in_flight for backend in made.values()] == [0] * 8
