"""Tells the meshes of this process when it forks: threads inside gRPC at that moment can abort the child.

`Mesh` asks for it when it is made. `os.register_at_fork` runs first what was registered last, and grpcio registers its
own handlers (GRPC_ENABLE_FORK_SUPPORT) at its first channel. Once they have run no call can end until the process has
forked, so a mesh must have left gRPC before: ours are registered after grpcio's.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

import grpc


class Forking(Protocol):
    """What is told. The first two are called in the parent, on the thread that forks; the last one in the child."""

    def before_fork(self) -> None:
        """The process is about to fork."""

    def after_fork_in_parent(self) -> None:
        """It has forked, or could not."""

    def after_fork_in_child(self) -> None:
        """This is the child."""


_lock = threading.Lock()
_registered = False  # guarded by _lock
_attending: weakref.WeakSet[Forking] = weakref.WeakSet()  # guarded by _lock
_told: list[Forking] = []  # from `before` to `after` of one fork, on the thread that forks


def attend(one: Forking) -> None:
    """Tells `one` of every fork from now on, for as long as it lives."""
    global _registered  # noqa: PLW0603 - handlers of forks are the process's
    with _lock:
        _attending.add(one)
        if not _registered:
            _registered = True
            if os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "").lower() in ("yes", "true", "1"):
                grpc.insecure_channel(
                    "ipv4:127.0.0.1:1"
                ).close()  # has grpcio register its handlers; connects to nothing
            os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


def _before() -> None:
    with _lock:
        _told[:] = list(_attending)
    for one in _told:
        one.before_fork()


def _in_parent() -> None:
    for one in _told:
        one.after_fork_in_parent()
    _told.clear()


def _in_child() -> None:
    global _lock  # noqa: PLW0603 - a thread of the parent, which does not exist here, may hold it
    _lock = threading.Lock()
    for one in _told:
        one.after_fork_in_child()
    _told.clear()
