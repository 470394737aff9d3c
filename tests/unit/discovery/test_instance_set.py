"""InstanceSet: increments of a registry as endpoints, at the cost of what changed."""

from __future__ import annotations

import logging
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from meshsdk.discovery.instance_set import InstanceSet
from meshsdk.model.endpoints import Endpoint, Health
from meshsdk.model.instance import Increment, Instance, InstanceState
from meshsdk.model.resources import Locality

ONE = Instance("orders", "1", "10.0.0.1:1", revision="r1", zone="a", weight=3, labels={"version": "v1"}, started_at=5)
TWO = Instance("orders", "2", "10.0.0.2:1", revision="r1", zone="a", weight=2, labels={"version": "v2"}, started_at=6)
FAR = Instance("orders", "3", "10.0.0.3:1", revision="r2", region="r", zone="b", started_at=7)


def everything(app: str, revision: str) -> bool:
    """Every revision is offered."""
    del app, revision
    return True


def made(labels=(), offers=everything, period=0.0) -> InstanceSet:
    """A set without protection unless a period is given."""
    return InstanceSet("set", labels, offers, period)


def listing(*instances: Instance, app: str = "orders") -> Increment:
    """All instances of an application."""
    return Increment(app, tuple(instances), reset=True)


def addresses(instances: InstanceSet) -> set[str]:
    """The addresses offered."""
    return {endpoint.address for place in instances.endpoints().localities for endpoint in place.endpoints}


def test_states_as_health():
    """ONLINE is healthy, DRAINING takes no new calls, STARTING and OFFLINE are not there."""
    instances = made()
    instances.take(listing(*(replace(ONE, id=s.value, address=f"{s.value}:1", state=s) for s in InstanceState)), 0)
    (place,) = instances.endpoints().localities
    assert set(place.endpoints) == {
        Endpoint("ONLINE:1", 3, Health.HEALTHY, 5),
        Endpoint("DRAINING:1", 3, Health.DRAINING, 5),
    }
    assert instances.usable == 1


def test_localities_weigh_what_their_instances_in_use_weigh():
    """Localities come in order, by region and zone; a draining instance does not add to its locality's weight."""
    instances = made()
    instances.take(listing(FAR, ONE, replace(TWO, state=InstanceState.DRAINING)), 0)
    assert [(place.locality, place.priority, place.weight) for place in instances.endpoints().localities] == [
        (Locality("", "a"), 0, 3),
        (Locality("r", "b"), 0, 1),
    ]
    instances.take(Increment("orders", (TWO,)), 0)
    assert [place.weight for place in instances.endpoints().localities] == [5, 1]


def test_a_change_costs_a_change():
    """What did not change is the very object as before, and what is told again is no change."""
    instances = made()
    instances.take(listing(ONE, TWO, FAR), 0)
    before = instances.endpoints()
    instances.take(Increment("orders", (replace(ONE),)), 0)
    instances.take(listing(ONE, TWO, FAR), 0)
    assert instances.endpoints() is before
    instances.take(Increment("orders", (replace(ONE, weight=9),)), 0)
    after = instances.endpoints()
    assert after.localities[1].endpoints is before.localities[1].endpoints
    assert after.localities[0].endpoints.get(TWO.address) is before.localities[0].endpoints.get(TWO.address)


def test_instances_that_go_and_move():
    """Removed ids go, an instance may change its address and its zone, and an empty locality is not kept."""
    instances = made()
    instances.take(listing(ONE, FAR), 0)
    instances.take(Increment("orders", (replace(FAR, address="10.0.0.9:1", region="", zone="a"),), ("1", "nobody")), 0)
    assert [place.locality.zone for place in instances.endpoints().localities] == ["a"]
    assert addresses(instances) == {"10.0.0.9:1"}
    instances.take(listing(), 0)
    assert instances.endpoints().localities == ()
    assert instances.usable == 0


def test_of_two_at_one_address_the_younger_counts():
    """A process that was killed and started again has a new id: its predecessor's lease does not stand in its way."""
    instances = made()
    old = replace(ONE, id="old", started_at=1, zone="b", state=InstanceState.DRAINING)
    instances.take(listing(old, ONE), 0)
    (place,) = instances.endpoints().localities
    assert list(place.endpoints) == [Endpoint(ONE.address, 3, Health.HEALTHY, 5)]
    instances.take(Increment("orders", removed=("old",)), 0)
    assert instances.endpoints().localities == (place,)
    instances.take(Increment("orders", (old,)), 0)
    instances.take(Increment("orders", removed=("1",)), 0)
    assert instances.endpoints().localities[0].locality.zone == "b"


