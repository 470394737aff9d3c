"""Instances that a registry says are gone: who is believed, who stays for a while, until when, and who comes back."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from controlplane.registries.feed import without_protection
from controlplane.registries.followed import Followed
from controlplane.registries.leases import Change
from meshsdk.errors import ConfigurationError
from meshsdk.model.instance import Increment, Instance, InstanceState

MARK = Increment("", reset=True)
PERIOD = 60.0


def instance(number: int, app: str = "orders", state: InstanceState = InstanceState.ONLINE) -> Instance:
    """Returns an instance."""
    return Instance(app, str(number), f"10.0.0.1:{5000 + number}", state=state)


def followed(count: int, period: float = PERIOD) -> Followed:
    """Returns a registry that has told `count` instances of `orders` at 0."""
    made = Followed("registry main", period)
    made.take(Increment("orders", tuple(instance(number) for number in range(count)), reset=True), 0.0)
    made.take(MARK, 0.0)
    return made


def test_a_loss_that_leaves_half_is_believed() -> None:
    """Two of four vanish without a word: they are gone at once."""
    registry = followed(4)
    gone = registry.take(Increment("orders", removed=("0", "1")), 1.0)
    assert gone == [Change(instance(0), None), Change(instance(1), None)]
    assert (registry.count, registry.doubted) == (2, 0)


def test_a_loss_beyond_half_is_doubted_and_ends_with_the_period(caplog: pytest.LogCaptureFixture) -> None:
    """Three of four vanish: they stay and are counted and logged, until the period is over."""
    registry = followed(4)
    with caplog.at_level(logging.WARNING):
        assert registry.take(Increment("orders", removed=("0", "1", "2")), 1.0) == []
    assert caplog.messages == [
        (
            "registry main: the registry says that 3 of 4 instances of 'orders' are gone without a word; in doubt, "
            "they stay in use until they are listed again, for 60 s at most (longer while the registry is away)"
        )
    ]
    assert (registry.count, registry.doubted, registry.next_deadline()) == (4, 3, 1.0 + PERIOD)
    assert registry.settle(PERIOD, away=False) == []
    assert len(registry.settle(1.0 + PERIOD, away=False)) == 3
    assert (registry.count, registry.doubted, registry.next_deadline()) == (1, 0, None)


def test_losses_one_by_one_are_one_loss() -> None:
    """Leases lapse one after another: with the third of four the two before it come back, as they were."""
    registry = followed(4)
    told = [registry.take(Increment("orders", removed=(str(number),)), float(number)) for number in range(4)]
    assert told[:2] == [[Change(instance(0), None)], [Change(instance(1), None)]]
    assert told[2:] == [[Change(None, instance(0)), Change(None, instance(1))], []]
    assert (registry.count, registry.doubted) == (4, 4)
    assert len(registry.settle(2.0 + PERIOD, away=False)) == 3
    assert (registry.count, registry.doubted, registry.next_deadline()) == (1, 1, 3.0 + PERIOD)


def test_the_recalled_go_when_all_others_are_told_again(caplog: pytest.LogCaptureFixture) -> None:
    """One that was killed comes back with a doubt, and goes with it: at once, with a line that says so."""
    caplog.set_level(logging.INFO)
    registry = followed(3)
    registry.take(Increment("orders", removed=("0",)), 1.0)
    assert registry.take(Increment("orders", reset=True), 2.0) == [Change(None, instance(0))]
    caplog.clear()
    assert registry.take(Increment("orders", (instance(1),)), 3.0) == []
    assert registry.take(Increment("orders", (instance(2),)), 4.0) == [Change(instance(0), None)]
    assert (registry.count, registry.doubted, registry.next_deadline()) == (2, 0, None)
    assert caplog.messages == [
        "registry main: the doubt about 3 instances of 'orders' is over; 1 are not listed again and no longer used"
    ]


def test_who_was_told_of_since_is_not_recalled() -> None:
    """Of three that went, one is back elsewhere and one cannot be served any more: a doubt recalls the third alone."""
    registry = followed(8)
    registry.take(Increment("orders", removed=("0", "1", "2")), 1.0)
    moved = replace(instance(0), address="10.0.0.2:1")
    named = replace(instance(1), address="orders.example:1")
    assert registry.take(Increment("orders", (moved, named)), 2.0) == [Change(None, moved)]
    assert registry.take(Increment("orders", removed=("3", "4", "5", "6")), 3.0) == [Change(None, instance(2))]
    assert (registry.instances["orders"]["0"], registry.skipped, registry.doubted) == (moved, 1, 5)


def test_who_is_told_again_is_in_no_doubt() -> None:
    """An empty listing is doubted; then all register anew, and stay when the period is over."""
    registry = followed(3)
    assert registry.take(Increment("orders", reset=True), 1.0) == []
    assert registry.take(MARK, 1.0) == []
    assert registry.doubted == 3
    moved = replace(instance(2), weight=7)
    told = registry.take(Increment("orders", (instance(0), instance(1), moved)), 2.0)
    assert told == [Change(instance(2), moved)]
    assert registry.doubted == 0
    assert registry.settle(10 * PERIOD, away=False) == []
    assert registry.count == 3


def test_an_application_that_a_listing_leaves_out_is_doubted_too() -> None:
    """A registry that lost its data tells nothing of it but the mark: all stay, through further listings."""
    registry = followed(2)
    for now in (1.0, 2.0):
        assert registry.take(MARK, now) == []
    assert registry.doubted == 2
    assert len(registry.settle(1.0 + PERIOD, away=False)) == 2
    assert (registry.count, dict(registry.instances)) == (0, {})


def test_who_said_goodbye_is_believed() -> None:
    """All drain and go: none stays, though nobody is left."""
    registry = followed(3)
    draining = tuple(instance(number, state=InstanceState.DRAINING) for number in range(3))
    registry.take(Increment("orders", draining), 1.0)
    assert len(registry.take(Increment("orders", removed=("0", "1", "2")), 2.0)) == 3
    assert (registry.count, registry.doubted) == (0, 0)


def test_while_the_registry_is_away_doubts_go_on() -> None:
    """Nobody could dispel them: the period begins anew."""
    registry = followed(1)
    registry.take(Increment("orders", removed=("0",)), 0.0)
    assert registry.settle(PERIOD, away=True) == []
    assert registry.next_deadline() == 2 * PERIOD
    assert len(registry.settle(2 * PERIOD, away=False)) == 1


def test_applications_are_doubted_each_for_itself() -> None:
    """One application loses its only instance: the many of another make that no smaller a loss."""
    registry = followed(10)
    registry.take(Increment("users", (instance(1, "users"),)), 0.0)
    assert registry.take(Increment("users", removed=("1",)), 1.0) == []
    assert registry.doubted == 1


def test_without_a_period_all_is_believed() -> None:
    """The protection is off: what is gone is gone."""
    registry = followed(3, period=0.0)
    assert len(registry.take(Increment("orders", reset=True), 1.0)) == 3
    assert (registry.count, registry.doubted) == (0, 0)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("etcd://h:1", ("etcd://h:1", 60.0)),
        ("etcd://h:1?prefix=/a&protection_seconds=5.5&timeout=1", ("etcd://h:1?prefix=/a&timeout=1", 5.5)),
        ("sqlite:///a/b?protection_seconds=0", ("sqlite:///a/b", 0.0)),
    ],
)
def test_the_period_is_in_the_url(url: str, expected: tuple[str, float]) -> None:
    """It is taken out of the URL of a feed; registries do not know it."""
    assert without_protection(url, "--registry a=b") == expected


@pytest.mark.parametrize("value", ["-1", "nan", "soon", "", "3601"])
def test_a_period_that_is_none(value: str) -> None:
    """Is refused with its place."""
    with pytest.raises(ConfigurationError, match=r"--registry a: protection_seconds=.* is not between 0 and 3600"):
        without_protection(f"etcd://h:1?protection_seconds={value}", "--registry a")
