"""Whether xDS is answered yet: who is waited for, for how long, and what is said meanwhile."""

from __future__ import annotations

import logging
import threading

import pytest

from controlplane.gate import Awaited, Gate

ROUTES, OWN = "type.googleapis.com/routes", "mcp/VirtualService"


class World:
    """Two that are awaited, by a clock that waiting turns; `heard_at`: when each tells, `end_at`: when all is ended."""

    def __init__(self, *heard_at: float, end_at: float = 1e9) -> None:
        self.now = 0.0
        self.ended = threading.Event()
        self._end_at = end_at
        names = ("registry main", "source xds://h:1")
        awaited = [
            Awaited(name, lambda seconds, at=at: self._heard(seconds, at), lambda: "UNAVAILABLE")
            for name, at in zip(names, heard_at, strict=False)
        ]
        self.gate = Gate(awaited, [OWN], lambda: self.now)

    def _heard(self, seconds: float, at: float) -> bool:
        self.now += seconds
        if self.now >= self._end_at:
            self.ended.set()
        return self.now >= at


def test_without_anybody_to_wait_for_it_is_open_at_once() -> None:
    """No registry, no source: all is answered from the start."""
    world = World()
    assert world.gate.held(ROUTES) == ""
    assert world.gate.wait(None, world.ended)


def test_it_waits_for_all_without_limit_and_says_for_whom(caplog: pytest.LogCaptureFixture) -> None:
    """Half a minute: refused with the names, a line at first and every ten seconds, and open at last."""
    caplog.set_level(logging.WARNING)
    world = World(0.0, 35.0)
    assert world.gate.held(ROUTES) == "the control plane waits for source xds://h:1"
    assert world.gate.held(OWN) == ""
    assert world.gate.wait(None, world.ended)
    assert world.now == pytest.approx(35.0, abs=0.2)
    assert caplog.messages == ["xDS is not answered yet: waiting for source xds://h:1 (UNAVAILABLE)"] * 4
    assert world.gate.held(ROUTES)  # until what was heard is in force
    world.gate.open()
    assert (world.gate.held(ROUTES), world.gate.waiting_for()) == ("", [])


def test_those_that_tell_at_once_cost_no_line(caplog: pytest.LogCaptureFixture) -> None:
    """A start as it should be is not worth a warning."""
    world = World(0.3, 0.5)
    assert world.gate.wait(None, world.ended)
    assert caplog.messages == []


def test_patience_bounds_the_waiting(caplog: pytest.LogCaptureFixture) -> None:
    """After so many seconds it goes on, and says without whom."""
    world = World(1e6, 0.0)
    assert world.gate.wait(0.5, world.ended)
    assert world.now == pytest.approx(0.5)
    assert caplog.messages == ["xDS is answered without registry main (UNAVAILABLE): waited for 0.5 s"]


def test_the_waiting_can_be_ended() -> None:
    """The process is to stop: it waits no longer, and stays closed."""
    world = World(1e6, 1e6, end_at=3.0)
    assert not world.gate.wait(None, world.ended)
    assert world.gate.held(ROUTES) == "the control plane waits for registry main, source xds://h:1"
