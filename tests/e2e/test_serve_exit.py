"""The order of shutdown: inbound calls drain while outbound ones of their handlers still work, whatever ends it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from meshsdk.model.instance import InstanceState
from tests.e2e.lifecycles import Registered, Running, registered
from tests.e2e.test_serve import Caller


@pytest.fixture
def world(tmp_path) -> Iterator[Registered]:
    """A registry and what runs with it."""
    with registered(tmp_path) as running:
        yield running


def begin(ending: str, front: Running) -> None:
    """Begins the end of a server."""
    if ending == "fall":
        front.process.say("fall")
    else:
        os.kill(front.process.pid, signal.SIGTERM)


@pytest.mark.parametrize(
    ("kind", "ending"), [("sync", "wait"), ("sync", "exit"), ("sync", "fall"), ("aio", "wait"), ("aio", "exit")]
)
def test_handlers_call_on_while_their_server_drains(world, kind, ending):
    """A frontend under load, whose handlers call a backend through the mesh, is told to end: no call fails.

    The end: SIGTERM; SIGTERM with a handler of the application's that calls sys.exit; the main thread just ends.
    """
    backend = world.start(app="backend")
    fronts = [world.start(kind=kind, backend="mesh:///backend", ending=ending) for _ in range(2)]
    with Caller([front.port for front in fronts]) as caller:
        caller.more(200)
        assert caller.using == 0
        begin(ending, fronts[0])
        ledger = fronts[0].ledger()
        caller.more(100)
    assert caller.failures == []
    assert caller.using == 1
    assert fronts[0].ended() == 0
    assert "Traceback" not in fronts[0].process.errors
    assert world.state(fronts[0].address) is None
    assert world.state(fronts[1].address) is InstanceState.ONLINE
    begin(ending, fronts[1])
    other = fronts[1].ledger()
    assert ledger["calls"] + other["calls"] == caller.made
    os.kill(backend.process.pid, signal.SIGTERM)
    assert backend.ledger() == {"calls": caller.made, "most": 1}
