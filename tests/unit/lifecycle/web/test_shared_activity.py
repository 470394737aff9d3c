"""Counts in shared memory: what several processes' slots add up to, as another process sees it."""

from __future__ import annotations

from meshsdk.interceptors.activity import Sight
from meshsdk.lifecycle.web.activity import WebCall
from meshsdk.lifecycle.web.shared_activity import SharedActivity


def test_slots_add_up_in_another_view():
    """Two workers take calls; one is gone with a call in flight: arrivals stay counted, its call does not."""
    own = SharedActivity()
    other = SharedActivity(own.descriptor)
    first, second = own.slot(0), own.slot(1023)
    assert not other.booted
    for worker in (first, second):
        worker.boot()
        worker.enter(WebCall())
    second.enter(WebCall())
    second.leave(WebCall())
    assert other.booted
    assert other.look() == Sight(3, 2)
    other.release(0)
    assert own.look() == Sight(3, 1)
    assert other.cut("") == 0


def test_workers_see_the_drain():
    """The registrar says that it drains: every worker's next answer tells."""
    own = SharedActivity()
    worker = own.slot(3)
    assert not worker.draining
    SharedActivity(own.descriptor).draining = True
    assert worker.draining
