"""The lease table: time is an argument."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.registries.leases import Change, LeaseTable
from meshsdk.model.instance import Instance, InstanceState


def instance(identifier: str = "1", app: str = "orders", **fields: object) -> Instance:
    """Returns an instance."""
    return Instance(app, identifier, "10.0.0.1:80", **fields)


@pytest.fixture
def table() -> LeaseTable:
    """A table with one instance, registered at 100 for 15 seconds."""
    made = LeaseTable()
    assert made.register("L1", instance(), 15, 100.0) == Change(None, instance())
    return made


def test_lease_lapses_after_its_time(table: LeaseTable) -> None:
    """Until the last moment the instance is there; then it goes, once."""
    assert table.next_deadline() == 115.0
    assert table.expire(114.9) == []
    assert table.expire(115.0) == [("L1", Change(instance(), None))]
    assert (table.expire(200.0), len(table), dict(table.instances), table.next_deadline()) == ([], 0, {}, None)


def test_renewing_gives_the_full_time_again(table: LeaseTable) -> None:
    """A renewed lease outlives its first deadline and lapses after its second."""
    assert table.renew("L1", 110.0).expires == 125.0
    assert table.expire(115.0) == []
    assert table.next_deadline() == 125.0
    assert [lease for lease, _ in table.expire(125.0)] == ["L1"]


def test_lapsed_or_unknown_lease_cannot_be_used(table: LeaseTable) -> None:
    """A lease is void from its deadline on, also if nobody has swept it away yet."""
    assert table.renew("L1", 115.0) is None
    assert table.set_state("L1", InstanceState.DRAINING, 115.0) is None
    assert table.renew("unknown", 100.0) is None
    assert table.release("unknown") is None


def test_new_registration_voids_the_old_lease(table: LeaseTable) -> None:
    """An instance that registers again has one lease, the new one, and the old one ends nothing."""
    change = table.register("L2", instance(weight=2), 15, 110.0)
    assert change == Change(instance(), instance(weight=2))
    assert table.renew("L1", 111.0) is None
    assert table.expire(115.0) == []
    assert [lease for lease, _ in table.expire(125.0)] == ["L2"]


def test_state_changes_the_instance_and_not_its_time(table: LeaseTable) -> None:
    """Draining is seen at once and does not renew."""
    change = table.set_state("L1", InstanceState.DRAINING, 110.0)
    assert change == Change(instance(), instance(state=InstanceState.DRAINING))
    assert table.instances["orders"]["1"].state is InstanceState.DRAINING
    assert table.next_deadline() == 115.0


def test_release_takes_the_instance_away(table: LeaseTable) -> None:
    """A released lease takes its instance along; its application goes with the last one."""
    table.register("L2", instance("2"), 15, 100.0)
    table.release("L1")
    assert list(table.instances["orders"]) == ["2"]
    table.release("L2")
    assert dict(table.instances) == {}


@given(
    st.lists(
        st.tuples(st.sampled_from(["register", "renew", "release", "expire"]), st.integers(0, 3), st.integers(1, 5)),
        max_size=60,
    )
)
def test_table_equals_a_naive_one(steps: list[tuple[str, int, int]]) -> None:
    """After any steps the table holds exactly the instances whose newest lease has time left."""
    table, naive, held, now = LeaseTable(), {}, {}, 0.0
    for number, (step, which, amount) in enumerate(steps):
        key = str(which)
        if step == "register":
            held[key] = f"L{number}"
            naive[key] = (now + amount, amount)
            table.register(held[key], instance(key), amount, now)
        elif step == "renew" and key in naive:
            assert table.renew(held[key], now) is not None
            naive[key] = (now + naive[key][1], naive[key][1])
        elif step == "release" and key in naive:
            assert table.release(held[key]) is not None
            del naive[key]
        elif step == "expire":
            now += amount
            gone = {key for key, (expires, _) in naive.items() if expires <= now}
            assert {change.instance.id for _, change in table.expire(now)} == gone
            naive = {key: value for key, value in naive.items() if key not in gone}
        assert set(table.instances.get("orders", {})) == set(naive)
        deadline = table.next_deadline()
        assert not naive or deadline <= min(expires for expires, _ in naive.values())
