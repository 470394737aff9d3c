"""The folder of one running shim: held by a lock, and cleared of what an earlier shim left when it was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from meshsdk.errors import ConfigurationError
from meshsdk.shim.settings import private_folder

_ENDING = 3.0  # seconds for an Envoy that was left behind


@contextlib.contextmanager
def held_folder(path: Path) -> Iterator[Path]:
    """Holds the folder for the time of a shim. Raises ConfigurationError where another one does."""
    folder = private_folder(path)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ConfigurationError(f"a shim is running in {folder}; give this one its own --folder") from None
    try:
        for file in folder.glob("envoy-*.pid"):
            _end_leftover(file, folder)
        yield folder
        for file in (*folder.glob("envoy-*"), *folder.glob("admin-*")):
            file.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _end_leftover(file: Path, folder: Path) -> None:
    """Ends an Envoy whose shim was killed: it has the ports, and nobody tells it anything."""
    try:
        pid = int(file.read_text(encoding="ascii"))
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        command = b""
    if str(folder).encode() + b"/envoy-" in command:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + _ENDING
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    file.unlink(missing_ok=True)
