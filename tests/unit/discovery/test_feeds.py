"""RegistryFeeds: desks on threads, over a registry played by the test. Waits on what is told, never for a time."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from meshsdk.bootstrap import load_bootstrap
from meshsdk.discovery import shift
from meshsdk.discovery.feeds import RegistryFeeds
from meshsdk.discovery.registry import MalformedEntry
from meshsdk.errors import ConfigurationError, RegistryError
from meshsdk.model.instance import Increment, Instance
from meshsdk.model.migration import Migration
from meshsdk.model.resources import Kind, RegistrySource
from meshsdk.model.snapshot import Key

PATIENCE = 20  # seconds
ORDERS = RegistrySource("default", app="orders")
KEY = Key(Kind.INSTANCES, "orders")
ONE, TWO = (Instance("orders", str(n), f"10.0.0.{n}:1") for n in (1, 2))
SERVICE = RegistrySource("default", interface="shop.Orders")
OLD = Instance("shop.Orders", "old", "10.9.9.9:1")


class _Watch:
    def __init__(self, registry, app, tell) -> None:
        self.registry, self.app, self.tell = registry, app, tell

    def cancel(self) -> None:
        self.registry.watches.remove(self)
        self.registry.cancelled.put(self.app)


class Registry:
    """A registry that says what the test lets it say."""

    def __init__(self) -> None:
        self.watches: list[_Watch] = []
        self.opened: queue.SimpleQueue[_Watch] = queue.SimpleQueue()
        self.cancelled: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.refusals: list[Exception] = []
        self.answering = threading.Event()
        self.answering.set()
        self.apps: dict[str, tuple[str, ...]] = {}
        self.revision: Exception | None = None
        self.closing = threading.Event()
        self.closing.set()
        self.watching = threading.Event()
        self.watching.set()
        self.closed = 0

    def watch(self, app, unit, on_increment):
        """See `Feed`."""
        del unit
        assert self.watching.wait(PATIENCE)
        if self.refusals:
            raise self.refusals.pop(0)
        watch = _Watch(self, app, on_increment)
        self.watches.append(watch)
        self.opened.put(watch)
        return watch

    def map_service(self, service):
        """See `Catalog`."""
        assert self.answering.wait(PATIENCE)
        if service not in self.apps:
            raise RegistryError("no catalogue")
        return self.apps[service]

    def get_revision(self, app, revision):
        """See `Catalog`."""
        if self.revision is not None:
            raise self.revision

    def close(self) -> None:
        """See `Registry`."""
        assert self.closing.wait(PATIENCE)
        self.closed += 1

    def next_watch(self) -> _Watch:
        """Waits for a watch."""
        return self.opened.get(timeout=PATIENCE)

    def list(self, app: str, *instances: Instance) -> None:
        """Waits for a watch of `app` and lists its instances."""
        watch = self.next_watch()
        assert watch.app == app
        watch.tell(Increment(app, instances, reset=True))


@pytest.fixture
def registry(monkeypatch) -> Registry:
    """The registry behind every name."""
    made = Registry()
    monkeypatch.setattr("meshsdk.discovery.feeds.open_registry_of", lambda *_: made)
    return made


class Desk:
    """Feeds and what they told."""

    def __init__(self, **section) -> None:
        registries = {"default": {"url": "etcd://user:secret@h:1/x"}}
        self.feeds = RegistryFeeds(load_bootstrap({"meshsdk": {"registries": registries, **section}}, {}))
        self.told: queue.SimpleQueue = queue.SimpleQueue()
        self.feeds.start(self.told.put)

    def next(self) -> tuple[set[str] | None, str]:
        """Waits for what is told next: addresses, and the problem."""
        told = self.told.get(timeout=PATIENCE)
        if told.endpoints is None:
            return None, told.problem
        return {one.address for place in told.endpoints.localities for one in place.endpoints}, told.problem


def _let_old_threads_end(registry: Registry) -> None:
    """Lets what hangs go on, and waits until only the newest thread of the desk is left."""
    *old, _ = [thread for thread in threading.enumerate() if thread.name == "meshsdk-registry-default"]
    registry.closing.set()
    registry.watching.set()
    for thread in old:
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.fixture
def desk(registry) -> Iterator[Desk]:
    """Feeds that tell; afterwards no thread of theirs is left."""
    del registry
    made = Desk()
    yield made
    made.feeds.stop()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("meshsdk-")] == []


def test_what_is_followed_is_told_and_then_no_more(desk, registry):
    """A listing and a change are told; after the end the watch is cancelled and nothing more is told."""
    desk.feeds.follow(KEY, ORDERS)
    watch = registry.next_watch()
    watch.tell(Increment("orders", (ONE,), reset=True))
    assert desk.next() == ({ONE.address}, "")
    watch.tell(Increment("orders", (TWO,), (ONE.id,)))
    assert desk.next() == ({TWO.address}, "")
    desk.feeds.unfollow(KEY)
    assert registry.cancelled.get(timeout=PATIENCE) == "orders"
    watch.tell(Increment("orders", (ONE,)))
    desk.feeds.follow(KEY, ORDERS)
    again = registry.next_watch()
    again.tell(Increment("orders", (TWO,), reset=True))
    assert desk.next() == ({TWO.address}, "")
    watch.tell(Increment("orders", (ONE,)))  # a delivery that was under way when it was cancelled
    again.tell(Increment("orders", (replace(TWO, weight=2),)))
    assert desk.next() == ({TWO.address}, "")


def test_a_stop_keeps_what_is_known(desk, registry):
    """As around a fork: threads and connections end; after it what was known is told at once, and followed anew."""
    desk.feeds.follow(KEY, ORDERS)
    registry.list("orders", ONE)
    desk.next()
    desk.feeds.stop()
    assert (registry.watches, registry.closed) == ([], 1)
    desk.feeds.follow(KEY, ORDERS)  # nobody is there to be told
    desk.feeds.start(desk.told.put)
    desk.feeds.follow(KEY, ORDERS)
    assert desk.next() == ({ONE.address}, "")
    registry.list("orders", ONE, TWO)
    assert desk.next() == ({ONE.address, TWO.address}, "")


def test_a_stop_drops_what_nobody_asked_for_again(desk, registry):
    """What was not followed in the run before is forgotten: following it is a beginning."""
    desk.feeds.follow(KEY, ORDERS)
    registry.list("orders", ONE)
    desk.next()
    desk.feeds.stop()
    desk.feeds.start(desk.told.put)
    other = Key(Kind.INSTANCES, "other")
    desk.feeds.follow(other, replace(ORDERS, app="other"))
    registry.list("other")
    desk.next()
    desk.feeds.stop()
    desk.feeds.start(desk.told.put)
    desk.feeds.follow(KEY, ORDERS)
    registry.list("orders", TWO)
    assert desk.next() == ({TWO.address}, "")


def test_a_slow_catalogue_holds_up_no_instance(desk, registry):
    """While a mapping is being asked for, instances of other sources are told."""
    registry.answering.clear()
    registry.apps["shop.Orders"] = ()
    other = Key(Kind.INSTANCES, "service")
    desk.feeds.follow(other, SERVICE)
    named = registry.next_watch()
    assert named.app == "shop.Orders"
    desk.feeds.follow(KEY, ORDERS)
    registry.list("orders", ONE)
    assert desk.next() == ({ONE.address}, "")
    named.tell(Increment("shop.Orders", (OLD,), reset=True))
    registry.answering.set()
    assert desk.next() == ({OLD.address}, "")


@pytest.mark.parametrize("refusal", [RegistryError("too many watches"), KeyError("a defect")])
def test_a_watch_that_cannot_be_made_is_tried_again(desk, registry, refusal, monkeypatch, caplog):
    """The problem is logged once and told in words; other sources are not held up; in the end it is made."""
    monkeypatch.setattr("meshsdk.discovery.shift._RETRY", 0.05)
    registry.refusals = [refusal] * 3
    with caplog.at_level(logging.WARNING):
        desk.feeds.follow(KEY, ORDERS)
        registry.list("orders", ONE)
        told = [desk.next()]
        while told[-1][0] is None:
            told.append(desk.next())
    assert told[-1] == ({ONE.address}, "")
    assert caplog.text.count("cannot watch 'orders'") == 1
    assert all("registry 'default' (etcd://***@h:1/x): " in problem for _, problem in told[:-1])


def test_a_registry_without_a_catalogue(desk, registry):
    """Its words are told, without what the URL holds of secrets; the instances under the name take their place."""
    desk.feeds.follow(KEY, SERVICE)
    assert desk.next() == (None, "registry 'default' (etcd://***@h:1/x): no catalogue")
    registry.list("shop.Orders", OLD)
    assert desk.next() == ({OLD.address}, "")


def test_a_malformed_revision_is_no_outage(desk, registry, caplog):
    """Its instance is offered, nothing is said to be away, and one line names the entry, however often it is asked."""
    registry.apps["shop.Orders"] = ("orders",)
    registry.revision = MalformedEntry("entry '/revisions/orders/r1': not JSON")
    desk.feeds.follow(KEY, SERVICE)
    watches = {watch.app: watch for watch in (registry.next_watch(), registry.next_watch())}
    watches["shop.Orders"].tell(Increment("shop.Orders", reset=True))
    watches["orders"].tell(Increment("orders", (replace(ONE, revision="r1"),), reset=True))
    assert desk.next() == ({ONE.address}, "")
    desk.feeds.follow(KEY._replace(name="other"), replace(ORDERS, app="other"))
    registry.list("other", TWO)
    assert desk.next()[1] == ""
    assert caplog.text.count("entry '/revisions/orders/r1': not JSON") == 1


def test_a_registry_that_does_not_close_in_time(desk, registry, monkeypatch, caplog):
    """The stop returns; what was known is told at once by the next thread, which nothing of the old one ends."""
    monkeypatch.setattr("meshsdk.discovery.feeds._STOPPING", 0.05)
    desk.feeds.follow(KEY, ORDERS)
    registry.list("orders", ONE)
    desk.next()
    registry.closing.clear()
    desk.feeds.stop()
    assert "has not ended within" in caplog.text
    desk.feeds.start(desk.told.put)
    desk.feeds.follow(KEY, ORDERS)
    assert desk.next() == ({ONE.address}, "")
    watch = registry.next_watch()
    _let_old_threads_end(registry)
    watch.tell(Increment("orders", (TWO,), reset=True))
    told = desk.next()
    assert TWO.address in told[0]
    assert registry.watches == [watch]


def test_a_thread_that_hangs_is_left_to_itself(desk, registry, monkeypatch):
    """It is inside a registry when it is to end: the next one tells what was told last, and follows anew."""
    monkeypatch.setattr("meshsdk.discovery.feeds._STOPPING", 0.05)
    desk.feeds.follow(KEY, ORDERS)
    registry.list("orders", ONE)
    desk.next()
    registry.watching.clear()
    desk.feeds.follow(KEY._replace(name="other"), replace(ORDERS, app="other"))
    desk.feeds.stop()
    desk.feeds.start(desk.told.put)
    desk.feeds.follow(KEY, ORDERS)
    assert desk.next() == ({ONE.address}, shift._REMEMBERED)
    _let_old_threads_end(registry)
    while (watch := registry.next_watch()).app != "orders":
        pass
    watch.tell(Increment("orders", (TWO,), reset=True))
    assert desk.next() == ({TWO.address}, "")


def test_registries_are_stopped_together(registry, monkeypatch):
    """Two that do not close in time cost the patience for one; none is waited for before the other was told."""
    waits = []
    monkeypatch.setattr("meshsdk.discovery.desk.Desk.join", lambda self, seconds: waits.append((self, seconds)))
    ended = []
    monkeypatch.setattr("meshsdk.discovery.desk.Desk.end", lambda self: ended.append((self, len(waits))))
    monkeypatch.setattr("meshsdk.discovery.desk.Desk.start", lambda *_: None)
    feeds = RegistryFeeds(
        load_bootstrap({"meshsdk": {"registries": {name: {"url": "etcd://h:1"} for name in ("a", "b")}}}, {})
    )
    feeds.start(lambda _: None)
    for name in ("a", "b"):
        feeds.follow(KEY._replace(name=name), replace(ORDERS, registry=name))
    feeds.stop()
    assert [before for _, before in ended] == [0, 0]
    assert sum(1 for _ in waits) == 2
    assert waits[1][1] <= waits[0][1] <= 5
    del registry


def test_registries_that_cannot_be_opened(monkeypatch):
    """An unknown name and a URL that no adapter takes: an error for whoever asks, and told to whoever follows."""
    desk = Desk()
    with pytest.raises(ConfigurationError, match=r"has no 'other' \(it has: default\)"):
        desk.feeds.open("other")

    def refused(*_):
        raise ConfigurationError("no such scheme")

    monkeypatch.setattr("meshsdk.discovery.feeds.open_registry_of", refused)
    with pytest.raises(ConfigurationError, match="no such scheme"):
        desk.feeds.open("default")
    desk.feeds.follow(KEY, ORDERS)
    assert desk.next() == (None, "no such scheme")
    desk.feeds.unfollow(KEY)
    desk.feeds.stop()


@pytest.mark.parametrize(
    ("section", "of_cluster", "set_by_application", "mode"),
    [
        ({}, None, None, Migration.APPLICATION_FIRST),
        ({"default": "FORCE_INTERFACE"}, None, None, Migration.FORCE_INTERFACE),
        (
            {"default": "FORCE_INTERFACE", "services": {"shop.Orders": "FORCE_APPLICATION"}},
            None,
            None,
            Migration.FORCE_APPLICATION,
        ),
        ({"services": {"shop.Orders": "FORCE_APPLICATION"}}, "FORCE_INTERFACE", None, Migration.FORCE_INTERFACE),
        ({}, "FORCE_INTERFACE", "FORCE_APPLICATION", Migration.FORCE_APPLICATION),
    ],
)
def test_whose_word_on_migration_counts(section, of_cluster, set_by_application, mode):
    """The application's own, then the control plane's, then the bootstrap's for the service, then its default."""
    feeds = Desk(migration=section).feeds
    source = RegistrySource("default", interface="shop.Orders", migration=of_cluster and Migration(of_cluster))
    if set_by_application:
        feeds.migrate("shop.Orders", Migration(set_by_application))
    assert feeds._mode(source) is mode
    feeds.migrate("shop.Orders", None)
    assert feeds._mode(RegistrySource("default", interface="other.Service")) is Migration(
        section.get("default", "APPLICATION_FIRST")
    )


def test_what_is_known_is_saved(registry, tmp_path, monkeypatch):
    """With a cache directory the next process starts with the instances of this one, though the registry is silent."""
    monkeypatch.setattr("meshsdk.discovery.consumer._PATIENCE", 0.05)
    monkeypatch.setattr("meshsdk.discovery.consumer._GLANCE", 0.05)
    first = Desk(cache_dir=str(tmp_path))
    first.feeds.follow(KEY, ORDERS)
    registry.list("orders", ONE)
    first.next()
    first.feeds.stop()
    second = Desk(cache_dir=str(tmp_path))
    second.feeds.follow(KEY, ORDERS)
    addresses, problem = second.next()
    assert addresses == {ONE.address}
    assert "known before" in problem
    second.feeds.stop()
