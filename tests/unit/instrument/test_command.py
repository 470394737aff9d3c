"""`meshsdk run`: what it runs, and in which environment."""

from __future__ import annotations

import argparse

import pytest

from meshsdk.cli import main
from meshsdk.errors import MeshError
from meshsdk.instrument import command
from meshsdk.instrument.command import command_of, woven_environment


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["app.py", "-x"], ["PY", "app.py", "-x"]),
        (["app.pyz"], ["PY", "app.pyz"]),
        (["-m", "shop.app", "--port", "1"], ["PY", "-m", "shop.app", "--port", "1"]),
        (["python", "-u", "app.py", "-I"], ["python", "-u", "app.py", "-I"]),
        (["-mshop.app", "q"], ["PY", "-mshop.app", "q"]),
        (["gunicorn", "-E", "app:app"], ["gunicorn", "-E", "app:app"]),
        *(
            ([*words, "app.py"], [*words, "app.py"])
            for words in (
                ["python", "-Wignore::ImportWarning"],
                ["python", "-uW", "ignore::ImportWarning"],
                ["python", "-X", "-I"],
                ["python", "-XE"],
                ["python", "--check-hash-based-pycs", "-S"],
                ["python", "-cS", "-I"],
                ["python", "--", "-I"],
            )
        ),
    ],
)
def test_files_and_modules_run_with_this_python_and_commands_as_they_are(words, expected):
    """Arguments of the program are the program's."""
    assert command_of(words, "PY") == expected


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "name the program"),
        (["-m"], "name the program"),
        (["--x"], "no option"),
        (["python3", "-uI", "app.py"], "-uI"),
        (["python", "-W", "ignore", "-I", "app.py"], "-I"),
        (["python", "-Wignore", "-E", "app.py"], "-E"),
        (["python", "-X", "dev", "-uS", "app.py"], "-uS"),
        (["python", "--check-hash-based-pycs", "never", "-I", "app.py"], "-I"),
    ],
)
def test_what_cannot_be_woven_is_refused(words, part):
    """Nothing to run, an option that does not exist, a Python that looks at nothing from outside."""
    with pytest.raises(MeshError, match=part):
        command_of(words, "PY")


def test_the_environment_has_the_start_first_and_once():
    """Before the user's own path, and not again in a program that runs another one."""
    first = woven_environment({"PYTHONPATH": "/a:/b", "X": "y"}, "/start", "7")
    assert first == {"PYTHONPATH": "/start:/a:/b", "X": "y", "MESHSDK_RUN_PID": "7"}
    assert woven_environment(first, "/start", "8")["PYTHONPATH"] == "/start:/a:/b"
    assert woven_environment({}, "/start", "8")["PYTHONPATH"] == "/start"


@pytest.mark.parametrize("given", ["/x:", ":/x", "/x::/y", ":"])
def test_empty_entries_of_the_path_stay(given):
    """They mean the working directory to Python; a path that is empty as a whole means nothing."""
    once = woven_environment({"PYTHONPATH": given}, "/start", "7")
    assert once["PYTHONPATH"] == f"/start:{given}"
    assert woven_environment(once, "/start", "8")["PYTHONPATH"] == f"/start:{given}"
    assert woven_environment({"PYTHONPATH": ""}, "/start", "7")["PYTHONPATH"] == "/start"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["app.py", "-m", "--", "x"], ["app.py", "-m", "--", "x"]),
        (["--", "python", "app.py", "--flag"], ["python", "app.py", "--flag"]),
        (["-m", "shop", "--flag", "-m"], ["-m", "shop", "--flag", "-m"]),
        (["-mshop", "q"], ["-mshop", "q"]),
        (["-mshop", "-h", "--", "q"], ["-mshop", "-h", "--", "q"]),
        (["--", "-m", "shop", "--help"], ["-m", "shop", "--help"]),
    ],
)
def test_the_line_is_taken_as_typed(line, expected, monkeypatch):
    """Up to the program are our words, everything after it is the program's."""
    ran = []
    monkeypatch.setattr(command.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(command.os, "execve", lambda *given: ran.append(given))
    monkeypatch.setattr(command.sys, "executable", "PY")
    parser = argparse.ArgumentParser()
    command.configure(parser)
    command.main(parser.parse_args(line))
    words = ran[0][1]
    assert (words[1:] if words[0] == "PY" else words) == expected


def test_a_program_that_does_not_exist_is_said():
    """One clear line."""
    parser = argparse.ArgumentParser()
    command.configure(parser)
    with pytest.raises(MeshError, match="no-such-program"):
        command.main(parser.parse_args(["no-such-program"]))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ([], "name the program"),
        (["--"], "name the program"),
        (["-m"], "name the program"),
        (["-c", "pass"], "-c: is no option of meshsdk run; write meshsdk run -- python -c pass"),
    ],
)
def test_a_line_without_a_program_is_wrong_usage(line, words, capsys, monkeypatch):
    """The usage, what to write instead, and exit code 2."""
    monkeypatch.setattr(command.os, "execve", lambda *given: pytest.fail(f"ran {given[1]}"))
    with pytest.raises(SystemExit) as ended:
        main(["run", *line])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: meshsdk run")
    assert words in said


def test_help_is_shown(capsys):
    """`meshsdk run --help` runs nothing."""
    assert main(["run", "--help"]) == 0
    assert "PROGRAM" in capsys.readouterr().out
