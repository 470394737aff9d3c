"""Watch queues: a reset first, increments after it, and no more than one entry for each instance."""

from __future__ import annotations

from controlplane.registries.leases import Change
from controlplane.registries.watchers import Hub, Watcher
from meshsdk.model.instance import Increment, Instance


def instance(identifier: str, app: str = "orders", **fields: object) -> Instance:
    """Returns an instance."""
    return Instance(app, identifier, f"10.0.0.{identifier}:80", **fields)


def watching(app: str, unit: str, *present: Instance) -> tuple[Hub, Watcher, list[None]]:
    """Returns a hub with a watcher that was added when `present` were registered, and its wake-ups."""
    hub, woken = Hub(), []
    watcher = Watcher(app, unit, lambda: woken.append(None))
    groups: dict[str, dict[str, Instance]] = {}
    for each in present:
        groups.setdefault(each.app, {})[each.id] = each
    hub.add(watcher, groups)
    return hub, watcher, woken


def test_reset_comes_first_and_increments_follow() -> None:
    """The first message holds all there is; a later one only what changed."""
    hub, watcher, woken = watching("orders", "", instance("1"))
    assert list(watcher.take()) == [Increment("orders", (instance("1"),), (), reset=True)]
    hub.offer(Change(None, instance("2")))
    hub.offer(Change(instance("1"), None))
    assert len(woken) == 3
    assert list(watcher.take()) == [Increment("orders", (instance("2"),), ("1",))]
    assert list(watcher.take()) == []


def test_reset_is_sent_for_an_application_without_instances() -> None:
    """Who watches an application nobody registered learns so at once."""
    _, watcher, _ = watching("orders", "")
    assert list(watcher.take()) == [Increment("orders", (), (), reset=True)]


def test_watching_all_lists_each_application_and_marks_the_end() -> None:
    """Who watches all is told each application, then that this was all; one that appears later is a mere change."""
    hub, watcher, _ = watching("", "", instance("1"), instance("1", "users"))
    *listed, mark = watcher.take()
    assert {increment.app for increment in listed if increment.reset} == {"orders", "users"}
    assert mark == Increment("", reset=True)
    hub.offer(Change(None, instance("7", "stock")))
    assert list(watcher.take()) == [Increment("stock", (instance("7", "stock"),))]


def test_empty_listing_of_all_is_the_mark_alone() -> None:
    """Who watches all where nothing is registered learns at once that there is nothing."""
    _, watcher, _ = watching("", "")
    assert list(watcher.take()) == [Increment("", reset=True)]


def test_slow_watcher_gets_the_last_state_only() -> None:
    """Of many changes to one instance, a watcher that did not look sees the last."""
    hub, watcher, _ = watching("orders", "")
    list(watcher.take())
    for weight in range(1, 100):
        hub.offer(Change(instance("1", weight=weight), instance("1", weight=weight + 1)))
    assert list(watcher.take()) == [Increment("orders", (instance("1", weight=100),))]


def test_other_applications_and_units_are_not_seen() -> None:
    """A watcher of one unit sees that unit; an instance that moves away from it is removed."""
    hub, watcher, woken = watching("orders", "u1", instance("1", unit="u1"), instance("2", unit="u2"))
    assert [each.id for each in next(watcher.take()).put] == ["1"]
    woken.clear()
    hub.offer(Change(None, instance("3", "users", unit="u1")))
    hub.offer(Change(None, instance("4", unit="u2")))
    assert woken == []
    hub.offer(Change(instance("1", unit="u1"), instance("1", unit="u2")))
    assert list(watcher.take()) == [Increment("orders", (), ("1",))]


def test_removed_watcher_hears_nothing() -> None:
    """After removal nothing is queued, and removing again is no error."""
    hub, watcher, woken = watching("orders", "")
    hub.remove(watcher)
    hub.remove(watcher)
    woken.clear()
    hub.offer(Change(None, instance("1")))
    assert (woken, len(hub)) == ([], 0)
