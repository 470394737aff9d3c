"""What is SQLite's own in its adapter: whose file it is, reboots, files put aside, forks, watches left behind."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from meshsdk.discovery import sqlite as adapter
from meshsdk.discovery import sqlite_file
from meshsdk.discovery.registry import LeaseLapsed, MalformedEntry
from meshsdk.errors import ConfigurationError, RegistryError
from meshsdk.model.instance import Instance, MethodInfo, Revision
from tests.contract.registries.follower import Follower, eventually

ONE = Instance("orders", "1", "10.0.0.1:50051")
TWO = Instance("orders", "2", "10.0.0.2:50051")


@pytest.fixture
def path(tmp_path):
    """A path for a file."""
    return str(tmp_path / "registry.db")


@pytest.fixture
def registry(path):
    """A registry on it."""
    made = adapter.SqliteRegistry(path, poll=0.01)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://relative/path", "must be absolute"),
        ("sqlite://", "must be absolute"),
        ("sqlite:///folder/", "must be absolute"),
        ("sqlite:///f?poll=0", "between"),
        ("sqlite:///f?pool=1", "parameter 'pool'"),
    ],
)
def test_urls_that_are_refused(url, words):
    """Every mistake is told in a few words."""
    with pytest.raises(ConfigurationError, match=words):
        adapter.open_url(urlsplit(url))


def test_both_ways_to_write_a_path_mean_the_same(tmp_path):
    """Three slashes, four slashes and percent signs."""
    for slashes in ("//", "///"):
        registry = adapter.open_url(urlsplit(f"sqlite:{slashes}{tmp_path}/a%20b.db"))
        registry.register(ONE, 60)
        registry.close()
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".db"] == ["a b.db"]


def test_a_file_of_something_else_is_left_alone(registry, path):
    """Another program's database, and one of a later version, are refused and not changed."""
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE instances (x)")
    db.commit()
    with pytest.raises(RegistryError, match="not a registry of meshsdk"):
        registry.register(ONE, 60)
    db.execute(f"PRAGMA application_id = {sqlite_file._APPLICATION}")
    db.execute("PRAGMA user_version = 99")
    with pytest.raises(RegistryError, match="schema 99"):
        registry.register(ONE, 60)
    assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)
    db.close()


def test_who_watches_waits_for_no_writer(registry, path):
    """A watch opens the file and reads it while another process is in the middle of writing."""
    registry.register(ONE, 60)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    watched = sqlite_file.RegistryFile(path, create=False)
    with watched.reading() as db:
        assert db.execute("SELECT id FROM instances").fetchall() == [("1",)]
    watched.close()
    writer.execute("ROLLBACK")
    writer.close()


def test_no_place_for_a_file(tmp_path):
    """A folder that is not there is told with the path."""
    registry = adapter.SqliteRegistry(str(tmp_path / "no" / "file"))
    with pytest.raises(RegistryError, match="no/file cannot be opened"):
        registry.register(ONE, 60)


def test_a_reboot_ends_every_lease(path, monkeypatch, tmp_path):
    """The machine's clock starts anew: what was registered before is gone, revisions are not."""
    before = adapter.SqliteRegistry(path)
    lease = before.register(ONE, 60)
    before.close()
    (tmp_path / "boot").write_text("another boot\n")
    monkeypatch.setattr(sqlite_file, "_BOOT_ID", tmp_path / "boot")
    after = adapter.SqliteRegistry(path, poll=0.01)
    Follower(after, "orders").wait_for()
    with pytest.raises(LeaseLapsed):
        after.renew(lease)
    after.close()


def test_a_file_that_is_put_aside_is_noticed(registry, path):
    """Removed, it is not made anew by those who only watch: they keep what they know until a registrar comes."""
    registry.register(ONE, 60)
    watching = adapter.SqliteRegistry(path, poll=0.01)
    follower = Follower(watching, "orders")
    follower.wait_for(ONE)
    for name in (path, f"{path}-wal", f"{path}-shm"):
        Path(name).unlink()
    assert set(follower.apps["orders"]) == {"1"}
    eventually(lambda: registry.register(TWO, 60), "the registrar makes it anew")
    follower.wait_for(TWO)
    assert not any(increment.reset and not increment.put for increment in follower.log)
    watching.close()


def test_a_watch_left_behind_reads_everything_anew(registry, path, monkeypatch):
    """The log of changes is cut off; who is further behind than it reaches gets a reset, with nothing missing."""
    monkeypatch.setattr(adapter, "_KEPT_CHANGES", 3)
    slow = adapter.SqliteRegistry(path, poll=0.5)
    follower = Follower(slow, "orders")
    follower.wait_for()
    many = [Instance("orders", str(n), f"10.0.0.{n}:1") for n in range(1, 30)]
    for instance in many:
        registry.register(instance, 60)
    follower.wait_for(*many)
    assert [increment.reset for increment in follower.log] == [True, True]
    slow.close()


def test_a_connection_does_not_go_through_a_fork(registry, path):
    """The child opens the file itself, and leaves the parent's connection alone."""
    lease = registry.register(ONE, 60)
    child = os.fork()
    if not child:
        try:
            registry.register(TWO, 60)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must not go on with the parent's tests
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert registry.renew(lease) == lease
    Follower(registry, "orders").wait_for(ONE, TWO)


def test_a_malformed_revision(path, registry):
    """A content that others left and that cannot be read is told apart from an outage, and names file and revision."""
    registry.publish_revision(Revision("orders", "r1", (MethodInfo("/shop.Orders/Get"),)))
    with sqlite3.connect(path) as db:
        db.execute("UPDATE revisions SET body = 'not json'")
    db.close()
    with pytest.raises(MalformedEntry, match=rf"{path}: revision 'r1' of 'orders': not JSON"):
        registry.get_revision("orders", "r1")