def test_subsets_by_label():
    """Only instances with all the labels are offered; one that loses a label goes."""
    instances = made(labels=[("version", "v1")])
    instances.take(listing(ONE, TWO, FAR), 0)
    assert addresses(instances) == {ONE.address}
    instances.take(Increment("orders", (replace(ONE, labels={}),)), 0)
    assert addresses(instances) == set()


def test_revisions_are_waited_for_and_left_out():
    """An instance is offered once it is known what its revision serves, and never if that is not the service."""
    verdicts = {"r1": None, "r2": False}
    instances = made(offers=lambda _, revision: verdicts[revision])
    instances.take(listing(ONE, FAR), 0)
    assert instances.undecided
    assert addresses(instances) == set()
    verdicts["r1"] = True
    instances.review("orders", "r1")
    assert not instances.undecided
    assert addresses(instances) == {ONE.address}
    verdicts["r1"] = False
    instances.review("orders", "r1")
    assert addresses(instances) == set()


def test_several_applications():
    """The instances of several applications stand side by side, each listed and forgotten on its own."""
    other = Instance("returns", "1", "10.0.1.1:1")
    instances = made()
    instances.take(listing(ONE), 0)
    assert (instances.listed("orders"), instances.listed("returns")) == (True, False)
    instances.take(listing(other, app="returns"), 0)
    instances.take(listing(app="returns"), 0)
    assert addresses(instances) == {ONE.address}
    instances.take(listing(other, app="returns"), 0)
    instances.forget("orders")
    assert addresses(instances) == {other.address}
    assert not instances.listed("orders")


MANY = [replace(ONE, id=str(number), address=f"10.0.0.{number}:1") for number in range(10)]
ALL = {instance.address for instance in MANY}


def test_a_registry_that_forgot_nearly_everything_is_doubted():
    """After an outage the registry lists 2 of 10: all stay in use; a minute later those not seen since go."""
    instances = made(period=60)
    instances.take(listing(*MANY), 0)
    instances.take(listing(*MANY[:2]), 100)
    assert addresses(instances) == ALL
    assert instances.deadline() == 160
    instances.take(Increment("orders", (MANY[2],)), 110)
    instances.settle(160, away=False)
    assert addresses(instances) == {instance.address for instance in MANY[:3]}
    assert instances.deadline() is None


def test_doubts_wait_for_the_registry():
    """While the registry is away again nobody can come back, so nobody goes."""
    instances = made(period=60)
    instances.take(listing(*MANY), 0)
    instances.take(listing(), 100)
    instances.settle(160, away=True)
    assert addresses(instances) == ALL
    assert instances.deadline() == 220
    instances.settle(220, away=False)
    assert addresses(instances) == set()


def test_a_registry_that_lost_few_is_believed():
    """6 of 10 after an outage: the 4 are gone at once."""
    instances = made(period=60)
    instances.take(listing(*MANY), 0)
    instances.take(listing(*MANY[:6]), 100)
    assert addresses(instances) == {instance.address for instance in MANY[:6]}


def test_lapses_in_masses_are_doubted():
    """Leases that lapse one by one: when fewer than half are left, those that went before come back for a minute."""
    instances = made(period=60)
    instances.take(listing(*MANY), 0)
    for instance in MANY[:5]:
        instances.take(Increment("orders", removed=(instance.id,)), 10)
    assert addresses(instances) == {instance.address for instance in MANY[5:]}
    for instance in MANY[5:]:
        instances.take(Increment("orders", removed=(instance.id,)), 20)
    assert addresses(instances) == ALL
    assert instances.doubted == len(MANY)
    instances.take(Increment("orders", MANY[:3]), 30)
    instances.settle(80, away=False)
    assert addresses(instances) == {instance.address for instance in MANY[:3]}
    assert instances.doubted == 0


