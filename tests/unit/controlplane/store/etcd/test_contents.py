"""What a control plane makes of etcd's news: instances, resources, outages and losses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from controlplane.model.identity import ResourceId, ResourceKind
from controlplane.registries.leases import Change
from controlplane.registries.watchers import Watcher
from controlplane.store.etcd.contents import GRACE, Contents
from controlplane.store.etcd.layout import StoreLayout, row_text
from controlplane.store.port import StoredResource
from controlplane.store.shared import Drained
from meshsdk.discovery import entries
from meshsdk.discovery.etcd.values import Batch, Entry, Listing
from meshsdk.model.instance import Increment, Instance, InstanceState, MethodInfo, Revision

KEYS, LAYOUT = entries.Layout("/m"), StoreLayout("/m")
ORDERS = Instance("orders", "1", "10.0.0.1:80", revision="r1")
ROW = StoredResource(ResourceId(ResourceKind.SERVICE_ENTRY, "default", "orders"), "text", "f.yaml", 3)


class Store:
    """An etcd in words: what is in it, and what a reader is told."""

    def __init__(self) -> None:
        self.contents = Contents("etcd", "/m")
        self.revision = 10
        self.held: dict[str, Entry] = {}

    def entry(self, key: str, value: bytes, lease: int = 0) -> Entry:
        """Writes a key."""
        self.revision += 1
        self.held[key] = Entry(key, value, self.revision, lease)
        return self.held[key]

    def instance(self, instance: Instance, lease: int = 7) -> Entry:
        """Writes an instance."""
        return self.entry(KEYS.instance(instance), entries.instance_to_text(instance), lease)

    def listing(self, now: float = 0.0) -> Drained:
        """Tells all there is."""
        return self.contents.take(Listing(1, self.revision, dict(self.held)), now)

    def put(self, *put: Entry, now: float = 0.0) -> Drained:
        """Tells of keys that were written."""
        return self.contents.take(Batch(1, self.revision, {entry.key: entry for entry in put}), now)

    def remove(self, *keys: str, now: float = 0.0) -> Drained:
        """Removes keys and tells so."""
        self.revision += 1
        for key in keys:
            self.held.pop(key, None)
        return self.contents.take(Batch(1, self.revision, {}, keys), now)

    def served(self) -> list[str]:
        """Returns the ids of the instances of orders that are served."""
        return sorted(self.contents.instances.get("orders", {}))


def listed(*instances: Instance) -> Store:
    """Returns a store with these instances, read at time 0."""
    store = Store()
    for number, instance in enumerate(instances, 1):
        store.instance(instance, number)
    store.listing()
    return store


def test_instances_come_change_and_go() -> None:
    """A listing, then changes: each is one change of an instance, and leases lead to keys."""
    store = Store()
    store.instance(ORDERS)
    watcher = Watcher("", "", lambda: None)
    store.contents.hub.add(watcher, store.contents.instances)
    assert store.listing() == Drained((Change(None, ORDERS),))
    assert store.contents.key_of(7) == KEYS.instance(ORDERS)
    draining = replace(ORDERS, state=InstanceState.DRAINING)
    assert store.put(store.instance(draining)).instances == (Change(ORDERS, draining),)
    assert store.contents.instance_at(KEYS.instance(ORDERS)) == draining
    assert store.remove(KEYS.instance(ORDERS)).instances == (Change(draining, None),)
    assert store.contents.key_of(7) is None
    assert store.contents.counts() == {"leases": 0, "revisions": 0, "watchers": 1}
    assert list(watcher.take()) == [Increment("orders", reset=True), Increment("", reset=True)]


def test_a_new_lease_voids_the_old_one() -> None:
    """Who registers again under another lease is found by that one alone."""
    store = listed(ORDERS)
    store.put(store.instance(ORDERS, 9))
    assert (store.contents.key_of(1), store.contents.key_of(9)) == (None, KEYS.instance(ORDERS))
    store.remove(KEYS.instance(ORDERS))
    assert store.served() == []


def test_what_vanishes_in_an_outage_is_kept_for_a_while() -> None:
    """Leases that ran out while etcd was away: the instances stay, and go if they do not come back in time."""
    other = replace(ORDERS, id="2", address="10.0.0.2:80")
    store = listed(ORDERS, other)
    store.contents.wary(100.0)
    assert store.remove(KEYS.instance(ORDERS), KEYS.instance(other), now=101.0).instances == ()
    assert store.served() == ["1", "2"]
    assert (store.contents.held, store.contents.key_of(1)) == (2, None)
    assert store.put(store.instance(ORDERS, 9), now=103.0).instances == ()
    assert store.contents.next_deadline() == 101.0 + GRACE
    assert store.contents.tick(101.0 + GRACE - 0.1) == ()
    assert store.contents.tick(101.0 + GRACE) == (Change(other, None),)
    assert (store.served(), store.contents.next_deadline()) == (["1"], None)
    store.remove(KEYS.instance(ORDERS), now=101.0 + GRACE)
    assert store.served() == []


def test_who_was_leaving_is_not_kept() -> None:
    """A draining instance, and one that is deregistered here, go at once also in an outage."""
    draining = replace(ORDERS, id="2", address="10.0.0.2:80", state=InstanceState.DRAINING)
    store = listed(ORDERS, draining)
    store.contents.wary(100.0)
    store.contents.leaves(KEYS.instance(ORDERS))
    store.remove(KEYS.instance(ORDERS), KEYS.instance(draining), now=101.0)
    assert store.served() == []


def test_an_empty_listing_takes_nobody_out_at_once() -> None:
    """etcd comes back empty: the instances stay until they have registered again, or their time is over."""
    store = listed(ORDERS)
    store.held.clear()
    assert store.listing(100.0).instances == ()
    assert store.served() == ["1"]
    store.instance(ORDERS, 9)
    assert store.listing(101.0).instances == ()
    assert (store.contents.held, store.contents.key_of(9)) == (0, KEYS.instance(ORDERS))
    store.held.clear()
    store.listing(102.0)
    assert store.contents.tick(102.0 + GRACE) == (Change(ORDERS, None),)


def generation(store: Store) -> Entry:
    """Writes the generation."""
    return store.entry(LAYOUT.generation, b"x")


def test_resources_follow_with_their_generation() -> None:
    """A change and its generation come together; the same row again is no change."""
    store = Store()
    store.listing()
    put = [store.entry(LAYOUT.resource(ROW.id), row_text(ROW)), generation(store)]
    assert store.put(*put) == Drained((), (ROW,), ())
    assert store.contents.generation == store.revision
    assert store.listing() == Drained()
    assert store.contents.rows() == [ROW]
    changed = replace(ROW, text="other")
    assert store.put(store.entry(LAYOUT.resource(ROW.id), row_text(changed)), generation(store)).put == (changed,)
    store.held.pop(LAYOUT.resource(ROW.id))
    assert store.listing().removed == (ROW.id,)


def test_a_store_without_its_generation_has_lost_its_data() -> None:
    """Resources stay in force when they vanish with their generation, and are no longer lost once they are back."""
    store = Store()
    store.listing()
    put = [store.entry(LAYOUT.resource(ROW.id), row_text(ROW)), generation(store)]
    store.put(*put)
    for lose in (lambda: store.remove(LAYOUT.resource(ROW.id), LAYOUT.generation), store.listing):
        assert lose() == Drained()
        assert (store.contents.rows(), store.contents.lost, store.contents.generation) == ([ROW], True, 0)
    put = [store.entry(LAYOUT.resource(ROW.id), row_text(ROW)), generation(store)]
    assert store.put(*put) == Drained()
    assert not store.contents.lost
    assert store.remove(LAYOUT.resource(ROW.id)).removed == (ROW.id,)


def test_what_others_left_is_skipped(caplog) -> None:
    """Entries that cannot be read neither stop nor change anything."""
    store = listed(ORDERS)
    rubbish = [
        store.entry("/m/instances/orders/-/9", b"no json"),
        store.entry("/m/instances/orders/u/1", entries.instance_to_text(ORDERS)),
        store.entry("/m/config/resources/Pod/default/x", b"{}"),
        store.entry("/m/config/resources/ServiceEntry/default/x", b"[]"),
        store.entry("/m/config/resources/short", b"{}"),
        store.entry("/m/revisions/orders/r9", b"{}"),
    ]
    assert store.put(*rubbish) == Drained()
    assert (store.served(), store.contents.skipped, store.contents.rows()) == (["1"], 2, [])
    assert len(caplog.messages) == 6


def test_revisions_and_replicas_are_followed() -> None:
    """What is published is found while it is there; control planes are counted."""
    store = listed(ORDERS)
    revision = Revision("orders", "r1", (MethodInfo("/shop.Orders/Get"),))
    key = KEYS.revision("orders", "r1")
    store.put(store.entry(key, entries.revision_to_text(revision)), store.entry(LAYOUT.replica("a"), b"{}", 5))
    assert store.contents.revisions.find("orders", "r1") == revision
    assert store.contents.revisions.serving("shop.Orders", store.contents.instances) == ["orders"]
    assert store.contents.replicas == 1
    store.remove(key, LAYOUT.replica("a"))
    assert (len(store.contents.revisions), store.contents.replicas) == (0, 0)


def test_rows_survive_their_way() -> None:
    """A row comes back as it was written, whatever its names hold."""
    odd = replace(ROW, id=ResourceId(ResourceKind.VIRTUAL_SERVICE, "team.a", "x-1"), text="a: ü\n")
    key = LAYOUT.resource(odd.id)
    assert key == "/m/config/resources/VirtualService/team.a/x-1"
    assert LAYOUT.row(key, row_text(odd)) == odd
    written: Mapping[str, object] = json.loads(row_text(odd))
    assert written == {"text": "a: ü\n", "file": "f.yaml", "first_line": 3}
