"""When gathered changes go out."""

from __future__ import annotations

from controlplane.server.debounce import Debounce


def test_goes_out_after_quiet():
    """One change goes out when nothing followed it for the quiet time, once."""
    debounce = Debounce(quiet=0.02, most=0.5)
    assert debounce.deadline is None
    debounce.note(10.0)
    assert not debounce.due(10.01)
    assert debounce.due(10.02)
    assert not debounce.due(11.0)
    assert debounce.deadline is None


def test_each_change_puts_it_off():
    """A change that follows within the quiet time starts it anew."""
    debounce = Debounce(quiet=0.02, most=0.5)
    debounce.note(10.0)
    debounce.note(10.015)
    assert not debounce.due(10.02)
    assert debounce.due(10.035)


def test_is_not_put_off_for_ever():
    """Under steady change it goes out when the oldest change has waited as long as allowed."""
    debounce = Debounce(quiet=0.02, most=0.1)
    sent = []
    for step in range(100):
        now = step / 100
        if debounce.due(now):
            sent.append(now)
        debounce.note(now)
    assert sent[0] == 0.1
    assert 8 <= len(sent) <= 10
