"""Waiting times before a registry is asked again."""

from __future__ import annotations

import pytest

from meshsdk.discovery.backoff import delay


def test_waits_grow_to_a_ceiling():
    """From 0.2 s by 1.6 to 5 s, whatever the number of failures."""
    waits = [delay(failures, 0.5) for failures in (1, 2, 3, 50, 10_000)]
    assert waits == pytest.approx([0.2, 0.32, 0.512, 5.0, 5.0])


def test_the_draw_spreads_them():
    """A draw moves a wait by a fifth at most, so that a thousand instances do not come back in one moment."""
    assert delay(50, 0.0) == pytest.approx(4.0)
    assert delay(50, 0.999999) == pytest.approx(6.0, rel=1e-3)
