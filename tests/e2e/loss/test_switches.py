"""Interception turned off and on by TrafficSwitch, under 64 callers.

Half of them, and the servers, are unchanged programs under `meshsdk run`; the other half use the SDK.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.loss.stage import Serving, Stage
from tests.e2e.loss.switchboard import HOST, Switchboard


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A registry and a control plane; the service has the name of this host."""
    with ExitStack() as stack:
        yield Stage(stack, tmp_path, Serving(how="woven"), app=HOST)


def test_twenty_switches(stage: Stage) -> None:
    """Callers turn fourteen times; meanwhile servers turn one by one, six times: nothing is lost or doubled."""
    board = Switchboard(stage)
    turns = itertools.cycle(("off", "on"))
    for number in range(6):
        server, turn = board.woven[number % 3], ("off", "on")[number // 3]
        board.server(server, turn)
        for _ in range(2 + (number in (0, 3))):
            board.callers(next(turns))
        board.turned(server, turn)
    account = stage.verdict()
    assert account.clean, account


@pytest.mark.parametrize("away", ["the control plane", "the registry"])
def test_switches_while_something_is_away(stage: Stage, away: str) -> None:
    """It goes as a server has begun to turn, and comes back: all turn as they were told, and nothing is lost."""
    board = Switchboard(stage)
    first, second, _ = board.woven
    board.server(first, "off")
    board.callers("off")
    with stage.without(away):
        board.server(second, "off")
        stage.goes_on()
    board.callers("on")
    for server in (first, second):
        board.turned(server, "off")
    account = stage.verdict()
    assert account.clean, account
