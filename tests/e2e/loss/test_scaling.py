"""From one instance to ten and back to one under 64 callers; the last one is none of the first."""

from __future__ import annotations

import pytest

from tests.e2e.loss.stage import Serving, Stage

QUIET = 0.6  # seconds; news through the control plane take up to 0.5


@pytest.mark.parametrize("away", ["the control plane", "the registry"])
def test_one_to_ten_to_one(stage: Stage, away: str) -> None:
    """Nine come at once; five go while something is away, four more when it is back: nothing is lost."""
    stage.serving = Serving(quiet=QUIET, lease=2)
    stage.serve(1)
    stage.both_ways()
    stage.serve(9)
    stage.known()
    with stage.without(away):
        for server in stage.drain(5):
            server.wait_ended()
        stage.goes_on()
    for server in stage.drain(4):
        server.wait_ended()
    stage.goes_on()
    account = stage.verdict()
    assert account.clean, account
