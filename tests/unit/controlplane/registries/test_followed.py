"""Instances as a registry tells them: listings, changes, and what cannot be served."""

from __future__ import annotations

import logging

import pytest

from controlplane.registries.followed import Followed
from controlplane.registries.leases import Change
from meshsdk.model.instance import Increment, Instance

MARK = Increment("", reset=True)


def instance(number: int, app: str = "orders", host: str = "10.0.0.1") -> Instance:
    """Returns an instance."""
    return Instance(app, str(number), f"{host}:{number}")


def test_a_listing_is_whole_with_its_mark() -> None:
    """Applications come one by one; with the mark all is told, and what a later listing leaves out is gone."""
    followed = Followed("test")
    assert followed.take(Increment("orders", (instance(1),), reset=True)) == [Change(None, instance(1))]
    assert followed.take(Increment("users", (instance(2, "users"),), reset=True)) == [
        Change(None, instance(2, "users"))
    ]
    assert not followed.listed
    assert followed.take(MARK) == []
    assert followed.listed
    assert followed.take(Increment("stock", (instance(3, "stock"),))) == [Change(None, instance(3, "stock"))]
    assert followed.take(Increment("orders", (instance(1), instance(4)), reset=True)) == [Change(None, instance(4))]
    gone = followed.take(MARK)
    assert gone == [Change(instance(2, "users"), None), Change(instance(3, "stock"), None)]
    assert {app: set(group) for app, group in followed.instances.items()} == {"orders": {"1", "4"}}


def test_a_reset_of_one_application_leaves_the_others() -> None:
    """An application that is told anew has what is told, and nothing else changes."""
    followed = Followed("test")
    for increment in (
        Increment("orders", (instance(1), instance(2)), reset=True),
        Increment("users", (instance(3, "users"),), reset=True),
        MARK,
    ):
        followed.take(increment)
    assert followed.take(Increment("orders", (instance(2),), reset=True)) == [Change(instance(1), None)]
    assert followed.count == 2


def test_what_cannot_be_served_is_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """A host name is no endpoint of xDS: logged once, counted while it is there, and served once it is mended."""
    followed = Followed("registry main")
    named = instance(1, host="orders.example")
    with caplog.at_level(logging.WARNING):
        assert followed.take(Increment("orders", (named, instance(2)))) == [Change(None, instance(2))]
        assert followed.take(Increment("orders", (named,))) == []
    assert followed.skipped == 1
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("orders/1 of registry main is not served: address: 'orders.example:1'")
    assert followed.take(Increment("orders", (instance(1),))) == [Change(None, instance(1))]
    assert followed.skipped == 0
    assert followed.take(Increment("orders", (named,))) == [Change(instance(1), None)]
    assert followed.take(Increment("orders", removed=("1", "2", "9"))) == [Change(instance(2), None)]
    assert (followed.skipped, dict(followed.instances)) == (0, {})
