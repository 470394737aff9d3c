"""The copy on disk: what is written, what is read back, and what is not believed."""

from __future__ import annotations

import logging

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from meshsdk.bootstrap import load_bootstrap
from meshsdk.model.resources import Kind, RouteConfiguration
from meshsdk.model.snapshot import Key
from meshsdk.xds_client.last_good import LastGoodFiles
from meshsdk.xds_client.machine import Saved
from meshsdk.xds_client.store import Entry, EntryStatus

KEY = Key(Kind.ROUTE, "orders")
GOOD = Entry(KEY, EntryStatus.PRESENT, RouteConfiguration("orders", ()), "v1", "", b"bytes", "one:1")


def bootstrap(uri="one:1", cluster="web"):
    """A bootstrap of some server and application."""
    servers = [{"server_uri": uri, "channel_creds": [{"type": "insecure"}]}]
    return load_bootstrap({"xds_servers": servers, "node": {"cluster": cluster}}, {})


@pytest.fixture
def files(tmp_path):
    """A fresh directory."""
    return LastGoodFiles(str(tmp_path), bootstrap())


def paths(tmp_path):
    """All files below a directory."""
    return [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_is_in_force_is_read_back(files, tmp_path):
    """A saved resource comes back byte for byte, by a later process as well, and is nobody else's to read."""
    files.save([GOOD])
    assert LastGoodFiles(str(tmp_path), bootstrap()).load(KEY) == Saved(b"bytes", "v1")
    assert [path.stat().st_mode & 0o777 for path in paths(tmp_path)] == [0o600]


def test_other_keys_servers_and_applications_see_nothing(files, tmp_path):
    """A copy belongs to its key, its servers and its application."""
    files.save([GOOD])
    assert files.load(Key(Kind.CLUSTER, "orders")) is None
    assert LastGoodFiles(str(tmp_path), bootstrap("two:2")).load(KEY) is None
    assert LastGoodFiles(str(tmp_path), bootstrap(cluster="shop")).load(KEY) is None


@pytest.mark.parametrize("status", [EntryStatus.INVALID, EntryStatus.UNREACHABLE, EntryStatus.ABSENT])
def test_last_good_copy_outlives_errors(files, status):
    """What is kept in memory in spite of an error (A88) is kept on disk, unchanged."""
    files.save([GOOD])
    files.save([Entry(KEY, status, GOOD.resource, "v2", "trouble", b"newer")])
    assert files.load(KEY) == Saved(b"bytes", "v1")


def test_dropped_resource_is_removed(files):
    """With fail_on_data_errors an absent resource is gone, on disk as well."""
    files.save([GOOD])
    files.save([Entry(KEY, EntryStatus.ABSENT)])
    assert files.load(KEY) is None


@pytest.mark.parametrize("damage", [b"", b"\xff\xff", discovery_pb2.Resource(name="other").SerializeToString()])
def test_damaged_files_are_not_believed(files, tmp_path, damage):
    """An empty, broken or exchanged file is as good as none."""
    files.save([GOOD])
    (path,) = paths(tmp_path)
    path.write_bytes(damage)
    assert files.load(KEY) is None


def test_unusable_directory_warns_once(tmp_path, caplog):
    """A cache that cannot be written costs a warning, and only one."""
    (tmp_path / "file").write_text("")
    files = LastGoodFiles(str(tmp_path / "file"), bootstrap())
    with caplog.at_level(logging.WARNING):
        files.save([GOOD])
        files.save([GOOD])
    assert len(caplog.records) == 1
    assert "cannot save" in caplog.text


def test_names_do_not_become_paths(files, tmp_path):
    """A hostile resource name cannot leave the directory."""
    key = Key(Kind.ROUTE, "../../../etc/passwd")
    files.save([Entry(key, EntryStatus.PRESENT, GOOD.resource, "v", "", b"x", "one:1")])
    assert files.load(key) == Saved(b"x", "v")
    assert len(paths(tmp_path)) == 1