def test_the_recalled_go_when_all_others_are_listed_again():
    """A killed instance was believed gone; then the registry forgets the other two, which register again: they stay."""
    instances = made(period=60)
    instances.take(listing(*MANY[:3]), 0)
    instances.take(Increment("orders", removed=(MANY[0].id,)), 10)
    instances.take(listing(), 20)
    assert addresses(instances) == {instance.address for instance in MANY[:3]}
    instances.take(Increment("orders", (MANY[1],)), 21)
    assert addresses(instances) == {instance.address for instance in MANY[:3]}
    instances.take(Increment("orders", (MANY[2],)), 22)
    assert addresses(instances) == {MANY[1].address, MANY[2].address}
    assert instances.doubted == 0


def test_who_does_not_come_back_with_a_doubt():
    """Of those that were believed gone: who said farewell since, who is listed again, who vanished too long ago."""
    instances = made(period=60)
    instances.take(listing(*MANY), 0)
    instances.take(Increment("orders", removed=(MANY[0].id,)), 10)
    instances.take(Increment("orders", removed=tuple(one.id for one in MANY[1:5])), 40)
    instances.take(Increment("orders", (replace(MANY[1], state=InstanceState.OFFLINE),)), 41)
    instances.take(Increment("orders", (replace(MANY[2], address="10.0.1.1:1"),), ()), 42)
    instances.settle(75, away=False)
    instances.take(Increment("orders", removed=tuple(one.id for one in MANY[5:])), 80)
    expected = {one.address for one in MANY[3:]} | {"10.0.1.1:1"}
    assert addresses(instances) == expected
    instances.settle(140, away=False)
    assert addresses(instances) == {"10.0.1.1:1"}


def test_a_doubt_is_logged_when_it_begins_and_when_it_ends(caplog):
    """One line each, however many increments it takes, with the application, how many, and for how long."""
    caplog.set_level(logging.INFO)
    instances = made(period=60)
    instances.take(listing(*MANY), 0)
    instances.take(Increment("orders", removed=tuple(one.id for one in MANY[:8])), 10)
    instances.take(Increment("orders", removed=(MANY[8].id,)), 11)
    assert [record.message for record in caplog.records] == [
        (
            "set: the registry says that 8 of 10 instances of 'orders' are gone without a word; in doubt, they stay in "
            "use until they are listed again, for 60 s at most (longer while the registry is away)"
        )
    ]
    caplog.clear()
    instances.take(Increment("orders", MANY[:2]), 12)
    assert not caplog.records
    instances.settle(100, away=False)
    assert [record.message for record in caplog.records] == [
        "set: the doubt about 9 instances of 'orders' is over; 7 are not listed again and no longer used"
    ]


def test_those_who_drained_are_believed():
    """An instance that said that it goes is gone when the registry says so, were it the last one."""
    instances = made(period=60)
    instances.take(listing(ONE), 0)
    instances.take(Increment("orders", (replace(ONE, state=InstanceState.DRAINING),)), 1)
    assert instances.usable == 0
    instances.take(Increment("orders", removed=("1",)), 2)
    assert addresses(instances) == set()


def test_an_instance_in_doubt_gives_way_to_one_at_its_address():
    """A process that started anew at the address of one in doubt is what is called, and stays when the doubt ends."""
    instances = made(period=60)
    instances.take(listing(*MANY), 0)
    instances.take(listing(), 100)
    instances.take(Increment("orders", (replace(ONE, id="new", address=MANY[0].address, weight=7, started_at=0),)), 101)
    (place,) = instances.endpoints().localities
    assert place.endpoints.get(MANY[0].address).weight == 7
    instances.settle(160, away=False)
    assert addresses(instances) == {MANY[0].address}


def test_a_recalled_instance_gives_way_to_one_at_its_address_until_it_is_listed():
    """A successor, older by its own clock, is what is called while its predecessor is in doubt, and not after that."""
    instances = made(period=60)
    instances.take(listing(*MANY), 0)
    instances.take(Increment("orders", removed=("0",)), 10)
    instances.take(Increment("orders", (replace(MANY[0], id="new", weight=7, started_at=0),)), 11)
    instances.take(Increment("orders", removed=tuple(one.id for one in MANY[1:8])), 12)
    assert instances.doubted == 8
    assert instances.endpoints().localities[0].endpoints.get(MANY[0].address).weight == 7
    instances.take(Increment("orders", (MANY[0],)), 13)
    assert instances.endpoints().localities[0].endpoints.get(MANY[0].address).weight == MANY[0].weight


