"""Collections on disk: what a change writes, what is read back, and what is not believed."""

from __future__ import annotations

import json
import logging

import pytest

from meshsdk.bootstrap import load_bootstrap
from meshsdk.model.collection import EndpointCollection, Member
from meshsdk.model.endpoints import Endpoint, Health
from meshsdk.model.resources import Kind
from meshsdk.model.snapshot import Key
from meshsdk.xds_client.last_good import LastGoodFiles
from meshsdk.xds_client.saved_collections import SavedCollections, load
from meshsdk.xds_client.store import Entry, EntryStatus

NAME = "xdstp:///envoy.config.endpoint.v3.LbEndpoint/orders/*"
KEY = Key(Kind.LB_ENDPOINTS, NAME)


def member(number, **fields):
    """One member."""
    return Member(f"10.0.0.{number}%3A80", Endpoint(f"10.0.0.{number}:80", **fields), "v1")


def of(*members):
    """A collection."""
    return EndpointCollection(NAME).updated(members)


def read(path):
    """What a later process finds: members by id."""
    found = load(path, NAME)
    return None if found is None else {one.id: one for one in found.members}


@pytest.fixture
def path(tmp_path):
    """The file of a collection."""
    return tmp_path / "file.resource"


def test_all_that_an_endpoint_has_is_read_back(path):
    """Every field of a member survives, and the file is nobody else's to read."""
    full = Member("a/b", Endpoint("[::1]:80", 7, Health.DRAINING, 1.5, "key"), "v9")
    SavedCollections().save(path, of(member(1), full, Member("u", Endpoint("unix:/run/x"), "")))
    found = load(path, NAME)
    assert read(path) == {one.id: one for one in (member(1), full, Member("u", Endpoint("unix:/run/x"), ""))}
    assert found.endpoints.get("[::1]:80") == full.endpoint
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_change_appends_what_changed(path):
    """Of a thousand members, those that came, changed and went are written, a line each."""
    saved = SavedCollections()
    collection = of(*(Member(str(i), Endpoint(f"10.0.{i // 250}.{i % 250}:80"), "1") for i in range(1000)))
    saved.save(path, collection)
    before = path.read_bytes()
    saved.save(path, collection)
    assert path.read_bytes() == before
    changed = collection.updated([member(1), Member("7", Endpoint("10.9.9.9:80"), "2")], ["8"])
    saved.save(path, changed)
    added = path.read_bytes().removeprefix(before).splitlines()
    assert sorted(json.loads(line)[0] for line in added) == ["10.0.0.1%3A80", "7", "8"]
    assert read(path) == {one.id: one for one in changed.members}


def test_a_file_that_has_doubled_is_written_anew(path):
    """However long it churns, the file stays in proportion to the collection."""
    saved, collection = SavedCollections(), of(member(1))
    sizes = []
    for number in range(3000):
        collection = collection.updated([member(1, weight=number + 1)])
        saved.save(path, collection)
        sizes.append(path.stat().st_size)
    assert max(sizes) < 70_000
    assert read(path) == {member(1).id: member(1, weight=3000)}


def test_a_file_that_somebody_removed_is_written_anew(path):
    """A cleaned-up directory costs one full write."""
    saved, collection = SavedCollections(), of(member(1), member(2))
    saved.save(path, collection)
    path.unlink()
    saved.save(path, collection.updated([member(3)]))
    assert len(read(path)) == 3


def test_processes_share_a_file(path):
    """Two processes that see the same changes, one later than the other, leave the state that both have."""
    first, second = SavedCollections(), SavedCollections()
    states = [of(member(1), member(2))]
    states.append(states[0].updated([member(3)], [member(1).id]))
    states.append(states[1].updated([member(2, weight=5)]))
    for lead, lag in zip(states, [states[0], *states], strict=False):
        first.save(path, lead)
        second.save(path, lag)
    second.save(path, states[-1])
    assert read(path) == {one.id: one for one in states[-1].members}


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xff",
        b"[" * 50_000,
        b'{"a":1}',
        b"[]",
        b"[1]",
        b'["x","1","10.0.0.9:80",1,"healthy",0.0]',
        b'["x","1","10.0.0.9:80",0,"healthy",0.0,""]',
        b'["x","1","10.0.0.9:80",true,"healthy",0.0,""]',
        b'["x","1","10.0.0.9:80",1,"fine",0.0,""]',
        b'["x","1","10.0.0.9:80",1,"healthy",-1.0,""]',
        b'["x","1","10.0.0.9:80",1,"healthy",NaN,""]',
        b'["x","1","dns:///evil",1,"healthy",0.0,""]',
        b'["x","1","10.0.0.9:80",1,"healthy",0.0',
    ],
)
def test_lines_that_cannot_be_are_left_out(path, caplog, line):
    """A torn, foreign or impossible line costs itself and a warning; the lines around it stand."""
    saved, collection = SavedCollections(), of(member(1))
    saved.save(path, collection)
    with path.open("ab") as file:
        file.write(line + b"\n")
    saved.save(path, collection.updated([member(2)]))
    with caplog.at_level(logging.WARNING):
        assert read(path).keys() == {member(1).id, member(2).id}
    assert "1 lines that cannot be read" in caplog.text


@pytest.mark.parametrize(
    "content", [b"", b'["meshsdk-collection-1","other"]\n', b"\xff", b'["meshsdk-collection-2","x"]']
)
def test_files_of_something_else_are_not_believed(path, content):
    """An empty file, another collection's, and another release's are as good as none."""
    path.write_bytes(content)
    assert load(path, NAME) is None


def test_last_good_files_keep_collections_beside_resources(tmp_path):
    """A collection in force, refused members or not, is saved; absent and dropped, its file goes."""
    bootstrap = load_bootstrap({"xds_servers": [{"server_uri": "one:1", "channel_creds": [{"type": "insecure"}]}]}, {})
    files = LastGoodFiles(str(tmp_path), bootstrap)
    files.save([Entry(KEY, EntryStatus.INVALID, of(member(1)), "", "one of them is bad", b"", "one:1")])
    again = LastGoodFiles(str(tmp_path), bootstrap)
    assert {one.id for one in again.load(KEY).members} == {member(1).id}
    files.save([Entry(KEY, EntryStatus.UNREACHABLE, of(), "", "down", b"", "cache")])
    assert len(again.load(KEY).members) == 1
    files.save([Entry(KEY, EntryStatus.ABSENT, problem="gone")])
    assert again.load(KEY) is None


def test_what_is_no_longer_wanted_is_not_kept_in_memory(tmp_path):
    """The state that a file is known to have is let go with the collection; the file stays for the next start."""
    bootstrap = load_bootstrap({"xds_servers": [{"server_uri": "one:1", "channel_creds": [{"type": "insecure"}]}]}, {})
    files = LastGoodFiles(str(tmp_path), bootstrap)
    files.save([Entry(KEY, EntryStatus.PRESENT, of(member(1)), server="one:1")])
    files.save([], wanted=lambda key: False)
    assert files._collections.names() == ()
    assert files.load(KEY) is not None
