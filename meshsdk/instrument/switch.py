"""The traffic switch of this process: whether its client and its server side are intercepted now.

Started by the environment, then steered by the control plane through the runtime layer `meshsdk.traffic_switch`. Asked
by gates (client) and woven servers, which listen for changes. It switches nothing itself.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from meshsdk.errors import MeshError
from meshsdk.model.resources import RuntimeLayer

_LOG = logging.getLogger("meshsdk.instrument")

LAYER = "meshsdk.traffic_switch"
VARIABLE = "MESHSDK_INTERCEPT"
_STARTS = {
    "": (True, True),
    "on": (True, True),
    "off": (False, False),
    "client": (True, False),
    "server": (False, True),
}
SIDES = ("client", "server")


@dataclass(frozen=True, slots=True)
class Traffic:
    """Which sides are intercepted."""

    client: bool = True
    server: bool = True


class SteersProcesses(Protocol):
    """The engine as the switch sees it."""

    def watch_runtime(self, name: str, on_layer: Callable[[RuntimeLayer | None], None]) -> object:
        """See `XdsClient.watch_runtime`."""


def start_of(environ: Mapping[str, str]) -> Traffic:
    """Reads the state to start with from MESHSDK_INTERCEPT: on (the default), off, client, server."""
    word = environ.get(VARIABLE, "").strip().lower()
    if word not in _STARTS:
        _LOG.warning("%s=%r is not known: write on, off, client or server; starting switched on", VARIABLE, word)
        word = ""
    return Traffic(*_STARTS[word])


def follow_layer(layer: RuntimeLayer | None, start: Traffic) -> Traffic:
    """Returns what a layer asks for; None: the control plane has none.

    `client` and `server` are booleans. A side that the environment started off stays off until the control plane has
    decided on it: then the layer's list `decided` names it. What is not a boolean counts as not said.
    """
    if layer is None:
        return start
    decided = layer.values.get("decided")
    named = decided if isinstance(decided, tuple) else ()

    def side(name: str, *, begun: bool) -> bool:
        said = layer.values.get(name)
        if not isinstance(said, bool) or (said and not begun and name not in named):
            return begun
        return said

    return Traffic(side("client", begun=start.client), side("server", begun=start.server))


class Switch:
    """The switch of a process.

    Thread rules: `traffic` is published by one assignment; `_listeners` and `_following` are guarded by `_lock`. A
    listener is called on the thread that brings the news, and must not block.
    """

    def __init__(self, start: Traffic | None = None) -> None:
        """`start`: None for what the environment says."""
        self.traffic = self._start = start_of(os.environ) if start is None else start
        self._listeners: list[weakref.WeakMethod[Callable[[], None]]] = []
        self._following = False
        self._lock = threading.Lock()

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls `listener`, the method of an object, after every change, for as long as the object lives."""
        with self._lock:
            self._listeners = [held for held in self._listeners if held() is not None]
            self._listeners.append(weakref.WeakMethod(listener))

    def follow(self, engine: SteersProcesses) -> None:
        """Lets the control plane steer from now on. May be repeated. Starts the engine's threads."""
        with self._lock:
            if self._following:
                return
            self._following = True
        try:
            engine.watch_runtime(LAYER, lambda layer: self.set(follow_layer(layer, self._start)))
        except MeshError as error:
            _LOG.warning("the traffic switch of the control plane cannot be followed: %s", error)

    def set(self, traffic: Traffic) -> None:
        """Takes a new state and tells the listeners."""
        with self._lock:
            if traffic == self.traffic:
                return
            self.traffic = traffic
            listeners = list(self._listeners)
        words = ", ".join(f"{side} {'on' if getattr(traffic, side) else 'off'}" for side in SIDES)
        _LOG.info("interception: %s", words)
        for held in listeners:
            listener = held()
            if listener is not None:
                listener()

    def after_fork_in_child(self) -> None:
        """The child follows the control plane on a stream of its own, from its first call on."""
        self._lock = threading.Lock()
        self._following = False
