"""Migration: which side of a registry a consumer uses, in every mode and over every history."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsdk.discovery.migration import Side, Standing, decide, preferred, watched
from meshsdk.model.migration import Migration

INTERFACE, APPLICATION = Side.INTERFACE, Side.APPLICATION
FORCE_INTERFACE, FIRST, FORCE = Migration.FORCE_INTERFACE, Migration.APPLICATION_FIRST, Migration.FORCE_APPLICATION
UNKNOWN, EMPTY, READY = Standing(), Standing(listed=True), Standing(listed=True, usable=3)


@pytest.mark.parametrize(
    ("mode", "application", "interface", "current", "side"),
    [
        (FORCE_INTERFACE, READY, UNKNOWN, None, None),  # the other side is no answer
        (FORCE_INTERFACE, READY, EMPTY, None, INTERFACE),
        (FORCE_INTERFACE, READY, EMPTY, APPLICATION, APPLICATION),  # nothing to move to
        (FORCE_INTERFACE, EMPTY, EMPTY, APPLICATION, INTERFACE),  # nothing to lose
        (FORCE_INTERFACE, READY, READY, APPLICATION, INTERFACE),
        (FIRST, READY, READY, None, APPLICATION),
        (FIRST, EMPTY, READY, None, INTERFACE),
        (FIRST, UNKNOWN, READY, None, None),  # a moment of patience
        (FIRST, EMPTY, EMPTY, None, APPLICATION),
        (FIRST, EMPTY, READY, APPLICATION, INTERFACE),  # the fallback
        (FIRST, READY, READY, INTERFACE, APPLICATION),  # and back
        (FIRST, EMPTY, EMPTY, INTERFACE, INTERFACE),
        (FIRST, Standing(usable=2), READY, APPLICATION, APPLICATION),  # one more application is about to be listed
        (FORCE, EMPTY, READY, APPLICATION, APPLICATION),  # no fallback
        (FORCE, EMPTY, READY, INTERFACE, INTERFACE),
        (FORCE, UNKNOWN, EMPTY, INTERFACE, INTERFACE),
        (FORCE, READY, READY, INTERFACE, APPLICATION),
    ],
)
def test_what_each_mode_does(mode, application, interface, current, side):
    """The table of the module, line by line."""
    assert decide(mode, application, interface, current, patient=True) is side


def test_patience_ends():
    """A consumer that began a while ago does without a side that stays silent."""
    assert decide(FIRST, UNKNOWN, READY, None, patient=False) is INTERFACE
    assert decide(FIRST, EMPTY, UNKNOWN, None, patient=False) is APPLICATION
    assert decide(FIRST, UNKNOWN, UNKNOWN, None, patient=False) is None


standings = st.builds(Standing, st.booleans(), st.integers(0, 2))


@dataclass
class Consumer:
    """A consumer over a history: what it uses, and what it was allowed to see."""

    side: Side | None = None
    seen: dict[Side, Standing] = field(default_factory=lambda: dict.fromkeys(Side, UNKNOWN))


@given(st.lists(st.tuples(st.sampled_from(Migration), standings, standings, st.booleans()), max_size=12))
def test_no_history_has_an_empty_moment(history):
    """Whatever modes and sides do: a side with instances is never left for one without or one not listed yet.

    And only what is watched is ever chosen, so a decision never rests on what nobody told.
    """
    consumer = Consumer()
    for mode, application, interface, patient in history:
        sides = {APPLICATION: application, INTERFACE: interface}
        visible = watched(mode, consumer.side)
        consumer.seen = {side: sides[side] if side in visible else UNKNOWN for side in Side}
        if consumer.side is not None:
            consumer.seen[consumer.side] = sides[consumer.side]
        before, seen = consumer.side, consumer.seen
        consumer.side = decide(mode, seen[APPLICATION], seen[INTERFACE], before, patient=patient)
        if before is not None:
            assert consumer.side is not None
            if consumer.side is not before:
                assert seen[consumer.side].ready or (seen[consumer.side].listed and not seen[before].usable)
        if consumer.side is not None and consumer.side is not before:
            assert consumer.side in visible
            assert seen[consumer.side].listed


@given(st.sampled_from(Migration), st.sampled_from([None, *Side]))
def test_a_mode_gets_its_side(mode, current):
    """Once its side has instances it is used, whatever was used before; then a forced mode watches no other."""
    assert decide(mode, READY, READY, current, patient=True) is preferred(mode)
    if mode is not FIRST:
        assert watched(mode, preferred(mode)) == {preferred(mode)}
    assert preferred(mode) in watched(mode, current)
