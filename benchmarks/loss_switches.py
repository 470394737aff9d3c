"""Interception of unchanged programs turned off and on under load, callers and servers at once. Part of B6 (`loss`)."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.loss_outcome import Outcome, stage_of
from tests.e2e.loss.stage import Serving
from tests.e2e.loss.switchboard import HOST, Switchboard

NOTES = (
    (
        "Interception: half of the callers, and the servers, run under `meshsdk run`; each time all those callers and "
        "one server turn, off or on, by TrafficSwitch. Stock gRPC has no such thing: its programs are restarted."
    ),
)


def run(turns: int, callers: int) -> list[Outcome]:
    """Turns callers and a server, so many times."""
    with ExitStack() as stack:
        stage = stage_of(stack, Serving(how="woven"), HOST)
        board = Switchboard(stage, callers // 4)
        for number in range(turns):
            server = board.woven[number // 2 % len(board.woven)]
            turn = "on" if number % 2 else "off"
            board.server(server, turn)
            board.callers(turn)
            board.turned(server, turn)
        return [Outcome("meshsdk run, TrafficSwitch", turns, stage.verdict(), promised=True)]
