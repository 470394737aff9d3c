"""Fault drills in short: with one of five servers at fault, no peer brings more calls home than ours."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.parity.drill_stage import OURS, THREADS, drilled

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may make network namespaces"),
]

_RATE, _SECONDS, _DEADLINE = 40.0, 2.5, 4.0
_CHANCE = 0.02  # of a machine that has no time for one of them


@pytest.mark.parametrize("fault", ["failing 50%", "black-holed"])
def test_no_peer_brings_more_calls_home(tmp_path: Path, fault: str) -> None:
    """Every way calls at the same rate at the same time; but for chance, ours answers no smaller share than any."""
    with drilled(tmp_path, fault) as drill:
        called = drill.call(_RATE, _SECONDS, _DEADLINE)
    ended = {way: Counter(call.status for call in calls) for way, calls in called.items()}
    success = {way: found["OK"] / found.total() for way, found in ended.items()}
    for ours in (OURS, THREADS):
        assert success[ours] >= max(success.values()) - _CHANCE, ended
