"""Consumer: one source over outages, mappings and migrations, with the time as an argument."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshsdk.discovery.consumer import Consumer, Watched
from meshsdk.discovery.instance_set import InstanceSet
from meshsdk.discovery.mapping import Catalogue, GetRevision
from meshsdk.discovery.migration import Side
from meshsdk.model.instance import Increment, Instance, InstanceState, MethodInfo, Revision
from meshsdk.model.migration import Migration
from meshsdk.model.policy import RpcDefaults
from meshsdk.model.resources import Kind, RegistrySource
from meshsdk.model.snapshot import Key

SERVICE = "shop.Orders"
ONE = Instance("orders", "1", "10.0.0.1:1")
TWO = Instance("returns", "1", "10.0.0.2:1")
OLD = Instance(SERVICE, "10.9.9.9:1", "10.9.9.9:1")
NAME = Watched(Side.INTERFACE, SERVICE)
ORDERS, RETURNS = Watched(Side.APPLICATION, "orders"), Watched(Side.APPLICATION, "returns")
FORCE_INTERFACE, FIRST, FORCE = Migration.FORCE_INTERFACE, Migration.APPLICATION_FIRST, Migration.FORCE_APPLICATION


class Memory:
    """What an earlier process saved."""

    def __init__(self) -> None:
        self.saved: dict[str, dict] = {}
        self.mapped: dict[str, tuple[str, ...]] = {}

    def keep(self, *instances: Instance) -> None:
        """Saves instances by application."""
        for one in instances:
            kept = InstanceSet("", (), lambda *_: True, 0)
            kept.take(Increment(one.app, (one,), reset=True), 0)
            self.saved[one.app] = dict(kept.members(one.app))

    def instances(self, what):
        """See `Memory`."""
        return self.saved.get(what[1])

    def applications(self, service):
        """See `Memory`."""
        return self.mapped.get(service)


class Bench:
    """A consumer, its catalogue, and the registry's words played by the test."""

    def __init__(self, mode=FIRST, memory=None, **source) -> None:
        self.now = 0.0
        self.problem = ""
        self.catalogue = Catalogue(lambda: 0.5, 60)
        given = RegistrySource("default", **(source or {"interface": SERVICE}))
        key = Key(Kind.INSTANCES, "mesh://default/x")
        self.consumer = Consumer(key, given, mode, self.catalogue, memory, 60, 0.0)
        self.told = None
        self.count = 0
        self.run()

    def run(self, *, later: float = 0.0) -> None:
        """Lets time pass, then takes what follows."""
        self.now += later
        turn = self.consumer.turn(self.now, self.problem)
        self.watches = turn.watches
        if turn.told is not None:
            self.told = turn.told
            self.count += 1

    def mapping(self, *apps: str) -> None:
        """The registry says who serves the service."""
        self.catalogue.mapped(SERVICE, apps, self.now)
        self.run()

    def lists(self, watch: Watched, *instances: Instance) -> None:
        """The registry lists all instances of a watch."""
        assert watch in self.watches
        self.consumer.take(watch, Increment(watch.app, instances, reset=True), self.now)
        self.run()

    def tells(self, watch: Watched, *put: Instance, removed=()) -> None:
        """The registry tells a change."""
        self.consumer.take(watch, Increment(watch.app, put, removed), self.now)
        self.run()

    @property
    def addresses(self) -> set[str] | None:
        """What is in force; None: nothing was told."""
        if self.told is None or self.told.endpoints is None:
            return None
        return {endpoint.address for place in self.told.endpoints.localities for endpoint in place.endpoints}


def test_an_application():
    """One watch, one listing: told at once and at every change, and nothing else."""
    bench = Bench(app="orders")
    assert bench.watches == {ORDERS}
    assert bench.told is None
    bench.lists(ORDERS, ONE)
    assert bench.addresses == {ONE.address}
    bench.run(later=100)
    assert bench.count == 1
    bench.tells(ORDERS, replace(ONE, weight=5))
    assert bench.count == 2
    assert bench.consumer.deadline() is None


