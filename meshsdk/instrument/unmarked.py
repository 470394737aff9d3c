"""Counting calls while interception is off: a drain waits for them too, and their answers stay as they are.

Used by `sync_servers` and `aio_servers` for the interceptor that takes over while the switch is off.
"""

from __future__ import annotations

from meshsdk.interceptors.activity import RunningCall, ServerActivity


class UnmarkedActivity(ServerActivity):
    """Counts in the name of a server's own activity, and never drains: interceptors add nothing to answers."""

    __slots__ = ("_counting",)

    def __init__(self, counting: ServerActivity) -> None:
        """`counting`: the server's, which the drain looks at."""
        super().__init__()
        self._counting = counting

    def enter(self, call: RunningCall) -> None:
        """See ServerActivity."""
        self._counting.enter(call)

    def leave(self, call: RunningCall) -> None:
        """See ServerActivity."""
        self._counting.leave(call)
