"""LastKnown: the last known instances on disk, for a start while the registry is away."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from meshsdk.discovery.instance_set import Member
from meshsdk.discovery.last_known import LastKnown
from meshsdk.model.endpoints import Endpoint, Health
from meshsdk.model.resources import Locality

WHAT = ["instances", "orders", "", []]
MEMBERS = {
    "1": Member(Endpoint("10.0.0.1:1", 3, Health.HEALTHY, 5.5), Locality("r", "z"), "rev"),
    "2": Member(Endpoint("[::1]:1", 1, Health.DRAINING), Locality(), ""),
}


def values(members) -> dict:
    """Members in a form that compares."""
    return {name: (one.endpoint, one.locality, one.revision) for name, one in members.items()}


def test_what_was_saved_is_read_by_the_next_process(tmp_path):
    """Instances and mappings come back as they were; readable by their owner alone."""
    LastKnown(str(tmp_path), "etcd://h:1").save_instances(WHAT, MEMBERS)
    LastKnown(str(tmp_path), "etcd://h:1").save_applications("shop.Orders", ("orders", "returns"))
    later = LastKnown(str(tmp_path), "etcd://h:1")
    assert values(later.instances(WHAT)) == values(MEMBERS)
    assert later.applications("shop.Orders") == ("orders", "returns")
    (folder,) = tmp_path.iterdir()
    assert (folder.stat().st_mode & 0o777, {file.stat().st_mode & 0o777 for file in folder.iterdir()}) == (
        0o700,
        {0o600},
    )


def test_two_of_one_process_do_not_write_the_same_file(tmp_path, monkeypatch):
    """Two meshes save to one directory at a time: each has a temporary file of its own, gone afterwards."""
    written = []
    replacing = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (written.append(self), replacing(self, to))[1])
    for known in (LastKnown(str(tmp_path), "etcd://h:1"), LastKnown(str(tmp_path), "etcd://h:1")):
        known.save_instances(WHAT, MEMBERS)
    assert len(set(written)) == 2
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.iterdir())) == 1


def test_nothing_saved(tmp_path):
    """Another registry, other instances, an empty set: nothing to start with."""
    known = LastKnown(str(tmp_path), "etcd://h:1")
    assert known.instances(WHAT) is None
    assert known.applications("shop.Orders") is None
    known.save_instances(WHAT, MEMBERS)
    assert LastKnown(str(tmp_path), "etcd://h:2").instances(WHAT) is None
    assert known.instances(["instances", "orders", "u1", []]) is None
    known.save_instances(WHAT, {})
    assert known.instances(WHAT) is None


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff\x00",
        b"[" * 100_000,
        b'{"what": ["instances", "orders", "", []]}',
        b'{"what": ["other"], "rows": []}',
        b'{"what": ["instances", "orders", "", []], "rows": [1]}',
        b'{"what": ["instances", "orders", "", []], "rows": [["1", "no address", 1, false, 0, "", "", ""]]}',
        b'{"what": ["instances", "orders", "", []], "rows": [["1", "h:1", 0, false, 0, "", "", ""]]}',
        b'{"what": ["instances", "orders", "", []], "rows": [["1", "h:1", 1, false, "x", "", "", ""]]}',
        b'{"what": ["instances", "orders", "", []], "rows": [["1", "h:1", 1, false, 0, "", "", 5]]}',
    ],
)
def test_a_damaged_file_is_not_used(tmp_path, damage, caplog):
    """Whatever stands in the file, it is said once and the process starts without."""
    known = LastKnown(str(tmp_path), "etcd://h:1")
    known.save_instances(WHAT, MEMBERS)
    (file,) = next(tmp_path.iterdir()).iterdir()
    file.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert known.instances(WHAT) is None
    assert "damaged" in caplog.text


def test_a_directory_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    """A full or forbidden disk is told once and costs nothing else."""
    file = tmp_path / "file"
    file.write_text(json.dumps([]))
    known = LastKnown(str(file), "etcd://h:1")
    with caplog.at_level(logging.WARNING):
        known.save_instances(WHAT, MEMBERS)
        known.save_instances(WHAT, MEMBERS)
    assert caplog.text.count("cannot save") == 1
    assert known.instances(WHAT) is None