def test_an_empty_listing_is_an_answer():
    """An application without instances is told so: calls fail in words and do not wait for ever."""
    bench = Bench(app="orders")
    bench.lists(ORDERS)
    assert bench.addresses == set()
    assert bench.told.problem == ""


def test_a_service_is_the_union_of_its_applications():
    """Both applications are watched and told once all are listed; a new one joins without a gap."""
    bench = Bench(FORCE)
    bench.mapping("orders")
    assert bench.watches == {ORDERS}
    bench.lists(ORDERS, ONE)
    assert bench.addresses == {ONE.address}
    bench.mapping("orders", "returns")
    assert bench.watches == {ORDERS, RETURNS}
    assert bench.addresses == {ONE.address}
    bench.lists(RETURNS, TWO)
    assert bench.addresses == {ONE.address, TWO.address}


def test_an_application_that_leaves_the_mapping():
    """It stays for a minute, and its watch with it."""
    bench = Bench(FORCE)
    bench.mapping("orders", "returns")
    bench.lists(ORDERS, ONE)
    bench.lists(RETURNS, TWO)
    bench.mapping("orders")
    assert bench.addresses == {ONE.address, TWO.address}
    bench.now = 60
    bench.mapping("orders")
    assert bench.addresses == {ONE.address}
    assert bench.watches == {ORDERS}


def test_a_name_that_no_application_serves_is_an_application():
    """`mesh:///orders`: nobody serves a service of that name, so its own instances are meant, in any mode."""
    for mode in Migration:
        bench = Bench(mode)
        bench.mapping()
        assert bench.watches == {NAME}
        bench.lists(NAME, OLD)
        assert bench.addresses == {OLD.address}


def test_a_name_that_becomes_a_service():
    """Once an application serves it, the mode counts: the move has no gap."""
    bench = Bench(FORCE)
    bench.mapping()
    bench.lists(NAME, OLD)
    bench.mapping("orders")
    assert bench.watches == {NAME, ORDERS}
    assert bench.addresses == {OLD.address}
    bench.lists(ORDERS)
    assert bench.addresses == {OLD.address}
    bench.tells(ORDERS, ONE)
    assert bench.addresses == {ONE.address}
    assert bench.watches == {ORDERS}


def test_only_instances_whose_revision_has_the_service():
    """The metadata is asked for once a revision; until it is there the instances wait, and none is told too early."""
    bench = Bench(FORCE)
    bench.mapping("orders")
    with_it, without = replace(ONE, revision="new"), replace(ONE, id="2", address="10.0.0.3:1", revision="old")
    bench.lists(ORDERS, with_it, replace(with_it, id="3", address="10.0.0.4:1"), without)
    assert bench.told is None
    asks = [ask for ask in bench.catalogue.due(bench.now + 1) if isinstance(ask, GetRevision)]
    assert set(asks) == {GetRevision("orders", "new"), GetRevision("orders", "old")}
    for revision, method in (("new", "/shop.Orders/Get"), ("old", "/shop.Other/Get")):
        content = Revision("orders", revision, (MethodInfo(method),))
        bench.catalogue.described(GetRevision("orders", revision), content, bench.now)
        bench.consumer.reviewed("orders", revision)
        bench.run()
    assert bench.addresses == {ONE.address, "10.0.0.4:1"}


def test_application_first_falls_back_and_returns():
    """Both sides are watched; the interface's entries serve while no application's instance can be called."""
    bench = Bench(FIRST)
    bench.mapping("orders")
    assert bench.watches == {NAME, ORDERS}
    bench.lists(NAME, OLD)
    assert bench.told is None  # a moment of patience for the other side
    bench.lists(ORDERS, ONE)
    assert bench.addresses == {ONE.address}
    bench.tells(ORDERS, replace(ONE, state=InstanceState.DRAINING))
    assert bench.addresses == {OLD.address}
    bench.tells(ORDERS, ONE)
    assert bench.addresses == {ONE.address}
    assert bench.watches == {NAME, ORDERS}


