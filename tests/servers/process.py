"""A server of the tests as a child process: on a loopback port that is free at first, its data in a folder of its own.

The servers of this folder are made of it. Each can be stopped, killed, frozen and started again on the same port and
data. Nothing is started before `start`, and whoever made one ends it with `remove`.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tests.e2e.processes import PATIENCE, until

if TYPE_CHECKING:
    from typing_extensions import Self

_ORDERLY = 10.0  # seconds that `stop` gives a server before it kills it


class ServerProcess:
    """Base of every server.

    `kind`: its name in messages. `patience`: seconds for a start. `port`: on 127.0.0.1, the same over restarts.
    `folder`: where it runs and keeps its data and the log of its last start.
    """

    kind: ClassVar[str]
    patience: ClassVar[float] = PATIENCE

    def __init__(self, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self.folder = Path(tempfile.mkdtemp(prefix=f"meshsdk-{self.kind.lower()}-"))
        self._child: subprocess.Popen[bytes] | None = None

    # -- what a server says of itself -------------------------------------------------------------------------------

    def _command(self) -> list[str]:
        """Returns the command that runs it, and writes the configuration that this needs."""
        raise NotImplementedError

    def _environment(self) -> Mapping[str, str] | None:
        """Returns the environment it runs in; None: that of the tests."""
        return None

    def _answers(self) -> bool:
        """Tells whether it serves; an AssertionError or OSError means that it does not yet, and says why."""
        raise NotImplementedError

    # -- from outside -----------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id; it must run."""
        assert self._child is not None
        return self._child.pid

    @property
    def log(self) -> str:
        """What it wrote since it was started last."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> Self:
        """Starts it on its data, unless it runs, and waits until it serves; returns itself."""
        if self._child is None:
            self.launch()
        self.wait()
        return self

    def launch(self) -> None:
        """Starts it and does not wait for it."""
        with (self.folder / "log").open("wb") as log:
            self._child = subprocess.Popen(
                self._command(),
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        """Waits until it serves; one that does not is killed, and its log told."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.kill)
            try:
                until(self._serves, f"{self.kind} on {self.address} serves", self.patience)
            except AssertionError as error:
                raise AssertionError(f"{error}; its log ends with:\n{self.log[-2000:]}") from None
            undo.pop_all()

    def stop(self) -> None:
        """Ends it in order; its data stays."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once; its data stays."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stops it from doing anything; its connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """Ends it and removes its data; may be called again."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _serves(self) -> bool:
        assert self._child is not None
        assert self._child.poll() is None, "it ended"
        return self._answers()

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.send_signal(number)
        child.send_signal(signal.SIGCONT)  # a frozen one would not see the first
        try:
            child.wait(_ORDERLY)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def free_port() -> int:
    """Returns a loopback port that nothing listens on now.

    It is none that the system gives to outgoing connections: those could take it while the server is down.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    """Tells whether nothing listens on a loopback port now."""
    with socket.socket() as listener, contextlib.suppress(OSError):
        listener.bind(("127.0.0.1", port))
        return True
    return False
