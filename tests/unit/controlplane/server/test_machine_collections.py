"""Glob collections over the incremental protocol, message by message."""

from __future__ import annotations

import pytest

from controlplane.server.machine import DeltaRequest, StreamMachine
from controlplane.server.resource_map import Snapshot
from tests.unit.controlplane.server.packs import CDS, EDS, LDS, LEDS, RDS, names, packed

A, B = "xdstp:///T/orders/a/", "xdstp:///T/orders/b/"


class Talk:
    """A client's side of one stream."""

    def __init__(self, *, aggregated: bool = True, forgetful: bool = False) -> None:
        self.machine = StreamMachine(delta=True, aggregated=aggregated, chunk=1_000)
        self.machine.forgetful = forgetful
        self.now = Snapshot()

    def send(self, *subscribe, kind=LEDS, drop=(), nonce="", known=None, error=None):
        """Sends a request; returns the shift."""
        return self.machine.receive(DeltaRequest(kind, subscribe, tuple(drop), nonce, known or {}, error), self.now)

    def read(self, *, ack: bool = True):
        """Returns (resources, removed) of the next response and acknowledges it; None if there is none."""
        reply = None if self.machine.at_rest(self.now) else self.machine.next_reply(self.now)
        if reply is None:
            return None
        if ack:
            self.send(kind=reply.type_url, nonce=reply.nonce)
        return names(reply.resources), list(reply.removed)

    def put(self, *resources):
        """Sets resources, and tells the machine."""
        for resource in resources:
            self.now = self.now.updated(resource.type_url, [resource])
            self._touch(resource)

    def take(self, *members):
        """Removes resources, and tells the machine."""
        for name in members:
            gone = self.now.of(LEDS).get(name)
            self.now = self.now.updated(LEDS, removed=[name])
            self._touch(gone)

    def _touch(self, resource):
        self.machine.touch(resource.type_url, resource.name)
        if resource.collection:
            self.machine.touch_collection(resource.type_url, resource.collection)


def one(prefix: str, name: str, version: str = "1", size: int = 8):
    """A member of a collection."""
    return packed(LEDS, prefix + name, version, size)


def test_all_members_come_at_first_and_then_only_what_changes():
    """A subscription brings the whole collection; a change brings one member, a removal one name."""
    talk = Talk()
    talk.put(one(A, "x"), one(A, "y"), one(B, "z"))
    shift = talk.send(A + "*")
    assert shift.collections_added == {A[:-1]}
    assert talk.read() == ([A + "x", A + "y"], [])
    assert talk.read() is None
    talk.put(one(A, "y", "2"), one(B, "z", "2"))
    assert talk.read() == ([A + "y@2"], [])
    talk.put(one(A, "new"))
    talk.take(A + "x")
    assert talk.read() == ([A + "new"], [A + "x"])
    assert talk.read() is None


def test_an_empty_collection_is_answered_by_its_own_name():
    """Who asks for a collection without members is told at once, and gets what comes into it later."""
    talk = Talk()
    talk.send(A + "*?xds.node.id=n")
    assert talk.read() == ([], [A + "*?xds.node.id=n"])
    assert talk.read() is None
    talk.put(one(A, "x"))
    assert talk.read() == ([A + "x?xds.node.id=n"], [])
    talk.take(A + "x")
    assert talk.read() == ([], [A + "x?xds.node.id=n"])


def test_two_ways_to_write_one_collection():
    """A stream may have a collection under two names; each gets its own, and the index has it once."""
    talk = Talk()
    talk.put(one(A, "x"))
    assert talk.send(A + "*", A + "*?xds.node.id=n").collections_added == {A[:-1]}
    assert talk.read() == ([A + "x", A + "x?xds.node.id=n"], [])
    assert not talk.send(drop=[A + "*"])
    talk.take(A + "x")
    assert talk.read() == ([], [A + "x?xds.node.id=n"])
    assert talk.send(drop=[A + "*?xds.node.id=n"]).collections_dropped == {A[:-1]}


def test_unsubscribed_collection_is_silent():
    """After an unsubscription nothing of the collection is sent, be it owed already."""
    talk = Talk()
    talk.put(one(A, "x"))
    talk.send(A + "*")
    talk.read()
    talk.put(one(A, "x", "2"))
    assert talk.send(drop=[A + "*", B + "*"]).collections_dropped == {A[:-1]}
    assert talk.read() is None
    assert next(iter(talk.machine.held())).collections_dropped == frozenset()


def test_reconnect_sends_only_what_differs():
    """With initial_resource_versions a client gets what changed, and hears what went, under its own names."""
    talk = Talk()
    talk.put(one(A, "same"), one(A, "changed", "2"), one(A, "new"), one(B, "z"))
    known = {f"{A}{name}?k=v": "1" for name in ("same", "changed", "lost")}
    talk.put(packed(LEDS, f"{A}same?k=v"), packed(LEDS, f"{A}changed?k=v", "2"), packed(LEDS, f"{A}new?k=v"))
    talk.send(A + "*?k=v", B + "*", known={**known, B + "z": "1", "xdstp:///T/other/x": "1"})
    assert talk.read() == ([f"{A}changed?k=v@2", f"{A}new?k=v"], [f"{A}lost?k=v"])
    assert talk.read() is None


def test_reconnected_client_that_has_all_is_left_alone():
    """Nothing is sent to a client that holds the collection already; what changes later is one member."""
    talk = Talk()
    talk.put(one(A, "x"), one(A, "y"))
    talk.send(A + "*", known={A + "x": "1", A + "y": "1"})
    assert talk.read() is None
    assert talk.machine.subscriptions[LEDS].collections[A + "*"].has is talk.now.collection(LEDS, A[:-1])
    talk.put(one(A, "x", "2"))
    assert talk.read() == ([A + "x@2"], [])


