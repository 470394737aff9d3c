"""Follows the targets that a service depends on through an engine: the filling of the port in `readiness`.

Made by the façade for `serve(depends_on=[...])`, with the process's mesh or one of the bootstrap that was given.
"""

from __future__ import annotations

from collections.abc import Callable

from meshsdk.engine import Engine
from meshsdk.lifecycle.readiness import Follower


class EngineDependencies:
    """`owned`: the engine was made for this alone and is closed with it."""

    def __init__(self, engine: Engine, *, owned: bool) -> None:
        self._engine = engine
        self._owned = owned

    def follow(self, target: str, follower: Follower) -> Callable[[], None]:
        """See `Dependencies`."""
        return self._engine.follow(target, follower)

    def progress(self, target: str) -> str:
        """See `Dependencies`."""
        return self._engine.progress(target)

    def close(self) -> None:
        """See `Dependencies`."""
        if self._owned:
            self._engine.close()
