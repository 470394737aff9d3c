"""One Envoy process: started with what it needs to be restarted in place, read, stopped. Decides nothing.

Used by `supervision`, and by upgrades, which start a second one beside the first: its listening sockets are handed to
it by the shim (`socket_keeper`).
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from meshsdk.errors import LifecycleError, MeshError
from meshsdk.private_file import replace_file
from meshsdk.shim.envoy.admin import EnvoyAdmin
from meshsdk.shim.envoy.socket_keeper import Berth, SocketKeeper
from meshsdk.shim.envoy.spawning import spawn

_LOG = logging.getLogger("meshsdk.shim")
_LOOK = 0.05  # seconds between looks while waiting for an event that Envoy does not announce
_KEPT = 50  # lines of its log
_LONGEST = 200  # characters of an explanation
_LOUD = ("error", "critical")
_QUIET = ("trace", "debug", "info", "warning")  # levels of lines that explain no end


class EnvoyFailed(LifecycleError):
    """Envoy did not start, or did not become ready; says in one line why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where Envoys of one shim live. `folder`: private. `bootstrap`: the file's content, given the admin socket.

    `keeper`: of the listening sockets. `drain_seconds`: for connections of listeners that end, and of an Envoy whose
    successor has taken over.
    """

    folder: Path
    bootstrap: Callable[[Path], bytes]
    keeper: SocketKeeper
    drain_seconds: float = 15.0
    concurrency: int = 2
    log_level: str = "warning"


@dataclass(frozen=True, slots=True)
class Launch:
    """`executable`: absolute. `epoch`: counts the Envoys of a shim."""

    executable: Path
    epoch: int = 0


@final
class EnvoyProcess:
    """Methods are for any thread after `start`. `_lines` is filled by the reader thread alone."""

    def __init__(self, launch: Launch, place: Place) -> None:
        self.launch = launch
        self._place = place
        self._admin_path = place.folder / f"admin-{launch.epoch}.sock"
        self.admin = EnvoyAdmin(self._admin_path)
        self._child: subprocess.Popen[str] | None = None  # set once, by `start`
        self._berth: Berth | None = None  # set once, by `start`
        self._lines: collections.deque[str] = collections.deque(maxlen=_KEPT)
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._listener: Callable[[], None] | None = None  # guarded by _lock

    @property
    def pid(self) -> int:
        """The process id."""
        return self._running.pid

    def start(self) -> None:
        """Starts it. Raises EnvoyFailed."""
        folder = self._place.folder
        config = folder / f"envoy-{self.launch.epoch}.json"
        try:
            self._admin_path.unlink(missing_ok=True)
            replace_file(config, [self._place.bootstrap(self._admin_path)])
            self._berth = self._place.keeper.berth(self.launch.executable)
            self._child = spawn([str(self.launch.executable), *self._flags(config), *self._berth.flags()])
        except (OSError, MeshError) as error:
            if self._berth is not None:
                self._berth.close()
            if isinstance(error, MeshError):
                raise EnvoyFailed(str(error)) from None
            raise EnvoyFailed(f"cannot start {self.launch.executable}: {error.strerror or error}") from None
        with contextlib.suppress(OSError):  # of use to the next shim only, see `leftovers`
            replace_file(folder / f"envoy-{self.launch.epoch}.pid", [str(self._child.pid).encode()])
        threading.Thread(target=self._read, name=f"meshsdk-envoy-{self._child.pid}", daemon=True).start()

    def _flags(self, config: Path) -> list[str]:
        place = self._place
        flags = ["--config-path", str(config), "--concurrency", str(place.concurrency)]
        flags += ["--log-level", place.log_level, "--log-format", "%l %v"]
        drain = max(1, round(place.drain_seconds))
        return [*flags, "--drain-time-s", str(drain), "--drain-strategy", "immediate"]

    def wait_ready(self, timeout: float) -> None:
        """Waits until Envoy serves. Raises EnvoyFailed with the reason, also when it ended."""
        deadline = time.monotonic() + timeout
        while not self.serves():
            if self._ended.wait(_LOOK):
                raise EnvoyFailed(f"Envoy ended with exit code {self.poll()}: {self.words()}")
            if time.monotonic() > deadline:
                raise EnvoyFailed(f"Envoy is not ready within {timeout:g} s: {self.words()}")

    def serves(self) -> bool:
        """Whether it has been told its clusters and listeners, and accepts connections."""
        return self._berth is not None and self._berth.serving.is_set() and self.admin.ready()

    def poll(self) -> int | None:
        """Returns the exit code, None while it runs."""
        return self._running.poll()

    def on_end(self, listener: Callable[[], None]) -> None:
        """Calls `listener` once, on another thread, when the process has ended (at once if it has)."""
        with self._lock:
            self._listener = listener
        if self._ended.is_set():
            self._tell()

    def terminate(self) -> None:
        """Asks it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it, and what it may have started: it leads a process group of its own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._running.pid, signal.SIGKILL)

    def wait(self, timeout: float) -> int | None:
        """Waits for its end; returns the exit code, None if it still runs."""
        return self.poll() if self._ended.wait(timeout) else None

    def words(self) -> str:
        """Returns the last thing it complained about."""
        lines = list(self._lines)
        loud = [line for line in lines if line.startswith(_LOUD)]
        other = [line for line in lines if line and not line.startswith(_QUIET)]  # said before its log was set up
        return (loud or other or ["it said nothing about it"])[-1][:_LONGEST]

    @property
    def _running(self) -> subprocess.Popen[str]:
        if self._child is None:
            raise LifecycleError("this Envoy has not been started")
        return self._child

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._running.send_signal(number)

    def _read(self) -> None:
        child = self._running
        for line in child.stderr or ():
            self._lines.append(line.rstrip("\n"))
            level = logging.WARNING if line.startswith(_LOUD) else logging.INFO
            _LOG.log(level, "envoy[%s]: %s", child.pid, self._lines[-1][: 10 * _LONGEST])
        child.wait()
        if child.stderr is not None:
            child.stderr.close()
        try:
            self._clear()
        except OSError as error:
            _LOG.warning("what the Envoy with pid %s left cannot be removed: %s", child.pid, error)
        finally:
            self._ended.set()
        self._tell()

    def _clear(self) -> None:
        """It has ended: nothing of it stays but what it said."""
        if self._berth is not None:
            self._berth.close()
        folder, epoch = self._place.folder, self.launch.epoch
        for path in (self._admin_path, folder / f"envoy-{epoch}.json", folder / f"envoy-{epoch}.pid"):
            path.unlink(missing_ok=True)

    def _tell(self) -> None:
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener()
