"""The admin socket of a process: `meshsdk doctor` and `meshsdk explain` ask it about the meshes of that process.

A Unix socket that this user alone can open (`MESHSDK_RUN_DIR`), opened when a mesh makes its first channel and closed
with the process; `MESHSDK_ADMIN=off` opens none. It shows configuration and addresses and changes nothing.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Mapping
from typing import Any

from meshsdk.errors import ConfigurationError, MeshError
from meshsdk.lifecycle.local_socket import LocalSocket
from meshsdk.lifecycle.run_directory import ADMIN

_LOG = logging.getLogger("meshsdk.sight")
_lock = threading.Lock()
_open: LocalSocket | None = None  # guarded by _lock
_tried = False  # guarded by _lock: one attempt, one warning


def open_once() -> None:
    """Opens the socket, the first time that it is called in this process."""
    global _open, _tried  # noqa: PLW0603 - one socket a process; guarded by _lock
    with _lock:
        if _tried:
            return
        _tried = True
        if os.environ.get("MESHSDK_ADMIN", "").lower() in ("off", "0", "false", "no"):
            return
        try:
            _open = LocalSocket(_answer, ADMIN)
        except (ConfigurationError, OSError) as error:
            _LOG.warning("`meshsdk doctor` and `explain` cannot ask this process: %s", error)
            return
        atexit.register(_close)


def _close() -> None:
    with _lock:
        if _open is not None:
            _open.close()


def _in_child() -> None:
    """The child answers for itself, on a socket of its own."""
    global _lock, _open, _tried  # noqa: PLW0603 - a thread of the parent may hold the lock
    _lock = threading.Lock()
    inherited, _open = _open, None
    if inherited is not None:
        inherited.forget()
        _tried = False
        open_once()


os.register_at_fork(after_in_child=_in_child)


def _answer(asked: Mapping[str, Any]) -> Mapping[str, object]:
    do = asked.get("do")
    try:
        if do == "report":
            from meshsdk.sight.report import process_report  # noqa: PLC0415 - loaded when somebody asks

            return process_report()
        if do == "explain":
            from meshsdk.sight.explain import explanation  # noqa: PLC0415 - loaded when somebody asks

            return explanation(asked)
    except MeshError as error:
        return {"problem": str(error)}
    return {"problem": f"unknown question {str(do)[:40]!r}"}
