"""A watch on a runtime layer: what is told when."""

from __future__ import annotations

import pytest

from meshsdk.model.resources import Kind, RuntimeLayer
from meshsdk.model.snapshot import Key, Unresolvable
from meshsdk.xds_client.layer import layer_target, resolve_layer
from meshsdk.xds_client.store import Entry, EntryStatus, Store

KEY = Key(Kind.RUNTIME, "steering")
LAYER = RuntimeLayer("steering", {"on": True})


def told(entry: Entry | None) -> object:
    """What a watcher is told of this state of the store; the key is wanted in any case."""
    store = Store()
    if entry is not None:
        store.put(entry)
    resolution = resolve_layer(store, layer_target("steering"))
    assert resolution.wanted == {KEY}
    return resolution.snapshot


@pytest.mark.parametrize("entry", [None, Entry(KEY)])
def test_while_the_answer_is_awaited_nothing_is_told(entry):
    """Neither a layer nor that there is none."""
    assert told(entry) is None


@pytest.mark.parametrize("status", [EntryStatus.PRESENT, EntryStatus.INVALID, EntryStatus.UNREACHABLE])
def test_a_layer_stays_in_force_until_it_is_taken_back(status):
    """A bad update and an outage take nothing back."""
    assert told(Entry(KEY, status, LAYER)) is LAYER


def test_a_layer_that_was_taken_back_is_gone():
    """Unlike a route (gRFC A88), whatever was held before: the control plane no longer steers."""
    gone = told(Entry(KEY, EntryStatus.ABSENT, LAYER))
    assert isinstance(gone, Unresolvable)
    assert gone.absent


@pytest.mark.parametrize("status", [EntryStatus.INVALID, EntryStatus.UNREACHABLE])
def test_trouble_is_not_absence(status):
    """A layer that cannot be read or fetched may be there."""
    gone = told(Entry(KEY, status, problem="down"))
    assert isinstance(gone, Unresolvable)
    assert not gone.absent