@pytest.mark.parametrize("given", ["by service", "by application"])
def test_every_switch_of_modes_without_an_empty_moment(given):
    """Forth and back through all modes: something that can be called is in force all the time."""
    source = {"interface": SERVICE} if given == "by service" else {"interface": SERVICE, "app": "orders"}
    bench = Bench(FORCE_INTERFACE, **source)
    if given == "by service":
        bench.mapping("orders")
    bench.lists(NAME, OLD)
    assert bench.addresses == {OLD.address}
    for mode, watch, instance in [
        (FIRST, ORDERS, ONE),
        (FORCE, None, ONE),
        (FORCE_INTERFACE, NAME, OLD),
        (FORCE, ORDERS, ONE),
        (FIRST, None, ONE),
        (FORCE_INTERFACE, None, OLD),
    ]:
        before = bench.addresses
        bench.consumer.migrate(mode)
        bench.run()
        if watch is not None:
            assert bench.addresses == before
            bench.lists(watch)  # listed, and nobody there yet
            assert bench.addresses == before
            bench.tells(watch, instance)
        elif mode is FIRST:
            bench.lists(NAME, OLD)
        assert bench.addresses == {instance.address}
        assert len(bench.watches) == (2 if mode is FIRST else 1)


def test_a_mapping_that_goes_leaves_what_is_in_use():
    """A registry that lost its metadata: nobody is mapped after a while, the instances in use stay, still followed."""
    bench = Bench(FORCE)
    bench.mapping("orders")
    bench.lists(ORDERS, ONE)
    bench.mapping()
    bench.now = 60
    bench.mapping()
    assert bench.addresses == {ONE.address}
    assert bench.watches == {NAME, ORDERS}
    bench.lists(NAME, OLD)
    assert bench.addresses == {OLD.address}
    assert bench.watches == {NAME}


def test_a_registry_that_stays_silent():
    """After 15 seconds the problem is told in words; the listing that comes after all takes its place."""
    bench = Bench(app="orders")
    assert bench.consumer.deadline() == 0.5
    bench.run(later=14)
    assert bench.told is None
    bench.run(later=1)
    assert (bench.told.endpoints, bench.told.problem) == (None, "it has not answered within 15 s")
    bench.lists(ORDERS, ONE)
    assert (bench.addresses, bench.told.problem) == ({ONE.address}, "")


def test_a_registry_that_says_why_it_cannot():
    """A known problem is told at once."""
    bench = Bench(app="orders")
    bench.problem = "connection refused"
    bench.run(later=0.5)
    assert bench.told.problem == "connection refused"


def test_a_mapping_that_cannot_be_had():
    """The catalogue fails and the instances under the name are there: they are used; alone, its problem is told."""
    bench = Bench(FORCE)
    bench.catalogue.failed(bench.catalogue.due(0)[0], "no catalogue", 0)
    bench.run()
    assert bench.told.problem == "no catalogue"
    bench.lists(NAME, OLD)
    assert bench.addresses == {OLD.address}


def test_an_outage_changes_nothing():
    """What was known last stays in force, and is not told again, for as long as the registry is away."""
    bench = Bench(app="orders")
    bench.lists(ORDERS, ONE)
    bench.problem = "connection refused"
    bench.run(later=10_000)
    assert bench.addresses == {ONE.address}
    assert bench.count == 1


def test_a_start_during_an_outage():
    """What an earlier process saved is used, marked as such; the registry's own listing replaces it."""
    memory = Memory()
    memory.keep(ONE)
    bench = Bench(app="orders", memory=memory)
    bench.run(later=2.9)
    assert bench.told is None
    bench.run(later=0.1)
    assert bench.addresses == {ONE.address}
    assert (bench.told.origin, bench.told.problem) == (
        "cache",
        "the instances are those known before: it has not answered yet",
    )
    bench.lists(ORDERS, replace(ONE, address="10.0.0.7:1"))
    assert (bench.addresses, bench.told.origin, bench.told.problem) == ({"10.0.0.7:1"}, "", "")


def test_a_start_during_an_outage_with_a_service():
    """The saved mapping leads to the saved instances; their metadata cannot be had, so all are offered."""
    memory = Memory()
    memory.keep(replace(ONE, revision="r1"))
    memory.mapped[SERVICE] = ("orders",)
    bench = Bench(FORCE, memory=memory)
    bench.problem = "connection refused"
    bench.run(later=0.5)
    assert bench.told is None  # their metadata is being asked for
    for ask in bench.catalogue.due(1):
        bench.catalogue.failed(ask, "connection refused", 1)
    bench.consumer.reviewed("orders", "r1")
    bench.run(later=0.5)
    assert bench.addresses == {ONE.address}


