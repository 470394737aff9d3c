"""Child processes of a benchmark run: Python workers and Envoy. Each is ended by its own process object, always."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
_PATIENCE = 120.0  # seconds for any one answer


def _environment() -> dict[str, str]:
    """Returns what every child gets. Bytecode is kept, as pip leaves it: a source tree must not pay for compiling."""
    known = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    bytecode = {"PYTHONPYCACHEPREFIX": str(ROOT / ".cache" / "bytecode")}
    return {**known, **bytecode, "PYTHONPATH": str(ROOT), "GRPC_VERBOSITY": "ERROR"}


class Child:
    """A process; its standard error goes to a file that is shown when it fails. A context manager that stops it."""

    def __init__(self, command: list[str], env: Mapping[str, str] | None = None) -> None:
        """Starts `command` in the project's root with `env` added to this process's environment."""
        self.command = command
        self._errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**_environment(), **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._unread = b""

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def ask(self, patience: float = _PATIENCE, **command: Any) -> dict[str, Any]:
        """Sends a command to a worker and returns its answer. Raises RuntimeError with the worker's errors."""
        stream = self._process.stdin
        assert stream is not None
        stream.write(json.dumps(command).encode() + b"\n")
        stream.flush()
        return self.answer(patience)

    def answer(self, patience: float = _PATIENCE) -> dict[str, Any]:
        """Returns what the worker says next."""
        found: dict[str, Any] = json.loads(self.line(patience))
        return found

    def line(self, patience: float = _PATIENCE) -> str:
        """Returns the next line of standard output. Raises RuntimeError with the process's errors."""
        stream = self._process.stdout
        assert stream is not None
        deadline = time.monotonic() + patience
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([stream], [], [], max(left, 0.0))
            chunk = os.read(stream.fileno(), 1 << 20) if ready else b""
            if not chunk:
                why = "ended" if ready else f"said nothing for {patience:g} s"
                raise RuntimeError(f"{' '.join(self.command[1:5])} {why}:\n{self.errors()}")
            self._unread += chunk
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode()

    def errors(self) -> str:
        """Returns the end of what it wrote to standard error."""
        self._errors.seek(0)
        return self._errors.read()[-4000:]

    def stop(self) -> None:
        """Ends it: SIGTERM, and SIGKILL after five seconds. May be repeated."""
        if self.running:
            self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def worker(name: str, *arguments: str, env: Mapping[str, str] | None = None) -> Child:
    """Starts `benchmarks.workers.NAME` with this interpreter."""
    return Child([sys.executable, "-m", f"benchmarks.workers.{name}", *arguments], env)
