"""Registration: table, store, revisions and watchers together, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from controlplane.registries.leases import Change
from controlplane.registries.limits import Limits, Refused
from controlplane.registries.registration import Registration
from controlplane.store.memory import MemoryStore
from meshsdk.model.instance import Increment, Instance, InstanceState, MethodInfo, Revision

ORDERS = Instance("orders", "1", "10.0.0.1:80", revision="r1", labels={"version": "v1"})


class Made:
    """A registration with its store and what it told of changes."""

    def __init__(self, store: MemoryStore | None = None, limits: Limits | None = None, now: float = 0.0) -> None:
        self.store = store or MemoryStore()
        self.changes: list[Change] = []
        self.registration = Registration(self.store, now, self.note, limits)

    def note(self, changes: Iterable[Change]) -> None:
        """Keeps the changes."""
        self.changes.extend(changes)


def test_life_of_an_instance() -> None:
    """Register, drain, deregister: each is kept, told to watchers and to the plane."""
    made = Made()
    watcher = made.registration.watch("orders", "", lambda: None)
    lease = made.registration.register(ORDERS, 0, 0.0)
    assert lease.ttl == 15
    drained = replace(ORDERS, state=InstanceState.DRAINING)
    assert made.registration.set_state(lease.id, InstanceState.DRAINING, 1.0) == drained
    assert [row.instance for row in made.store.leases()] == [drained]
    assert made.registration.deregister(lease.id)
    assert not made.registration.deregister(lease.id)
    assert made.store.leases() == []
    assert made.changes == [Change(None, ORDERS), Change(ORDERS, drained), Change(drained, None)]
    assert list(watcher.take()) == [Increment("orders", (), (), reset=True)]


def test_renewal_disturbs_nobody() -> None:
    """A renewal, and registering again with nothing changed, wake neither watchers nor the plane."""
    made = Made()
    lease = made.registration.register(ORDERS, 15, 0.0)
    woken: list[None] = []
    made.registration.watch("", "", lambda: woken.append(None))
    woken.clear()
    made.changes.clear()
    assert made.registration.renew(lease.id, 5.0) is not None
    again = made.registration.register(ORDERS, 15, 6.0)
    assert (woken, made.changes) == ([], [])
    assert made.registration.renew(lease.id, 7.0) is None
    assert made.registration.renew(again.id, 7.0) is not None


def test_lapse_is_told_and_kept() -> None:
    """An instance whose lease lapsed is gone from the store too, and may come back."""
    made = Made()
    made.registration.register(ORDERS, 2, 0.0)
    assert made.registration.next_deadline() == 2.0
    made.registration.expire(2.0)
    assert (made.changes[-1], made.store.leases()) == (Change(ORDERS, None), [])
    made.registration.register(ORDERS, 2, 3.0)
    assert made.changes[-1] == Change(None, ORDERS)


def test_restart_gives_leases_their_full_time() -> None:
    """After a restart the lease an instance holds still works, with all its time from then."""
    first = Made()
    lease = first.registration.register(ORDERS, 10, 0.0)
    first.registration.publish(Revision("orders", "r1", (MethodInfo("/a.B/C"),)))
    second = Made(first.store, now=500.0)
    assert second.registration.instances == {"orders": {"1": ORDERS}}
    assert second.registration.renew(lease.id, 509.0) is not None
    assert second.registration.serving("a.B") == ["orders"]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("app", "", "app: '' is not a name"),
        ("app", "orders|v1", "app: 'orders|v1' is not a name"),
        ("app", "x" * 254, "at most 253 characters"),
        ("id", "", "instance id must have 1 to 256 characters"),
        ("id", "x" * 257, "instance id must have 1 to 256 characters"),
        ("address", "localhost:80", "address: 'localhost:80' is not IP:PORT"),
        ("address", "10.0.0.1", "is not IP:PORT"),
        ("address", "10.0.0.1:0", "is not IP:PORT"),
        ("address", "::1:80", "is not IP:PORT"),
        ("address", "10.0.0.1:99999", "is not IP:PORT"),
        ("weight", 0, "weight 0 is not between 1 and 65535"),
        ("started_at", float("nan"), "started_at is not unix seconds"),
        ("labels", {str(number): "" for number in range(65)}, "65 labels are more than 64"),
        ("labels", {"": "x"}, "label '' must have 1 to 317 characters"),
        ("labels", {"a": "x" * 1025}, "label 'a': the value is longer than 1024 characters"),
    ],
)
def test_instances_that_are_refused(field: str, value: object, reason: str) -> None:
    """What peers could not use, or what is too large, is refused in words and not kept."""
    made = Made()
    with pytest.raises(Refused) as caught:
        made.registration.register(replace(ORDERS, **{field: value}), 15, 0.0)
    assert reason in str(caught.value)
    assert not caught.value.full
    assert (made.store.leases(), made.changes) == ([], [])


@pytest.mark.parametrize("address", ["10.0.0.1:80", "[::1]:80", "[2001:db8::7]:65535"])
def test_addresses_that_are_taken(address: str) -> None:
    """IPv4 and IPv6 addresses with a port register."""
    assert Made().registration.register(replace(ORDERS, address=address), 15, 0.0)


def test_span_of_a_lease_is_limited() -> None:
    """A lease that would outlive an hour is refused."""
    with pytest.raises(Refused, match="ttl_seconds: expected 1 to 3600, got 3601"):
        Made().registration.register(ORDERS, 3601, 0.0)


def test_counts_are_limited() -> None:
    """A full control plane refuses what is new and goes on with what it has."""
    made = Made(limits=Limits(instances=1, watchers=1, revisions=1))
    made.registration.register(ORDERS, 15, 0.0)
    made.registration.register(replace(ORDERS, weight=2), 15, 0.0)
    made.registration.watch("", "", lambda: None)
    made.registration.publish(Revision("orders", "r1"))
    for refused in (
        lambda: made.registration.register(replace(ORDERS, id="2"), 15, 0.0),
        lambda: made.registration.watch("", "", lambda: None),
        lambda: made.registration.publish(Revision("orders", "r2")),
    ):
        with pytest.raises(Refused, match="takes no more") as caught:
            refused()
        assert caught.value.full


def test_revisions_are_stored_once_and_mapped_while_in_use() -> None:
    """A service is mapped to the applications whose registered instances have a revision with it."""
    made = Made()
    revision = Revision("orders", "r1", (MethodInfo("/shop.Orders/Get", {"idempotent": True}),))
    made.registration.publish(revision)
    made.registration.publish(revision)
    assert made.registration.revision("orders", "r1") == revision
    assert made.registration.serving("shop.Orders") == []
    lease = made.registration.register(ORDERS, 15, 0.0)
    assert made.registration.serving("shop.Orders") == ["orders"]
    assert made.registration.serving("shop.Order") == []
    made.registration.deregister(lease.id)
    assert made.registration.serving("shop.Orders") == []


def test_old_revisions_are_dropped_but_not_those_in_use() -> None:
    """Of revisions nobody has, the newest few stay; the one in use stays however old it is."""
    made = Made()
    made.registration.publish(Revision("orders", "r1"))
    made.registration.register(ORDERS, 15, 0.0)
    for number in range(2, 40):
        made.registration.publish(Revision("orders", f"r{number}"))
    kept = [revision.revision for revision in made.store.revisions()]
    assert kept == ["r1", *(f"r{number}" for number in range(24, 40))]
    assert made.registration.counts()["revisions"] == len(kept)


@pytest.mark.parametrize(
    ("revision", "reason"),
    [
        (Revision("orders", ""), "a revision must have 1 to 256 characters"),
        (Revision("orders", "r", (MethodInfo("Get"),)), "method 'Get' is not /pkg.Service/Method"),
        (Revision("a b", "r"), "app: 'a b' is not a name"),
        (Revision("orders", "r", (MethodInfo("/a/b"),) * 5001), "5001 methods are more than 5000"),
    ],
)
def test_revisions_that_are_refused(revision: Revision, reason: str) -> None:
    """A revision that is too large or malformed is refused in words."""
    with pytest.raises(Refused) as caught:
        Made().registration.publish(revision)
    assert reason in str(caught.value)
