"""`grpc.Channel.subscribe` for a mesh channel: one thread a channel tells its subscribers each change of state."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc

from meshsdk.lb.backend import Connectivity

if TYPE_CHECKING:
    from meshsdk.channel.sync import MeshChannel

STATES = {
    Connectivity.IDLE: grpc.ChannelConnectivity.IDLE,
    Connectivity.CONNECTING: grpc.ChannelConnectivity.CONNECTING,
    Connectivity.READY: grpc.ChannelConnectivity.READY,
    Connectivity.FAILED: grpc.ChannelConnectivity.TRANSIENT_FAILURE,
}

_LOG = logging.getLogger(__name__)

Callback = Callable[[grpc.ChannelConnectivity], None]


class ConnectivityFeed:
    """Subscribers of one channel, with the state each was told last. Guarded by the scope's condition."""

    def __init__(self, channel: MeshChannel) -> None:
        """Starts nothing before the first subscriber. Holds the channel weakly: who drops it is told nothing more."""
        self._channel = weakref.ref(channel)
        self._changed = channel.scope.changed
        self._told: dict[Callback, grpc.ChannelConnectivity | None] = {}
        self._stopped = False
        self._thread: threading.Thread | None = None

    def add(self, callback: Callback) -> None:
        """Tells `callback` the present state soon, and every change after that, from the feed's thread."""
        with self._changed:
            self._told[callback] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="meshsdk-connectivity", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def remove(self, callback: Callback) -> None:
        """Tells `callback` nothing more."""
        with self._changed:
            self._told.pop(callback, None)

    def stop(self) -> None:
        """Tells nobody anything more."""
        with self._changed:
            self._stopped = True
            self._told.clear()
            self._changed.notify_all()

    def abandon(self) -> None:
        """The channel is being collected: its thread ends at the scope's next change. Takes no lock."""
        self._stopped = True

    def _state(self) -> grpc.ChannelConnectivity:
        channel = self._channel()
        target = None if channel is None else channel.target
        return grpc.ChannelConnectivity.IDLE if target is None else STATES[target.connectivity()]

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._stopped or any(told is not self._state() for told in self._told.values())
                )
                if self._stopped:
                    return
                state = self._state()
                due = [callback for callback, told in self._told.items() if told is not state]
                self._told.update(dict.fromkeys(due, state))
            for callback in due:
                try:
                    callback(state)
                except Exception:  # noqa: BLE001 - the others must be told, as in grpcio
                    _LOG.exception("a subscriber of the channel's state raised")
