"""The union of what all targets want, and its changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshsdk.model.resources import Kind
from meshsdk.model.snapshot import Key
from meshsdk.xds_client.interest import Interest

KEYS = [Key(Kind.CLUSTER, name) for name in "abcd"]
STEPS = st.lists(st.tuples(st.sampled_from("xyz"), st.frozensets(st.sampled_from(KEYS)), st.booleans()), max_size=20)


@given(STEPS)
def test_changes_add_up_to_the_union(steps):
    """Applying the changes in turn always gives the union of the wanted keys, with the targets of each key."""
    interest, union, targets = Interest(), set(), {}
    for target, wanted, look in steps:
        interest.set(target, wanted)
        targets[target] = wanted
        if look:
            added, dropped = interest.changes()
            assert not union & set(added)
            assert set(dropped) <= union
            union = union - set(dropped) | set(added)
            assert union == frozenset().union(*targets.values())
        for key in KEYS:
            assert set(interest.targets(key)) == {name for name, keys in targets.items() if key in keys}


def test_back_and_forth_is_no_change():
    """A key that is dropped by one target and wanted by another in the same round does not change hands."""
    interest = Interest()
    interest.set("x", frozenset(KEYS[:1]))
    interest.changes()
    interest.set("x", frozenset())
    interest.set("y", frozenset(KEYS[:1]))
    assert interest.changes() == ([], [])
