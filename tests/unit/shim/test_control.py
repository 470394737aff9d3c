"""The control socket: one line of JSON in, one out, for this user only."""

from __future__ import annotations

import json
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from meshsdk.errors import ConfigurationError, LifecycleError
from meshsdk.shim.control import ControlSocket, ask
from tests.e2e.processes import until


def _refuse(asked):
    raise ConfigurationError(f"not {asked['what']}")


@pytest.fixture
def path() -> Iterator[Path]:
    """A socket with three commands; in /tmp, because pytest's folders are too long for one."""
    folder = Path(tempfile.mkdtemp(prefix="ctl-"))
    handlers = {"echo": lambda asked: {"said": asked["what"]}, "refuse": _refuse, "fail": lambda _asked: 1 / 0}
    handlers["number"] = lambda asked: {"read": int(asked["what"])}
    control = ControlSocket(folder / "control.sock", handlers)
    control.start()
    yield folder / "control.sock"
    control.stop()
    shutil.rmtree(folder)


def test_commands_are_answered(path: Path) -> None:
    """A command's fields come in and its answer goes out; the socket is the user's own."""
    assert ask(path, "echo", 5, what="hello") == {"ok": True, "said": "hello"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("refuse", "not that"),
        ("nothing", "no command 'nothing'; there are echo"),
        ("fail", "Zero"),
        ("number", "ValueError: invalid"),
    ],
)
def test_what_goes_wrong_is_said(path: Path, command: str, words: str) -> None:
    """A refusal, an unknown command and a defect come back in words."""
    with pytest.raises(LifecycleError, match=words):
        ask(path, command, 5, what="that")


@pytest.mark.parametrize("line", [b"no json\n", b"[1]\n", b"\n", b'{"command": 1}\n', b"x" * 200_000])
def test_nonsense_is_answered_or_dropped(path: Path, line: bytes) -> None:
    """Nonsense gets an error or an end, and the next command works."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(line)
        data = connection.recv(4096)
    assert not data or json.loads(data)["ok"] is False
    assert ask(path, "echo", 5, what=1)["said"] == 1


def test_deep_nonsense(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """JSON that is nested deeper than it can be read is no JSON, not a defect to report."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(b"[" * 60_000 + b"\n")
        assert json.loads(connection.recv(4096)) == {"ok": False, "error": "that is not a line of JSON"}
    assert "report it" not in caplog.text


def test_too_many_at_once(path: Path) -> None:
    """Whoever comes when all places are taken is told so, and served when there is one."""
    with ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        with pytest.raises(LifecycleError, match="busy with 16 commands"):
            ask(path, "echo", 5, what=1)

    def served() -> bool:
        try:
            return ask(path, "echo", 5, what=1)["said"] == 1
        except LifecycleError:
            return False

    until(served, "a free place", 10)


def test_nobody_there(tmp_path: Path) -> None:
    """Without a shim the error says where none was found."""
    with pytest.raises(LifecycleError, match="no shim answers at"):
        ask(tmp_path / "none", "status", 1)
