"""Starts child processes from one thread that lives as long as this process.

Envoy asks the kernel for SIGTERM when its parent dies (`PR_SET_PDEATHSIG`), and to the kernel the parent is the
*thread* that started it: an Envoy started from the thread of one command would end with that command. Used by
`process`.
"""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import Future

_lock = threading.Lock()
_orders: queue.SimpleQueue[tuple[Sequence[str], Future[subprocess.Popen[str]]]] = queue.SimpleQueue()
_thread: threading.Thread | None = None  # guarded by _lock; made when first needed


def spawn(command: Sequence[str]) -> subprocess.Popen[str]:
    """Starts `command` in a session of its own, with its errors on a pipe of text. Raises OSError."""
    global _thread  # noqa: PLW0603 - one such thread a process is the point
    with _lock:
        if _thread is None:
            _thread = threading.Thread(target=_run, name="meshsdk-shim-parent", daemon=True)
            _thread.start()
    outcome: Future[subprocess.Popen[str]] = Future()
    _orders.put((command, outcome))
    return outcome.result()


def _run() -> None:
    while True:
        command, outcome = _orders.get()
        try:
            outcome.set_result(_started(command))
        except BaseException as error:  # noqa: BLE001 - the caller's to handle, on its thread
            outcome.set_exception(error)


def _started(command: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - a program that was checked, without a shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is for the shim, which drains first
    )
