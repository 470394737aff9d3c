"""When gathered changes go out."""

from __future__ import annotations

import itertools

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


def run(debounce: Debounce, gap: float, until: float, cost: float = 0.0) -> list[float]:
    """Sends under a change every `gap` seconds, each sending being `cost` seconds of work; returns when it was."""
    sent: list[float] = []
    worked, now, noted = 0.0, 10.0, 10.0
    while now < 10.0 + until:
        if now >= noted:
            debounce.note(now)
            noted += gap
        debounce.worked(worked)
        if debounce.due(now):
            sent.append(now)
            worked = cost
        now += 0.001
    return sent


def gaps(sent: list[float]) -> list[int]:
    """Milliseconds from one sending to the next."""
    return [round((after - before) * 1000) for before, after in itertools.pairwise(sent)]


def test_steady_change_does_not_wait_for_a_quiet_moment():
    """Under changes that leave no quiet moment, they go out after twice the quiet time and not as late as allowed."""
    sent = run(Debounce(quiet=0.02, most=0.5), gap=0.005, until=1.0)
    assert all(gap <= 46 for gap in gaps(sent))
    assert len(sent) >= 20


def test_changes_as_far_apart_as_the_quiet_time_are_not_put_off():
    """Changes 20 ms apart at 20 ms of quiet, 50 a second, wait 40 ms at most."""
    sent = run(Debounce(quiet=0.02, most=0.5), gap=0.02, until=1.0)
    assert all(gap <= 61 for gap in gaps(sent))


def test_a_busy_server_gathers_more():
    """Where sending takes 100 ms, the next sending waits until the server had a while for other things."""
    sent = run(Debounce(quiet=0.02, most=0.5), gap=0.005, until=2.0, cost=0.1)
    assert all(120 <= gap <= 135 for gap in gaps(sent))


def test_is_not_put_off_for_ever():
    """However busy the server, a change goes out when it has waited as long as allowed."""
    sent = run(Debounce(quiet=0.02, most=0.5), gap=0.005, until=4.0, cost=3.0)
    assert all(gap <= 506 for gap in gaps(sent))


def test_without_quiet_changes_go_out_at_once():
    """A debounce of 0 sends each change as it comes."""
    debounce = Debounce(quiet=0.0, most=0.0)
    debounce.note(10.0)
    assert debounce.due(10.0)
