"""`meshsdk offline` towards processes that are silent, refuse, or are gone, and in directories that are not ours."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshsdk.cli import main
from meshsdk.lifecycle.run_directory import private

SILENT = {"status": None, "offline": None}
ONLINE = {"app": "orders", "address": "127.0.0.1:1", "state": "ONLINE"}


@pytest.fixture
def directory(tmp_path, monkeypatch) -> Path:
    """The run directory of the command."""
    monkeypatch.setenv("MESHSDK_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setattr("meshsdk.lifecycle.command._PATIENCE", 0.3)
    return private(tmp_path / "run")


@contextmanager
def answering(path: Path, answers: dict[str, object]) -> Iterator[list[str]]:
    """A process that answers as scripted (None: never); yields what it was asked."""
    asked: list[str] = []
    held = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                held.append(connection)
                do = json.loads(connection.recv(4096))["do"]
                asked.append(do)
                if answers[do] is not None:
                    connection.sendall(json.dumps(answers[do]).encode() + b"\n")

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            for connection in held:
                connection.close()


def test_silence_is_not_offline(directory, capsys):
    """A process that answers once and then never again: `--wait` waits to its timeout and fails with one line."""
    with answering(directory / "77-0.sock", {"status": ONLINE, "offline": None}) as asked:
        assert main(["offline", "--wait", "--timeout", "1"]) == 1
    errors = capsys.readouterr().err
    assert "not told to go offline: orders (pid 77" in errors
    assert len(errors.splitlines()) == 1
    assert asked.count("offline") > 1
    with answering(directory / "78-0.sock", {"status": None, "offline": ONLINE}):
        assert main(["offline", "--pid", "78", "--wait", "--timeout", "1"]) == 1
    assert "not offline after 1 s: pid 78, which does not answer" in capsys.readouterr().err


def test_the_answer_counts_without_wait_too(directory, capsys):
    """What refuses, and what does not answer, was not told; what answers with its report was."""
    with answering(directory / "77-0.sock", {"status": ONLINE, "offline": {"problem": "no"}}):
        assert main(["offline"]) == 1
        assert "not told to go offline" in capsys.readouterr().err
    (directory / "77-0.sock").unlink()
    with answering(directory / "78-0.sock", SILENT):
        assert main(["offline", "--pid", "78"]) == 1
        assert "pid 78, which does not answer" in capsys.readouterr().err
        assert main(["offline", "--app", "orders"]) == 1
        assert "no served process of application 'orders'" in capsys.readouterr().err
    (directory / "78-0.sock").unlink()
    with answering(directory / "79-0.sock", {"status": ONLINE, "offline": ONLINE}):
        assert main(["offline"]) == 0


@pytest.mark.parametrize("timeout", ["nan", "inf", "-1", "x"])
def test_a_timeout_is_a_number_of_seconds(timeout, capsys):
    """What is none is wrong usage, and nobody is asked."""
    with pytest.raises(SystemExit) as ended:
        main(["offline", "--wait", f"--timeout={timeout}"])
    assert ended.value.code == 2
    assert "--timeout" in capsys.readouterr().err


def test_a_directory_of_others_is_not_believed(directory, tmp_path, monkeypatch, capsys):
    """Open to others, or a link: refused before any socket in it is asked or removed."""
    dead = directory / "77-0.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead))
    directory.chmod(0o770)
    assert main(["offline"]) == 1
    assert "must be a directory of this user, mode 0700" in capsys.readouterr().err
    directory.chmod(0o700)
    (tmp_path / "link").symlink_to(directory)
    monkeypatch.setenv("MESHSDK_RUN_DIR", str(tmp_path / "link"))
    assert main(["offline"]) == 1
    assert "must be a directory of this user" in capsys.readouterr().err
    assert dead.exists()
    monkeypatch.setenv("MESHSDK_RUN_DIR", str(directory))
    assert main(["offline"]) == 1
    assert "no served process" in capsys.readouterr().err
    assert not dead.exists()


def test_only_what_is_ours_is_removed(directory):
    """Files, links, and dead sockets of another name stay where they are."""
    (directory / "77-0.sock").write_text("a file")
    (directory / "78-0.sock").symlink_to(directory / "other.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(directory / "other.sock"))
    before = sorted(directory.iterdir())
    assert main(["offline"]) == 1
    assert sorted(directory.iterdir()) == before
