"""Connections of woven channels across turns of the switch: which are closed, and when. Time is the test's."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from meshsdk.instrument import aio_channel, sync_channel
from meshsdk.instrument.aio_channel import WovenAioChannel
from meshsdk.instrument.path import LONGEST, QUIET, Path, Retirement
from meshsdk.instrument.sync_channel import WovenChannel
from meshsdk.instrument.way import Way


class Clock:
    """Monotonic seconds, for a module's `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """See `time`."""
        return self.now


class Channel:
    """Tells whether it was closed; `close` is of both kinds of channel."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> Any:
        """See grpc.Channel and grpc.aio.Channel."""
        self.closed = True
        return asyncio.sleep(0) if _on_loop() else None


def _on_loop() -> bool:
    return asyncio._get_running_loop() is not None


class Gate:
    """A gate that goes where the test says; `late`: the way that a call which asked before the turn still has."""

    def __init__(self, way: Way = Way.MESH) -> None:
        self.way = way
        self.late: Way | None = None
        self.owner: Any = None
        self.fallbacks = SimpleNamespace(count=lambda _: None)

    def owned(self, owner: Any) -> None:
        """See Gate."""
        self.owner = owner

    def open(self) -> Way:
        """See Gate."""
        return self.late or self.way

    def decided(self, _timeout: float | None) -> Way:
        """See Gate."""
        return self.open()

    def close(self) -> None:
        """See Gate."""

    def turn(self, way: Way) -> None:
        """The way is another one."""
        self.way = way
        self.owner.moved()


class SyncLab:
    """A synchronous channel, with what its undertaker was given."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.waiting: list[tuple[Retirement, Any]] = []
        patch.setattr(sync_channel, "time", self.clock)
        patch.setattr(sync_channel, "_UNDERTAKER", SimpleNamespace(take=lambda *given: self.waiting.append(given)))
        self.gate = Gate()
        self.woven = WovenChannel(self.gate, Channel, Channel)

    async def enter(self) -> Path:
        """The path of a call."""
        return self.woven.enter(None)[0]

    async def at(self, now: float) -> None:
        """What the undertaker does then."""
        self.clock.now = now
        for one, forget in list(self.waiting):
            if one.void or one.due(now):
                self.waiting.remove((one, forget))
                if forget(one):
                    one.path.channel.closed = True


class AioLab:
    """An asyncio channel, with its tasks."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        patch.setattr(aio_channel, "time", self.clock)
        patch.setattr(aio_channel, "_LOOK", 0)
        self.gate = Gate()
        self.woven = WovenAioChannel(self.gate, lambda _: Channel(), Channel, ())

    async def enter(self) -> Path:
        """The path of a call, after what a turn left to do."""
        path = self.woven.enter()
        await self._tidy()
        return path

    async def at(self, now: float) -> None:
        """What the tasks do then."""
        await self._tidy()
        self.clock.now = now
        await self._tidy()

    @staticmethod
    async def _tidy() -> None:
        for _ in range(10):
            await asyncio.sleep(0)


both = pytest.mark.parametrize("make", [SyncLab, AioLab], ids=["sync", "aio"])


@both
def test_a_path_that_is_left_once_more_has_all_of_its_time_anew(make, monkeypatch):
    """Off, on, and off again within 15 s: a stream that runs has 15 s from the last turn, and not from the first."""

    async def scenario() -> None:
        lab = make(monkeypatch)
        mesh = await lab.enter()
        mesh.begin(None)
        lab.gate.turn(Way.DIRECT)
        await lab.enter()
        await lab.at(5.0)
        lab.gate.turn(Way.MESH)
        assert await lab.enter() is mesh
        await lab.at(14.0)
        lab.gate.turn(Way.DIRECT)
        await lab.enter()
        for now in (LONGEST, LONGEST + 2 * QUIET, 14.0 + LONGEST - 0.1):
            await lab.at(now)
            assert not mesh.channel.closed
        await lab.at(14.0 + LONGEST)
        assert mesh.channel.closed

    asyncio.run(scenario())


@both
def test_a_path_that_was_taken_up_again_is_not_closed(make, monkeypatch):
    """Off and on: however long it lasts, and whatever the gate says between two calls."""

    async def scenario() -> None:
        lab = make(monkeypatch)
        mesh = await lab.enter()
        lab.gate.turn(Way.DIRECT)
        direct = await lab.enter()
        lab.gate.turn(Way.MESH)
        assert await lab.enter() is mesh
        lab.gate.turn(Way.FALLBACK)
        assert (await lab.enter()).channel is direct.channel
        await lab.at(LONGEST + QUIET)
        assert not mesh.channel.closed
        assert not direct.channel.closed

    asyncio.run(scenario())


@both
def test_a_path_made_for_a_call_that_came_too_late_is_closed(make, monkeypatch):
    """The gate moves on while a call enters: the connection that was made for this call alone does not stay."""

    async def scenario() -> None:
        lab = make(monkeypatch)
        lab.gate.turn(Way.DIRECT)
        lab.gate.late = Way.MESH
        mesh = await lab.enter()
        lab.gate.late = None
        direct = await lab.enter()
        assert (mesh.way, direct.way) == (Way.MESH, Way.DIRECT)
        await lab.at(QUIET)
        assert mesh.channel.closed
        assert not direct.channel.closed

    asyncio.run(scenario())


@both
def test_a_late_call_on_a_left_path_has_its_time_too(make, monkeypatch):
    """A call that entered as the gate moved on takes a connection about to be closed: 15 s from then."""

    async def scenario() -> None:
        lab = make(monkeypatch)
        mesh = await lab.enter()
        mesh.begin(None)
        lab.gate.turn(Way.DIRECT)
        await lab.enter()
        await lab.at(14.0)
        lab.gate.late = Way.MESH
        assert await lab.enter() is mesh
        lab.gate.late = None
        await lab.at(14.0 + LONGEST - 0.1)
        assert not mesh.channel.closed
        await lab.at(14.0 + LONGEST)
        assert mesh.channel.closed

    asyncio.run(scenario())
