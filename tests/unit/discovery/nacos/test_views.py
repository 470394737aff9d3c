"""Views of services: what is told, what is doubted, and what is kept for a while."""

from __future__ import annotations

import pytest

from meshsdk.discovery.mirror import Mirror
from meshsdk.discovery.nacos.hosts import from_host
from meshsdk.discovery.nacos.views import Taken, View, Watcher
from meshsdk.model.instance import Increment


def info(*addresses: str, stamp: int = 1) -> dict:
    """Returns a listing as Nacos sends it."""
    hosts = [{"ip": address, "port": 1, "clusterName": "DEFAULT"} for address in addresses]
    return {"hosts": hosts, "lastRefTime": stamp}


@pytest.fixture
def told() -> list[Increment]:
    """What the watcher was told."""
    return []


@pytest.fixture
def view(told) -> View:
    """A view with one watcher, subscribed on connection 1."""
    mirror = Mirror("Nacos", "a", "", lambda _, host: from_host(host.app, host.raw), told.append)
    made = View("a", [Watcher("a", "", mirror)])
    made.subscribed(1, "", 0.0, 10.0)
    return made


def ids(increments: list[Increment]) -> list[tuple[list[str], list[str], bool]]:
    """Returns increments in short: put, removed, reset."""
    return [([i.address for i in each.put], list(each.removed), each.reset) for each in increments]


def test_the_first_listing_is_a_reset_and_then_changes_are_told(view, told):
    """Also where it is empty: then nobody needs to wait."""
    assert view.listing(info(), 0.0) is Taken.SETTLED
    assert view.listing(info("h1", "h2", stamp=2), 0.0) is Taken.SETTLED
    assert view.listing(info("h1", stamp=3), 0.0) is Taken.SETTLED
    assert ids(told) == [([], [], True), (["h1:1", "h2:1"], [], False), ([], ["h2:1"], False)]


def test_an_older_push_is_dropped(view, told):
    """A push may overtake the answer to the subscription."""
    view.listing(info("h1", "h2", stamp=5), 0.0)
    assert view.listing(info("h1", stamp=4), 0.0) is Taken.STALE
    assert len(told) == 1


def test_a_service_that_seems_empty_is_doubted(view, told):
    """All gone at once is told only when the server says it again."""
    view.listing(info("h1", stamp=1), 0.0)
    assert view.listing(info(stamp=2), 0.0) is Taken.DOUBTED
    assert len(told) == 1
    assert view.listing(info(stamp=3), 0.0, sure=True) is Taken.SETTLED
    assert ids(told)[-1] == ([], ["h1:1"], False)


def test_what_a_new_connection_lacks_is_kept_for_a_while(view, told):
    """After a restart the server knows those who have come back; the others are kept until the grace period ends."""
    view.listing(info("h1", "h2", stamp=50), 0.0)
    view.subscribed(2, "", 100.0, 10.0)
    assert view.listing(info(stamp=1), 100.0) is Taken.KEPT, "the clock of another server may be behind"
    assert view.listing(info("h2", "h3", stamp=2), 101.0) is Taken.KEPT
    assert ids(told[1:]) == [(["h3:1"], [], False)]
    assert view.listing(info("h2", "h3", stamp=3), 110.0) is Taken.SETTLED
    assert ids(told)[-1] == ([], ["h1:1"], False)


def test_the_first_connection_has_no_grace(view, told):
    """Nothing was known before it."""
    view.listing(info("h1", "h2", stamp=1), 0.0)
    assert view.listing(info("h1", stamp=2), 0.1) is Taken.SETTLED
    assert ids(told)[-1] == ([], ["h2:1"], False)


def test_equal_entries_are_told_apart(view, told):
    """Two connections registered one address: that is one instance, and when one of them goes it stays."""
    view.listing(info("h1", "h1", stamp=1), 0.0)
    view.listing(info("h1", stamp=2), 0.0)
    assert ids(told) == [(["h1:1"], [], True)]


@pytest.mark.parametrize(
    ("units", "clusters"),
    [(["u2", "u1", "u1"], "u1,u2"), (["u1", ""], ""), ([], ""), (["no_unit"], "DEFAULT")],
)
def test_only_the_clusters_that_are_watched_are_wanted(units, clusters):
    """The union of the units, or all."""
    made = View("a", [Watcher("a", unit, Mirror("Nacos", "a", unit, None, None)) for unit in units])
    assert made.wanted_clusters() == clusters
