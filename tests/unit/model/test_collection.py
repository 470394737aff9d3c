"""Persistent maps of endpoints and of members: as right as a dict, and sharing what did not change."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshsdk.model.collection import EndpointCollection, Member, Members
from meshsdk.model.endpoints import Endpoint, EndpointMap, changes

IDS = st.integers(0, 300).map(lambda i: f"10.0.0.{i}%3A80" if i % 3 else f"10.0.0.{i}:80" if i % 2 else f"id{i}")
ENDPOINTS = st.builds(lambda i, weight: Endpoint(f"10.0.0.{i}:80", weight), st.integers(0, 300), st.integers(1, 2))
MEMBERS = st.builds(Member, IDS, ENDPOINTS, st.sampled_from(["1", "2"]))
UPDATES = st.lists(st.tuples(st.lists(MEMBERS, max_size=150), st.lists(IDS, max_size=150)), max_size=6)


def by_id(members: Members) -> dict[str, Member]:
    """All members, found by iteration."""
    found = {member.id: member for member in members}
    assert len(found) == len(members)
    return found


@given(UPDATES)
def test_collection_is_as_right_as_a_dict(updates: list[tuple[list[Member], list[str]]]) -> None:
    """After any series of updates members, endpoints, look-ups and differences are those of a plain dict."""
    collection, truth = EndpointCollection("x/*"), dict[str, Member]()
    for put, removed in updates:
        before, known = collection, dict(truth)
        collection = before.updated(put, removed)
        truth = {i: member for i, member in truth.items() if i not in removed} | {member.id: member for member in put}
        assert by_id(collection.members) == truth
        assert {one.address for one in collection.endpoints} == {one.endpoint.address for one in truth.values()}
        assert len(collection.endpoints) == len({one.address for one in collection.endpoints})
        assert all(collection.members.get(i) == member for i, member in truth.items())
        fresh, gone = collection.members.changes_from(before.members)
        assert {member.id: member for member in fresh} == {i: one for i, one in truth.items() if known.get(i) != one}
        assert set(gone) == known.keys() - truth.keys()
        came, left = changes(before.endpoints, collection.endpoints)
        assert set(before.endpoints.updated(came, left)) == set(collection.endpoints)
    assert dict(collection.versions()) == {f"x/{i}": member.version for i, member in truth.items()}


@given(st.lists(ENDPOINTS), st.lists(ENDPOINTS), st.lists(ENDPOINTS.map(lambda one: one.address)))
def test_endpoint_map_is_as_right_as_a_dict(old: list[Endpoint], put: list[Endpoint], removed: list[str]) -> None:
    """An update is a removal and then an addition, and `changes` leads from one map to the other."""
    before = EndpointMap.of(old)
    after = before.updated(put, removed)
    truth = {one.address: one for one in old if one.address not in removed} | {one.address: one for one in put}
    assert {one.address: one for one in after} == truth
    assert len(after) == len(truth)
    came, left = changes(before, after)
    assert {one.address: one for one in before.updated(came, left)} == truth


def test_a_change_of_one_of_many_shares_the_rest() -> None:
    """One changed member of 20,000 leaves all rows of buckets but one the same objects, in both maps."""
    many = [
        Member(f"10.0.{i >> 8}.{i & 255}%3A80", Endpoint(f"10.0.{i >> 8}.{i & 255}:80"), "1") for i in range(20_000)
    ]
    before = EndpointCollection("x/*").updated(many)
    after = before.updated([many[7]._replace(endpoint=Endpoint(many[7].endpoint.address, 2), version="2")])
    for old, new in ((before.members, after.members), (before.endpoints, after.endpoints)):
        rows = list(zip(old._buckets._rows, new._buckets._rows, strict=True))
        assert sum(a is not b for a, b in rows) == 1
        assert len(rows) >= 8
        assert len(old._buckets.differing(new._buckets)) == 1
