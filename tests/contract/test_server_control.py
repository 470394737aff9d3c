"""The control socket and its directory: private, cleaned of the dead, deaf to nonsense."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from pathlib import Path

import pytest

from meshsdk.errors import ConfigurationError
from meshsdk.lifecycle.control_socket import ControlSocket
from meshsdk.lifecycle.local_question import ask as question
from meshsdk.lifecycle.local_socket import LocalSocket
from meshsdk.lifecycle.run_directory import checked_length, living, pid_of, private, run_directory


@pytest.fixture
def directory(tmp_path, monkeypatch) -> Path:
    """The directory of the sockets, not made yet."""
    monkeypatch.setenv("MESHSDK_RUN_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


def ask(path: Path, question: bytes) -> bytes:
    """Sends bytes and returns the answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(question)
        return connection.recv(65536)


def test_the_directory_is_named_by_the_environment():
    """MESHSDK_RUN_DIR, else below XDG_RUNTIME_DIR, else one of this user's in /tmp."""
    assert run_directory({"MESHSDK_RUN_DIR": "/a", "XDG_RUNTIME_DIR": "/b"}) == Path("/a")
    assert run_directory({"XDG_RUNTIME_DIR": "/b"}) == Path("/b/meshsdk")
    assert run_directory({}) == Path(f"/tmp/meshsdk-{os.getuid()}")  # noqa: S108 - the product's own


def test_only_a_private_directory_is_used(tmp_path):
    """One that others may enter, a file in its place, and a path too long for a socket are refused in words."""
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "file").write_text("")
    assert private(tmp_path / "new").stat().st_mode & 0o777 == 0o700
    with pytest.raises(ConfigurationError, match="mode 0700"):
        private(tmp_path / "open")
    with pytest.raises(ConfigurationError, match="MESHSDK_RUN_DIR"):
        private(tmp_path / "file")
    with pytest.raises(ConfigurationError, match="too long"):
        checked_length(Path("/" + "x" * 120))


def test_a_question_that_breaks_the_answerer(directory):
    """It is answered with what went wrong, cut short, and the next one is answered as well."""

    def answer(asked):
        raise KeyError(asked["do"] * 500)

    control = LocalSocket(answer, ".admin")
    try:
        for _ in range(2):
            problem = json.loads(ask(control.path, b'{"do": "x"}\n'))["problem"]
            assert problem == f"cannot be answered: KeyError: '{'x' * 199}"
    finally:
        control.close()


def test_an_answer_that_is_too_long(directory):
    """Whoever asks is told so, not that nobody answered."""
    control = LocalSocket(lambda _: {"report": "x" * 5000}, ".admin")
    try:
        assert "longer than the 4000 bytes" in question(control.path, {}, time.monotonic() + 10, 4000)["problem"]
        assert question(control.path, {}, time.monotonic() + 10) == {"report": "x" * 5000}
    finally:
        control.close()


def test_questions_are_answered(directory):
    """`status` reports, `offline` acts and reports; the socket is this user's alone, and gone after `close`."""
    asked = []
    control = ControlSocket(lambda: {"state": "ONLINE"}, lambda: asked.append("offline"))
    try:
        assert control.path.parent == directory
        assert control.path.stat().st_mode & 0o777 == 0o600
        assert pid_of(control.path) == os.getpid()
        assert json.loads(ask(control.path, b'{"do": "status"}\n')) == {"state": "ONLINE"}
        assert asked == []
        assert json.loads(ask(control.path, b'{"do": "offline"}\n')) == {"state": "ONLINE"}
        assert asked == ["offline"]
    finally:
        control.close()
        control.close()
    assert not control.path.exists()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"[" * 4000 + b"\n",
        b"\xff\n",
        b"\n",
        b"[]\n",
        b'"x"\n',
        b"{}\n",
        b'{"do": ["offline"]}\n',
        b"x" * 10_000 + b"\n",
    ],
)
def test_nonsense_does_nothing(directory, nonsense):
    """What is no question is answered with words or not at all, and the next question is answered."""
    asked = []
    control = ControlSocket(lambda: {"state": "ONLINE"}, lambda: asked.append("offline"))
    try:
        try:
            answer = ask(control.path, nonsense)
        except ConnectionResetError:
            answer = b""
        assert answer == b"" or "problem" in json.loads(answer)
        assert json.loads(ask(control.path, b'{"do": "status"}\n')) == {"state": "ONLINE"}
        assert asked == []
    finally:
        control.close()


def test_a_bad_question_is_answered(directory):
    """Nesting deeper than a parser follows, and what is no JSON, get words; a report that fails costs no thread."""

    def fail() -> dict[str, object]:
        raise RecursionError("scripted")

    control = ControlSocket(fail, lambda: None)
    try:
        for bad in (b"[" * 4000 + b"\n", b"nonsense\n", b"\n"):
            assert json.loads(ask(control.path, bad)) == {"problem": "not a line of JSON"}
        answer = json.loads(ask(control.path, b'{"do": "status"}\n'))
        assert answer == {"problem": "cannot be answered: RecursionError: scripted"}
        assert "unknown question" in json.loads(ask(control.path, b'{"do": "dance"}\n'))["problem"]
    finally:
        control.close()


def drip(slow: socket.socket) -> None:
    """Sends byte after byte, fewer than a question may have, until it is hung up on."""
    for _ in range(600):
        slow.send(b"x")
        with contextlib.suppress(TimeoutError):
            slow.recv(1)


def test_a_question_has_a_deadline(directory, monkeypatch):
    """A peer that sends a byte now and then, each in time, is hung up on all the same."""
    monkeypatch.setattr("meshsdk.lifecycle.local_socket._PATIENCE", 0.3)
    control = ControlSocket(dict, lambda: None)
    try:
        with socket.socket(socket.AF_UNIX) as slow:
            slow.connect(str(control.path))
            slow.settimeout(0.05)
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                drip(slow)
    finally:
        control.close()


def test_sockets_of_the_dead_are_removed(directory):
    """A process that was killed left its socket: whoever looks next removes it, and leaves the living alone."""
    private(directory)
    dead = directory / "999999-0.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead))
    control = ControlSocket(dict, lambda: None)
    try:
        assert not dead.exists()
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(dead))
        found = living(directory, 5.0)
        for _, connection in found:
            connection.close()
        assert [path for path, _ in found] == [control.path]
        assert not dead.exists()
    finally:
        control.close()
    assert living(directory / "none", 5.0) == []