def test_collection_asked_for_again_is_sent_again():
    """xDS: a name in resource_names_subscribe is always answered; members that went meanwhile are still said."""
    talk = Talk()
    talk.put(one(A, "x"), one(A, "y"))
    talk.send(A + "*")
    talk.read()
    talk.take(A + "y")
    talk.send(A + "*")
    assert talk.read() == ([A + "x"], [A + "y"])
    assert talk.read() is None


def test_streams_in_step_share_one_map():
    """Two streams that are up to date hold the snapshot's own map, so that the next difference is computed once."""
    first, second = Talk(), Talk()
    for talk in (first, second):
        talk.now = first.now
        talk.send(A + "*")
        talk.read()
    first.put(one(A, "x"))
    second.now = first.now
    second.machine.touch_collection(LEDS, A[:-1])
    assert first.read() == second.read() == ([A + "x"], [])
    held = [talk.machine.subscriptions[LEDS].collections[A + "*"].has for talk in (first, second)]
    assert held[0] is held[1] is first.now.collection(LEDS, A[:-1])


def test_large_collections_come_in_parts():
    """A collection beyond the size of a response comes in several, without waiting, and removals with the last."""
    talk = Talk()
    talk.put(*(one(A, str(index), size=400) for index in range(5)))
    talk.send(A + "*", B + "*")
    found = []
    while (answer := talk.read(ack=False)) is not None:
        assert len(answer[0]) <= 2
        found.append(answer)
    assert sorted(name for put, _ in found for name in put) == [f"{A}{index}" for index in range(5)]
    assert [removed for _, removed in found if removed] == [[B + "*"]]
    assert talk.machine.subscriptions[LEDS].held == 5


def test_changes_wait_for_the_acknowledgement_and_gather():
    """While a response is out, changes gather; the next response carries their sum."""
    talk = Talk()
    talk.put(one(A, "x"))
    talk.send(A + "*")
    talk.read(ack=False)
    talk.put(one(A, "x", "2"))
    talk.put(one(A, "x", "3"), one(A, "y"))
    talk.take(A + "y")
    assert talk.read() is None
    talk.send(nonce="1")
    assert talk.read() == ([A + "x@3"], [])


@pytest.mark.parametrize("aggregated", [True, False])
def test_member_that_moves_is_there_before_it_is_gone(aggregated):
    """An endpoint that moves from one locality to another comes in the response in which it goes, or before."""
    talk = Talk(aggregated=aggregated)
    talk.put(one(A, "x"), one(B, "y"))
    talk.send(A + "*", B + "*")
    talk.read()
    talk.put(one(B, "x"))
    talk.take(A + "x")
    assert talk.read() == ([B + "x"], [A + "x"])


def test_members_go_after_the_client_took_the_new_localities():
    """A locality that ends: the EDS resource goes first, the members when it was acknowledged."""
    talk = Talk()
    talk.put(packed(EDS, "orders", refers=(A + "*", B + "*")), one(A, "x"), one(B, "y"))
    talk.send("orders", kind=EDS)
    talk.send(A + "*", B + "*")
    talk.read()
    talk.read()
    talk.put(packed(EDS, "orders", "2", refers=(A + "*",)))
    talk.take(B + "y")
    assert talk.read(ack=False) == (["orders@2"], [])
    assert talk.read() is None
    talk.send(kind=EDS, nonce="3")
    assert talk.read() == ([], [B + "y"])


def test_dead_endpoints_go_although_routes_are_rejected():
    """A client that rejected a route, or is silent about one, loses single endpoints that are gone all the same."""
    talk = Talk()
    talk.put(packed(RDS, "r"), packed(LDS, "l"), one(A, "x"))
    talk.send("r", kind=RDS)
    talk.send("l", kind=LDS)
    talk.send(A + "*")
    talk.read()
    talk.read(ack=False)
    talk.read(ack=False)
    talk.send(kind=RDS, nonce="3", error="no")
    talk.take(A + "x")
    assert talk.read() == ([], [A + "x"])


def test_cluster_sent_anew_takes_its_collections_along():
    """Envoy waits for the endpoints of a changed cluster: the EDS resource and its collections follow it, unchanged."""
    talk = Talk()
    talk.put(packed(CDS, "orders"), packed(EDS, "orders", refers=(A + "*",)), one(A, "x"), one(B, "y"))
    talk.send(kind=CDS)
    talk.send("orders", kind=EDS)
    talk.send(A + "*?xds.node.id=n", B + "*")
    while talk.read():
        pass
    talk.put(packed(CDS, "orders", "2"))
    found = [talk.read() for _ in range(4)]
    assert found == [(["orders@2"], []), (["orders"], []), ([A + "x?xds.node.id=n"], []), None]


def test_forgetful_client_gets_its_collections_under_other_names():
    """A client that says which EDS resource it has, and not which members, is told of collections it cannot know."""
    plain = packed(EDS, "orders", "v1", refers=(A + "*",))
    turned = packed(EDS, "orders", "v1~turned", refers=(A + "*",))
    object.__setattr__(plain, "turned", turned)
    for known, expected in (("v0", "orders@v1~turned"), ("v1", "orders@v1~turned"), ("v1~turned", "orders@v1")):
        talk = Talk(forgetful=True)
        talk.put(plain)
        talk.send("orders", kind=EDS, known={"orders": known})
        assert talk.read() == ([expected], []), known
    mindful = Talk()
    mindful.put(plain)
    mindful.send("orders", kind=EDS, known={"orders": "v1"})
    assert mindful.read() is None
    fresh = Talk(forgetful=True)
    fresh.put(plain)
    fresh.send("orders", kind=EDS)
    assert fresh.read() == (["orders@v1"], [])