def test_one_that_is_listed_again_is_in_no_doubt_at_its_address():
    """It was in doubt, and is the younger of two at one address: it counts again."""
    instances = made(period=60)
    instances.take(listing(*MANY), 0)
    instances.take(listing(), 10)
    instances.take(Increment("orders", (replace(MANY[0], id="new", weight=7, started_at=0),)), 11)
    assert instances.endpoints().localities[0].endpoints.get(MANY[0].address).weight == 7
    instances.take(Increment("orders", (MANY[0],)), 12)
    assert instances.endpoints().localities[0].endpoints.get(MANY[0].address).weight == MANY[0].weight


def test_what_is_restored_is_replaced_by_the_next_listing():
    """Instances that an earlier process knew are in use until the registry lists its own."""
    before, instances = made(), made(period=60)
    before.take(listing(*MANY), 0)
    instances.restore("orders", before.members("orders"), 50)
    assert instances.listed("orders")
    assert addresses(instances) == ALL
    instances.take(listing(*MANY[:6]), 51)
    assert addresses(instances) == {instance.address for instance in MANY[:6]}


ids = st.sampled_from("abcd")


def instance(app: str, identifier: str, address: str, revision: str, zone: str, state: InstanceState) -> Instance:
    """An instance whose age says who it is: of two at one address it is clear who counts."""
    age = float("abcd".index(identifier) * 2 + (app == "returns"))
    return Instance(app, identifier, address, revision, zone=zone, weight=int(age) + 1, state=state, started_at=age)


some = st.builds(
    instance,
    st.sampled_from(["orders", "returns"]),
    ids,
    st.sampled_from(["h:1", "h:2", "h:3"]),
    st.sampled_from(["r1", "r2"]),
    st.sampled_from(["", "a"]),
    st.sampled_from(InstanceState),
)
steps = st.lists(st.tuples(st.lists(some, max_size=3), st.lists(ids, max_size=2), st.booleans()), max_size=12)


def content(instances: InstanceSet) -> list[tuple[Locality, int, dict[str, Endpoint]]]:
    """The endpoints by locality, in a form that compares."""
    return [
        (place.locality, place.weight, {endpoint.address: endpoint for endpoint in place.endpoints})
        for place in instances.endpoints().localities
    ]


@given(steps)
def test_whatever_the_history_the_outcome_is_that_of_the_last_state(history):
    """Increments in any order lead to what one listing of the same instances gives."""
    instances = made(offers=lambda _, revision: revision == "r1")
    held: dict[str, dict[str, Instance]] = {"orders": {}, "returns": {}}
    for put, removed, reset in history:
        for app, known in held.items():
            mine = {one.id: one for one in put if one.app == app}
            gone = () if reset else tuple(one for one in removed if one not in mine)
            if reset:
                known.clear()
            for one in gone:
                known.pop(one, None)
            known.update(mine)
            instances.take(Increment(app, tuple(mine.values()), gone, reset), 0)
    fresh = made(offers=lambda _, revision: revision == "r1")
    for app, known in held.items():
        fresh.take(listing(*known.values(), app=app), 0)
    assert content(instances) == content(fresh)
    assert instances.usable == fresh.usable


def test_revisions_in_use():
    """Each revision counts as long as an instance has it, whatever becomes of the others."""
    known = InstanceSet("x", (), lambda *_: True, 0)
    one, two = Instance("orders", "1", "h:1", "r1"), Instance("orders", "2", "h:2", "r2")
    known.take(Increment("orders", (one, two), reset=True), 0)
    assert list(known.revisions()) == [("orders", "r1"), ("orders", "r2")]
    known.take(Increment("orders", (replace(two, revision="r1"),)), 0)
    assert list(known.revisions()) == [("orders", "r1")]
    known.take(Increment("orders", (replace(one, state=InstanceState.OFFLINE),)), 0)
    assert list(known.revisions()) == [("orders", "r1")]
    known.take(Increment("orders", (replace(two, state=InstanceState.OFFLINE),)), 0)
    assert list(known.revisions()) == []
