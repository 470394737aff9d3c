"""Rolling restarts under 64 callers of all shapes, sync and aio, through the control plane and without one.

The same with a fourth of the time to think, and against grpcio alone: `benchmarks.loss`.
"""

from __future__ import annotations

from tests.e2e.loss.stage import Serving, Stage
from tests.e2e.processes import until

QUIET = 0.6  # seconds; news through the control plane take up to 0.5


def test_twenty_rolling_restarts(stage: Stage) -> None:
    """Three instances are replaced one after the other, twenty times: nothing fails, nothing is executed twice."""
    stage.serving = Serving(quiet=QUIET)
    stage.serve(3)
    stage.both_ways()
    stage.roll(20)
    stage.goes_on()
    account = stage.verdict()
    assert account.clean, account
    assert account.made > 1000


def test_rolling_restarts_while_the_control_plane_is_away(stage: Stage) -> None:
    """Two of three are replaced meanwhile, told of by the servers alone; the third when it is back."""
    stage.serving = Serving(quiet=QUIET)
    stage.serve(3)
    stage.both_ways()
    stage.known()
    with stage.without("the control plane"):
        stage.roll(2)
        stage.goes_on()
    stage.known()
    stage.roll(1)
    account = stage.verdict()
    assert account.clean, account


def test_rolling_restarts_while_the_registry_is_away(stage: Stage) -> None:
    """One leaves and one comes, and nobody can hear of it; with the registry back it is found, and another replaced."""
    stage.serving = Serving(quiet=QUIET, lease=2)
    stage.serve(3)
    stage.both_ways()
    with stage.without("the registry"):
        stage.serve(1, unheard=True)
        for server in stage.drain():
            server.wait_ended()
        stage.goes_on()
    stage.settled()
    stage.known()
    stage.roll(1)
    account = stage.verdict()
    assert account.clean, account


def test_the_only_instance_is_relieved_after_it_was_told_to_go(stage: Stage) -> None:
    """Nobody else serves when it begins to drain, so it serves on; the next one comes, and takes over."""
    stage.serving = Serving(quiet=QUIET)
    stage.serve(1)
    stage.both_ways()
    (leaving,) = stage.drain()
    until(lambda: stage.registered() == {leaving.address: "DRAINING"}, "it drains")
    stage.goes_on(200)
    stage.serve(1)
    leaving.wait_ended()
    stage.goes_on()
    account = stage.verdict()
    assert account.clean, account
