"""Backoff: growth, cap and jitter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshsdk.xds_client.timing import Timing


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_backoff_stays_within_bounds(attempt, draw):
    """Any attempt waits between 80 % of the first and 120 % of the longest wait."""
    assert 0.8 <= Timing().backoff(attempt, draw) <= 36.0


def test_backoff_grows_to_its_cap():
    """Without jitter the waits are 1, 1.6, 2.56 ... and 30 s at most."""
    waits = [round(Timing().backoff(attempt, 0.5), 2) for attempt in range(9)]
    assert waits == [1.0, 1.6, 2.56, 4.1, 6.55, 10.49, 16.78, 26.84, 30.0]


def test_jitter_spreads_evenly():
    """The draw moves the wait by at most a fifth either way."""
    assert Timing().backoff(0, 0.0) == 0.8
    assert Timing().backoff(0, 0.75) == 1.1
