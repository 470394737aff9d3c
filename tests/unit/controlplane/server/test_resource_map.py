"""`ResourceMap`: a persistent map that behaves as a dict and shares what did not change."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.server.resource_map import EMPTY
from tests.unit.controlplane.server.packs import EDS, packed

NAMES = st.integers(0, 400).map(str)
STEPS = st.lists(
    st.tuples(st.dictionaries(NAMES, st.sampled_from("12"), max_size=120), st.sets(NAMES, max_size=120)), max_size=6
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_behaves_as_a_dict(steps):
    """Whatever is put and removed, content, size, version and differences are those of a plain dict."""
    known, model = EMPTY, {}
    for put, removed in steps:
        before, before_model = known, dict(model)
        known = known.updated((packed(EDS, name, version) for name, version in put.items()), removed)
        for name in removed:
            model.pop(name, None)
        model.update(put)
        assert {found.name: found.version for found in known} == model
        assert len(known) == len(model)
        assert all(known.get(name).version == version for name, version in model.items())
        changed, gone = known.changes_from(before)
        assert {found.name for found in changed} == {n for n, v in model.items() if before_model.get(n) != v}
        assert set(gone) == before_model.keys() - model.keys()
    assert known.version == EMPTY.updated(packed(EDS, *item) for item in model.items()).version


def test_one_change_among_many_copies_one_bucket():
    """Changing one of 10,000 resources leaves all buckets but one shared with the map before."""
    many = EMPTY.updated(packed(EDS, str(index)) for index in range(10_000))
    changed = many.updated([packed(EDS, "77", "2")])
    shared = sum(a is b for a, b in zip(many._entries._buckets, changed._entries._buckets, strict=True))
    assert shared == len(many._entries._buckets) - 1
    assert [found.name for found in changed.changes_from(many)[0]] == ["77"]
    assert changed.version != many.version


def test_equal_content_is_the_same_map():
    """Putting what is there already, and removing what is not, gives the same object."""
    known = EMPTY.updated([packed(EDS, "a")])
    assert known.updated([packed(EDS, "a")], ["b"]) is known
    assert known.get("b") is None


def test_difference_is_shared():
    """Two streams that step between the same two maps get one and the same answer."""
    old = EMPTY.updated([packed(EDS, "a")])
    new = old.updated([packed(EDS, "b")])
    assert new.changes_from(old) is new.changes_from(old)
    assert new.everything() is new.everything()
