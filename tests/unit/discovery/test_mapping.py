"""Catalogue: which applications serve a service, and what revisions contain, asked for as seldom as possible."""

from __future__ import annotations

import pytest

from meshsdk.discovery.mapping import Catalogue, GetRevision, MapService
from meshsdk.model.instance import MethodInfo, Revision

SERVICE = "shop.Orders"
ASK = MapService(SERVICE)
OF_R1 = GetRevision("orders", "r1")


@pytest.fixture
def catalogue() -> Catalogue:
    """A catalogue without jitter in which one consumer follows the service; applications stay for a minute."""
    made = Catalogue(lambda: 0.5, 60)
    made.follow(SERVICE)
    return made


def content(*methods: str) -> Revision:
    """What revision r1 of `orders` contains."""
    return Revision("orders", "r1", tuple(MethodInfo(method) for method in methods))


def test_a_mapping_is_asked_for_again_and_again(catalogue):
    """At once, then every five seconds after the answer, one question at a time."""
    assert catalogue.apps(SERVICE) is None
    assert catalogue.deadline() == 0
    assert catalogue.due(10) == [ASK]
    assert catalogue.deadline() is None
    assert catalogue.mapped(SERVICE, ("orders",), 11)
    assert catalogue.apps(SERVICE) == ("orders",)
    assert catalogue.deadline() == 16
    assert catalogue.due(15) == []
    assert catalogue.due(16) == [ASK]
    assert not catalogue.mapped(SERVICE, ("orders",), 17)
    assert catalogue.mapped(SERVICE, ("orders", "returns"), 22)


def test_an_application_stays_in_the_mapping_for_a_while(catalogue):
    """A registry that restarted empty has no mapping at first: what was mapped stays, for a minute at most."""
    catalogue.mapped(SERVICE, ("orders", "returns"), 0)
    assert not catalogue.mapped(SERVICE, (), 10)
    assert not catalogue.mapped(SERVICE, ("orders",), 69)
    assert catalogue.mapped(SERVICE, ("orders",), 70)
    assert catalogue.apps(SERVICE) == ("orders",)


def test_a_name_that_is_an_application_is_asked_for_less_often(catalogue):
    """A plain application has no mapping: once a minute somebody looks whether it has become a service."""
    catalogue.plain(SERVICE, plain=True)
    catalogue.due(0)
    catalogue.mapped(SERVICE, (), 0)
    assert catalogue.deadline() == 60
    catalogue.due(60)
    catalogue.mapped(SERVICE, ("orders",), 60)
    assert catalogue.deadline() == 65


def test_failures_back_off_and_keep_what_was_known(catalogue):
    """The problem is there in words; what was answered once stays."""
    catalogue.due(0)
    assert not catalogue.failed(ASK, "no connection", 0)
    assert catalogue.problem == "no connection"
    assert catalogue.apps(SERVICE) is None
    first = catalogue.deadline()
    catalogue.due(first)
    catalogue.failed(ASK, "no connection", first)
    assert catalogue.deadline() - first > first
    catalogue.mapped(SERVICE, ("orders",), 9)
    assert catalogue.problem == ""
    catalogue.failed(ASK, "no connection", 20)
    assert catalogue.apps(SERVICE) == ("orders",)


def test_a_revision_that_is_not_answered_is_no_outage(catalogue):
    """It concerns who asks for it alone: the registry as a whole has no problem, and one that it has stays."""
    catalogue.serves(SERVICE, "orders", "r1")
    catalogue.due(0)
    assert catalogue.failed(OF_R1, "a proxy refuses", 0)
    assert catalogue.problem == ""
    catalogue.failed(ASK, "no connection", 0)
    catalogue.described(OF_R1, None, 1)
    assert catalogue.problem == "no connection"


def test_a_malformed_revision(catalogue):
    """As if it was not published, said the first time only, and asked for again like one."""
    assert catalogue.serves(SERVICE, "orders", "r1") is None
    catalogue.mapped(SERVICE, ("orders",), 0)
    catalogue.due(0)
    assert catalogue.malformed(OF_R1, 0) == (True, True)
    assert catalogue.serves(SERVICE, "orders", "r1") is True
    assert OF_R1 in catalogue.due(30)
    assert catalogue.malformed(OF_R1, 30) == (False, False)
    assert catalogue.described(OF_R1, content("/other.Service/Get"), 60)
    assert catalogue.serves(SERVICE, "orders", "r1") is False


def test_a_revision_is_asked_for_once(catalogue):
    """However many instances have it: pending at first, then known for every service."""
    catalogue.due(0)
    catalogue.mapped(SERVICE, ("orders",), 0)
    assert [catalogue.serves(SERVICE, "orders", "r1") for _ in range(3)] == [None] * 3
    assert catalogue.due(1) == [OF_R1]
    assert catalogue.serves(SERVICE, "orders", "r1") is None
    assert catalogue.described(OF_R1, content("/shop.Orders/Get"), 1)
    assert catalogue.serves(SERVICE, "orders", "r1") is True
    assert catalogue.serves("shop.Returns", "orders", "r1") is False
    assert catalogue.due(1000) == [ASK]


def test_what_cannot_be_known_is_offered(catalogue):
    """No revision, one that was never published, or a registry that does not say: the instance may serve anything."""
    assert catalogue.serves(SERVICE, "orders", "") is True
    catalogue.serves(SERVICE, "orders", "r1")
    catalogue.due(0)
    assert catalogue.failed(OF_R1, "no connection", 0)
    assert catalogue.serves(SERVICE, "orders", "r1") is True
    assert not catalogue.failed(OF_R1, "no connection", 1)
    assert not catalogue.described(OF_R1, None, 2)
    assert catalogue.serves(SERVICE, "orders", "r1") is True
    assert OF_R1 not in catalogue.due(31)
    assert OF_R1 in catalogue.due(32)
    assert catalogue.described(OF_R1, content(), 33)
    assert catalogue.serves(SERVICE, "orders", "r1") is False


def test_what_nobody_follows_is_not_asked(catalogue):
    """The mapping goes with its last consumer; an answer that comes late is no harm."""
    catalogue.follow(SERVICE)
    catalogue.unfollow(SERVICE)
    assert catalogue.due(0) == [ASK]
    catalogue.unfollow(SERVICE)
    assert not catalogue.mapped(SERVICE, ("orders",), 0)
    assert not catalogue.failed(ASK, "late", 0)
    assert catalogue.due(100) == []


def test_what_an_earlier_process_knew_counts_until_the_registry_answers(catalogue):
    """A saved mapping fills a gap, and never replaces an answer."""
    assert catalogue.restore(SERVICE, ("orders",))
    assert catalogue.apps(SERVICE) == ("orders",)
    assert not catalogue.restore(SERVICE, ("returns",))
    assert not catalogue.restore("nobody.follows", ("x",))


def test_interrupted_questions_are_asked_again(catalogue):
    """After a fork the answers will not come."""
    catalogue.serves(SERVICE, "orders", "r1")
    assert len(catalogue.due(0)) == 2
    catalogue.interrupted()
    assert len(catalogue.due(0)) == 2


def test_the_oldest_contents_go(catalogue, monkeypatch):
    """What is remembered has a bound."""
    monkeypatch.setattr("meshsdk.discovery.mapping._MOST_REVISIONS", 2)
    for revision in ("r1", "r2", "r3"):
        catalogue.serves(SERVICE, "orders", revision)
    assert set(catalogue.due(0)) == {ASK, GetRevision("orders", "r2"), GetRevision("orders", "r3")}
