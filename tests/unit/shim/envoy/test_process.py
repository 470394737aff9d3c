"""What an Envoy leaves when it has ended, and what is quoted of its log. A shell script stands in for Envoy."""

from __future__ import annotations

import queue
import shutil
import tempfile
import threading
from pathlib import Path

import pytest

from meshsdk.shim.envoy.process import EnvoyProcess, Launch, Place
from meshsdk.shim.envoy.restart_segment import create_segment, segment_path
from meshsdk.shim.envoy.socket_keeper import SocketKeeper
from meshsdk.shim.envoy.supervision import Pauses, Supervision


@pytest.fixture
def place():
    """A folder whose name is short enough for a Unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="shim-"))
    keeper = SocketKeeper(folder)
    yield Place(folder, lambda _: b"{}", keeper)
    keeper.close()
    shutil.rmtree(folder)


def ended(place: Place, epoch: int, words: str = "exit 3") -> EnvoyProcess:
    """Runs one to its end."""
    program = place.folder / "program"
    program.write_text(f'#!/bin/sh\n[ "$1" = --hot-restart-version ] && echo 11.104 && exit\n{words}\n')
    program.chmod(0o755)
    process = EnvoyProcess(Launch(program, epoch), place)
    process.start()
    assert process.wait(30) is not None
    return process


def left(place: Place) -> tuple[int, int, list[str]]:
    """Threads of berths, open files, and files."""
    threads = sum(thread.name == "meshsdk-shim-sockets" for thread in threading.enumerate())
    return threads, len(list(Path("/proc/self/fd").iterdir())), sorted(map(str, place.folder.iterdir()))


def test_nothing_stays_of_an_envoy_that_has_ended(place, monkeypatch):
    """However often it ends: no thread, no open file, no file and no shared memory more than after the first."""
    made = []
    create = "meshsdk.shim.envoy.socket_keeper.create_segment"
    monkeypatch.setattr(create, lambda base_id, size: made.append(base_id) or create_segment(base_id, size))
    ended(place, 0)
    before = left(place)
    for epoch in range(1, 5):
        ended(place, epoch)
    assert left(place) == before
    assert len(made) == 5
    assert [base_id for base_id in made if segment_path(base_id).exists()] == []


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("warning something else", "it said nothing about it"),
        ("error bad; warning later", "error bad"),
        ("warning before; bad interpreter", "bad interpreter"),
    ],
)
def test_what_is_quoted(place, said, words):
    """An error, or what was said outside of its log; never a warning about something else."""
    lines = "; ".join(f"echo '{line.strip()}' >&2" for line in said.split(";"))
    assert ended(place, 0, f"{lines}; exit 1").words() == words


def test_what_speaks_against_a_program():
    """An end within a minute of its start, and no later one."""
    assert Pauses().soon(59.9)
    assert not Pauses().soon(60.0)


def test_an_envoy_that_does_not_stay_up_is_told_of(place, monkeypatch):
    """It is killed: failing, and why; the next one stays up for a while: the trouble is over."""
    monkeypatch.setattr(EnvoyProcess, "wait_ready", lambda *_: None)
    monkeypatch.setattr("meshsdk.shim.envoy.supervision._WELL", 0.05)
    program = place.folder / "program"
    program.write_text('#!/bin/sh\n[ "$1" = --hot-restart-version ] && echo 11.104 && exit\nexec sleep 600\n')
    program.chmod(0o755)
    told: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()
    supervision = Supervision(program, place)
    supervision.trouble = lambda problem, *, failing: told.put((problem, failing))
    supervision.start(30)
    try:
        first = supervision.current
        first.kill()
        problem, failing = told.get(timeout=30)
        assert problem.startswith("Envoy ended with exit code -9 after ")
        assert failing
        assert told.get(timeout=30) == ("", False)
        assert supervision.current is not first
    finally:
        supervision.stop()
