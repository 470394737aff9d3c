"""Real processes for end-to-end tests: started on free loopback ports, awaited by a condition, always stopped.

Used by fixtures of tests/e2e. Never sleeps for a guessed time: `until` polls a condition up to a deadline.
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0  # seconds; far beyond what any step takes, so that a slow machine does not fail a test


def until(condition: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """Polls `condition` until its result is true and returns it; after `seconds` fails with `what` and the last result.

    An AssertionError or OSError raised by the condition counts as "not yet" and is shown if it never ends.
    """
    deadline = time.monotonic() + seconds
    last: object = None
    while True:
        try:
            result = condition()
            if result:
                return result
            last = result
        except (AssertionError, OSError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}; last seen: {last!r}")
        time.sleep(0.02)


def program(name: str) -> str:
    """Returns the path of an installed program, preferring this interpreter's own environment.

    A missing one is an error and never a skip: otherwise CI would be green without its foreign peers.
    """
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise FileNotFoundError(f"{name} is not installed; `make test` installs everything the tests start")
    return found


class Process:
    """A child process whose standard output is read line by line.

    Read-only after init, but for `_errors` and `_lines`, which a reader thread each fills.
    """

    def __init__(self, *command: str | Path, env: Mapping[str, str] | None = None) -> None:
        """Starts `command` in the project's root with `env` added to this process's environment."""
        self.command = [str(part) for part in command]
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._errors: list[str] = []
        self._child = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_output(self) -> None:
        for line in self._child.stdout or ():
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _read_errors(self) -> None:
        for line in self._child.stderr or ():
            self._errors.append(line.rstrip("\n"))
            del self._errors[:-400]

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._child.poll() is None

    @property
    def errors(self) -> str:
        """The last lines written to standard error."""
        return "\n".join(self._errors)

    def line(self, seconds: float = PATIENCE) -> str:
        """Returns the next line of standard output; fails when the process ends or `seconds` pass."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            line = None
        if line is None:
            state = "still runs" if self.running else f"ended with {self._child.poll()}"
            raise AssertionError(f"{' '.join(self.command[:4])} gave no line and {state}; its errors:\n{self.errors}")
        return line

    def say(self, words: str) -> None:
        """Writes a line to the process."""
        assert self._child.stdin is not None
        self._child.stdin.write(words + "\n")
        self._child.stdin.flush()

    def ask(self, question: str, seconds: float = PATIENCE) -> str:
        """Writes a line to the process and returns the next line it answers."""
        self.say(question)
        return self.line(seconds)

    def stop(self, seconds: float = 10.0) -> int:
        """Ends the process with SIGTERM, after `seconds` with SIGKILL; returns its exit code. May be called again."""
        if self.running:
            self._child.terminate()
        try:
            code = self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self._child.kill()
            code = self._child.wait()
        for reader in self._readers:
            reader.join(5)
        for stream in (self._child.stdin, self._child.stdout, self._child.stderr):
            if stream is not None:
                stream.close()
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def python(script: str | Path, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
    """Starts a Python script with this interpreter."""
    return Process(sys.executable, script, *arguments, env=env)


def entry_point(entry: str, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
    """Starts a console script by its entry point, such as `controlplane.cli:main`, as installing it would."""
    module, function = entry.split(":")
    code = f"import sys; from {module} import {function}; sys.exit({function}())"
    return Process(sys.executable, "-c", code, *arguments, env=env)
