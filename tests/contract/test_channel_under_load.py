"""Backends that are killed and replaced under load: no call fails, none is executed twice. Mesh channels only.

The backends are processes that log each request they execute; they are killed while no call is running on them, and
calls go on at once, before the mesh has looked at its connections.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.contract import channel_backend
from tests.contract.channel_backend import METHODS, SHAPES
from tests.contract.channels import snapshot
from tests.contract.test_channel_connecting import wait

pytestmark = pytest.mark.parametrize("path", ["mesh"])
CALLERS, CALLS, KILLS = 8, 12, 4
ROOT = Path(__file__).resolve().parents[2]


class Killable:
    """A backend process."""

    def __init__(self, name: str, log: Path) -> None:
        """Starts it and waits for its port."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, channel_backend.__file__, name, str(log)]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self._name = name

    @property
    def address(self) -> str:
        """Where it listens; waits for it to start."""
        if not hasattr(self, "_address"):
            self._address = f"127.0.0.1:{int(self.child.stdout.readline())}"
        return self._address

    def kill(self) -> None:
        """Ends it as the kernel does, and waits until it is gone."""
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()
        self.child.stdout.close()


@pytest.fixture
def processes(tmp_path):
    """Starts backends that write to one log; kills what is left."""
    started: list[Killable] = []

    def start(count: int) -> list[Killable]:
        new = [Killable(f"p{len(started) + number}", tmp_path / "log") for number in range(count)]
        started.extend(new)
        return new

    yield start, tmp_path / "log"
    for process in started:
        if process.child.poll() is None:
            process.kill()


def went(lab, processes) -> bool:
    """Whether grpc itself has seen these processes go; the mesh may not have looked yet."""
    gone = {process.address for process in processes}

    async def ready() -> bool:
        pool = list(lab.scopes[0].pool._connections.values())
        return any(connection.ready() for connection in pool if connection.address in gone)

    return not lab.loop.run(ready())


def sync_round(caller, first: int) -> list[str]:
    """Makes the calls of a round from many threads; returns what went wrong."""
    failed: list[str] = []

    def work(number: int) -> None:
        for turn in range(CALLS):
            shape = SHAPES[(number + turn) % 4]
            ended = caller.ask(shape, f"id:{first}.{number}.{turn}".encode())
            if ended.error is not None:
                failed.append(f"{shape}: {ended.error!r}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def aio_round(caller, first: int) -> list[str]:
    """Makes the calls of a round from many tasks; returns what went wrong."""
    failed: list[str] = []
    stubs = {shape: getattr(caller.channel, shape)(METHODS[shape]) for shape in SHAPES}

    async def work(number: int) -> None:
        for turn in range(CALLS):
            shape = SHAPES[(number + turn) % 4]
            request = f"id:{first}.{number}.{turn}".encode()
            try:
                call = stubs[shape](request if shape.startswith("unary") else iter([request]), timeout=20)
                if shape.endswith("_unary"):
                    await call
                else:
                    assert [answer async for answer in call]
            except Exception as error:  # noqa: BLE001 - counted
                failed.append(f"{shape}: {error!r}")

    async def everybody() -> None:
        await asyncio.gather(*(work(number) for number in range(CALLERS)))

    caller.thread.run(everybody())
    return failed


def test_killed_between_calls(lab, processes):
    """Half of the backends are killed between calls and replaced, four times; all calls of all shapes pass, once."""
    start, log = processes
    running = start(4)
    caller = lab.open("", first=snapshot(*(process.address for process in running)))
    load = sync_round if lab.facade == "sync" else aio_round
    failed = load(caller, 0)
    for turn in range(1, KILLS + 1):
        killed, stay = running[:2], running[2:]
        running = stay + start(2)
        for process in killed:
            process.kill()
        wait(lambda killed=killed: went(lab, killed))
        failed += load(caller, 10 * turn)  # the configuration still names the dead
        lab.source.push(snapshot(*(process.address for process in running)))
        failed += load(caller, 10 * turn + 1)
    executed = Counter(line.split()[1] for line in log.read_text().splitlines())
    assert failed == []
    assert set(executed.values()) == {1}
    assert len(executed) == CALLERS * CALLS * (1 + 2 * KILLS)
