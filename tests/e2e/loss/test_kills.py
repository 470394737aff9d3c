"""SIGKILL under load: what was in flight on that process and is not idempotent may fail. Nothing else, nothing twice.

In flight includes what was written to a connection that the kernel had not ended yet: the killed process never saw it,
and its caller cannot know.
"""

from __future__ import annotations

import os
import signal

from tests.e2e.loss.shapes import IDEMPOTENT
from tests.e2e.loss.stage import Server, Serving, Stage, now
from tests.e2e.loss.verdict import by_kill

KILLS = 5
SHAPES = "read:0.05,get:0.05,read:0.02,get,watch,put,chat"


def test_kills_cost_no_more_than_what_was_in_flight_there(stage: Stage) -> None:
    """Five times one of three dies: a caller loses one call at most, idempotent calls go elsewhere and succeed."""
    stage.serving = Serving(quiet=0.6, lease=2)
    stage.serve(3)
    for kind in ("sync", "aio"):
        stage.load("xds:///orders", "--kind", kind, "--shapes", SHAPES)
        # Without a control plane there is no retry policy.
        stage.load("mesh:///orders", "--kind", kind, "--shapes", SHAPES.replace("read", "get"))
    stage.wait_load()
    victims: list[Server] = []
    kills: list[float] = []
    for _ in range(KILLS):
        stage.goes_on()
        victims.append(stage.servers.pop(0))
        kills.append(now())
        os.kill(victims[-1].process.pid, signal.SIGKILL)
        victims[-1].process.stop()
        stage.serve(1)
    stage.goes_on()
    account = stage.verdict()
    assert not account.untrue, account
    assert account.repeated, f"no idempotent call was in flight: the scenario proves nothing\n{account}"
    begun = [victim.begun() for victim in victims]
    lost = by_kill(account.failed, kills)
    assert sorted(lost) == list(range(KILLS)), account
    for kill, failed in lost.items():
        assert len({call.caller for call in failed}) == len(failed), f"a caller lost two: {failed}"
        for call in failed:
            assert call.shape not in IDEMPOTENT, call
            # grpc.aio says INTERNAL of a connection that ended while it wrote a message.
            assert call.outcome in ("UNAVAILABLE", "INTERNAL"), call
            assert call.id in begun[kill] or call.id not in account.executed, f"it was in flight elsewhere: {call}"
