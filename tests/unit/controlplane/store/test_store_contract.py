"""What every store does, run on each of them; and what only the one on disk does."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.model.identity import ResourceId, ResourceKind
from controlplane.store.memory import MemoryStore
from controlplane.store.open import open_store
from controlplane.store.port import Store, StoredLease, StoredResource, StoreError
from controlplane.store.sqlite import SqliteStore
from meshsdk.errors import ConfigurationError
from meshsdk.model.instance import Instance, InstanceState, MethodInfo, Revision


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A new store of each kind."""
    made = open_store("memory" if request.param == "memory" else f"sqlite:{tmp_path}/plane.db")
    yield made
    made.close()


def row(name: str, text: str = "a: 1\n") -> StoredResource:
    """Returns a resource to store."""
    return StoredResource(ResourceId(ResourceKind.VIRTUAL_SERVICE, "shop", name), text, "f.yaml", 3)


def lease(number: int, lease_id: str = "") -> StoredLease:
    """Returns a lease with every field of its instance set."""
    instance = Instance(
        app="orders",
        id=str(number),
        address="10.0.0.1:80",
        revision="r",
        unit="u",
        region="eu",
        zone="a",
        weight=7,
        labels={"version": "v1"},
        state=InstanceState.DRAINING,
        started_at=12.5,
    )
    return StoredLease(lease_id or f"lease-{number}", 15, instance)


def test_resources(store: Store) -> None:
    """Resources are written, replaced and removed, several in one step; removing a missing one is no error."""
    assert store.resources() == []
    store.change_resources([row("a"), row("b")], [])
    store.change_resources([row("b", "b: 2\n"), row("c")], [row("a").id, row("gone").id])
    assert sorted(store.resources(), key=str) == [row("b", "b: 2\n"), row("c")]


def test_leases(store: Store) -> None:
    """A lease keeps its instance to the last field; a new one for the same instance takes its place."""
    store.put_lease(lease(1))
    store.put_lease(lease(2))
    store.put_lease(lease(1, "newer"))
    assert sorted(store.leases(), key=lambda each: each.id) == [lease(2), lease(1, "newer")]
    store.remove_leases(["newer", "unknown"])
    assert store.leases() == [lease(2)]


def test_revisions(store: Store) -> None:
    """Revisions come back in the order in which they were written."""
    revisions = [Revision("orders", name, (MethodInfo("/a.B/C", {"idempotent": True}),)) for name in "zay"]
    for revision in revisions:
        store.put_revision(revision)
    assert store.revisions() == revisions
    store.remove_revisions([("orders", "a"), ("orders", "unknown")])
    assert [revision.revision for revision in store.revisions()] == ["z", "y"]


def test_disk_keeps_everything(tmp_path: Path) -> None:
    """What was written is there when the file is opened again."""
    path = tmp_path / "plane.db"
    first = SqliteStore(path)
    first.change_resources([row("a")], [])
    first.put_lease(lease(1))
    first.put_revision(Revision("orders", "r"))
    first.close()
    second = SqliteStore(path)
    assert (second.resources(), second.leases(), second.revisions()) == (
        [row("a")],
        [lease(1)],
        [Revision("orders", "r")],
    )
    second.close()


def test_failed_change_leaves_nothing_behind(tmp_path: Path) -> None:
    """Of a change that fails midway, nothing is kept."""
    made = SqliteStore(tmp_path / "plane.db")
    made.change_resources([row("a")], [])
    with pytest.raises(StoreError, match="cannot be written"):
        made.change_resources([row("b", None)], [row("a").id])  # NOT NULL
    assert made.resources() == [row("a")]
    made.close()


def test_second_control_plane_on_one_file_is_refused(tmp_path: Path) -> None:
    """Two control planes on one file would overwrite each other: the second is refused with the reason."""
    first = SqliteStore(tmp_path / "plane.db")
    with pytest.raises(StoreError, match="another control plane uses it"):
        SqliteStore(tmp_path / "plane.db")
    first.close()


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    """A file written by a newer version is left alone."""
    path = tmp_path / "plane.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="newer version"):
        SqliteStore(path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("redis://x", "unknown store 'redis://x'; expected memory, sqlite:PATH or etcd://HOST:PORT"),
        ("etcd:127.0.0.1:2379", "unknown store 'etcd:127.0.0.1:2379'"),
        ("sqlite:", "unknown store 'sqlite:'"),
        ("sqlite:/no/such/folder/x.db", "cannot be opened: unable to open database file"),
    ],
)
def test_stores_that_cannot_be_opened(name: str, reason: str) -> None:
    """What this version cannot open is refused in words."""
    with pytest.raises(StoreError, match=reason):
        open_store(name)


def test_memory_is_a_store() -> None:
    """The memory store can be asked for by name."""
    assert isinstance(open_store("memory"), MemoryStore)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("etcd://nowhere", "'nowhere' is not HOST:PORT; expected etcd://HOST:PORT"),
        ("etcd://a:1,b", "'b' is not HOST:PORT"),
        ("etcd://a:1?grace=-1", "grace '-1' is not between 0 and 3600 seconds"),
        ("etcd://a:1?grace=soon", "grace 'soon' is not between 0 and 3600 seconds"),
        ("etcd://a:1?colour=red", "parameter 'colour' is none of"),
        ("etcd://u:p@a:1", "instead of a password in the URL"),
    ],
)
def test_addresses_of_etcd_that_are_none(name: str, reason: str) -> None:
    """What is wrong with the URL of a store is said in words, before anything is dialled."""
    with pytest.raises(ConfigurationError, match=re.escape(reason)):
        open_store(name)
