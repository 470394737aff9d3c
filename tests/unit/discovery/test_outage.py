"""Protection: when a registry's word that many instances are gone is doubted."""

from __future__ import annotations

from meshsdk.discovery.outage import Protection


def test_half_is_believed_and_less_is_not():
    """A loss that leaves half of what there was is believed; one that leaves less is doubted."""
    protection = Protection(60)
    protection.note(10, 0)
    assert not protection.doubts(5, 1)
    assert protection.doubts(4, 1)
    assert protection.doubts(0, 1)


def test_many_small_losses_count_together():
    """Lapses one by one are measured against the most there were lately."""
    protection = Protection(60)
    for count in range(10, 4, -1):
        protection.note(count, 10 - count)
    assert protection.doubts(4, 7)


def test_what_there_was_is_forgotten():
    """After the period what is there now is what counts."""
    protection = Protection(60)
    protection.note(10, 0)
    protection.note(4, 60)
    assert not protection.doubts(2, 61)
    assert not Protection(60).doubts(0, 0)


def test_those_who_said_farewell_are_not_missed():
    """Instances that drained lower the measure."""
    protection = Protection(60)
    protection.note(10, 0)
    protection.said_farewell(6)
    assert not protection.doubts(2, 1)
    assert protection.doubts(1, 1)


def test_turned_off():
    """With a period of 0 every word is believed."""
    protection = Protection(0)
    protection.note(10, 5)
    assert not protection.doubts(0, 5)