def test_a_registry_that_comes_back_empty_after_such_a_start():
    """The saved instances are doubted for a minute, not dropped at once; then the registry is believed."""
    memory = Memory()
    memory.keep(ONE)
    bench = Bench(app="orders", memory=memory)
    bench.run(later=3)
    bench.lists(ORDERS)
    assert bench.addresses == {ONE.address}
    assert bench.consumer.deadline() == 63
    bench.run(later=60)
    assert bench.addresses == set()


def test_what_is_saved():
    """Whole listings only, under the name of the watch; never what was itself restored."""
    memory = Memory()
    memory.keep(ONE)
    bench = Bench(app="orders", unit="u1", labels=(("version", "v1"),), memory=memory)
    assert bench.consumer.saved(ORDERS) is None
    bench.run(later=3)
    assert bench.consumer.saved(ORDERS) is None
    bench.lists(ORDERS, replace(ONE, labels={"version": "v1"}))
    name, members = bench.consumer.saved(ORDERS)
    assert name == ["instances", "orders", "u1", [["version", "v1"]]]
    assert set(members) == {"1"}


def test_told_again():
    """After a fork whoever listened has forgotten: what is in force is told once more."""
    bench = Bench(app="orders")
    bench.lists(ORDERS, ONE)
    bench.consumer.tell_again()
    bench.run()
    assert bench.count == 2


def test_what_others_tell_is_not_taken():
    """An increment about another application than the watch is for is passed over."""
    bench = Bench(app="orders")
    bench.consumer.take(ORDERS, Increment("other", (replace(ONE, app="other"),), reset=True), 0)
    bench.run()
    assert bench.told is None


def test_a_doubt_and_an_empty_answer_are_told_in_words():
    """The registry answers, so neither is a problem: a note says what is to be known, and no more when it is over."""
    bench = Bench(app="orders")
    bench.lists(ORDERS)
    assert bench.told.note == "it has answered, with no instance to offer"
    bench.lists(ORDERS, ONE)
    assert bench.told.note == ""
    bench.tells(ORDERS, removed=(ONE.id,))
    assert (bench.addresses, bench.told.problem) == ({ONE.address}, "")
    assert bench.told.note.startswith("in doubt: 1 instances")
    bench.tells(ORDERS, ONE)
    assert bench.told.note == ""


GET = "/shop.Orders/Get"


def test_what_servers_say_of_their_methods():
    """A revision is asked for once it is seen, also where no service is sought; then callers are told."""
    bench = Bench(app="orders")
    one, two = replace(ONE, revision="r1"), replace(ONE, id="2", address="10.0.0.3:1", revision="r2")
    bench.lists(ORDERS, one)
    assert bench.told.endpoints.methods == {}
    ask = GetRevision("orders", "r1")
    assert bench.catalogue.due(0.0) == [ask]
    said = MethodInfo(GET, {"idempotent": True})
    bench.catalogue.described(ask, Revision("orders", "r1", (said,)), 0.0)
    bench.run()
    assert bench.told.endpoints.methods == {GET: RpcDefaults(True)}
    known = bench.told.endpoints
    bench.run(later=1)
    assert bench.told.endpoints is known
    bench.tells(ORDERS, two)  # nobody knows yet whether this one may be called twice
    assert bench.told.endpoints.methods == {}
    bench.catalogue.described(GetRevision("orders", "r2"), Revision("orders", "r2", (MethodInfo(GET),)), 1.0)
    bench.run()
    assert bench.told.endpoints.methods == {}
    bench.tells(ORDERS, removed=("2",))
    assert bench.told.endpoints.methods == {GET: RpcDefaults(True)}


def test_instances_without_a_revision_say_nothing():
    """What published nothing is called as any method is."""
    bench = Bench(app="orders")
    bench.lists(ORDERS, ONE)
    assert bench.catalogue.due(0.0) == []
    assert bench.told.endpoints.methods == {}
