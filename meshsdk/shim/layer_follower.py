"""The thread that follows a runtime layer of the control plane: told at any time, it acts on the newest layer only.

Used by `upgrade.operation` and `intercept.operation`, whose work takes longer than the xDS thread may wait.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from meshsdk.errors import MeshError

_LOG = logging.getLogger("meshsdk.shim")
Layer = Mapping[str, object]


class LayerFollower:
    """`_asked` guards all that follows it; the thread starts with the first layer."""

    def __init__(self, name: str, follow: Callable[[Layer], None]) -> None:
        """`name`: of the thread. `follow` is called on it, one layer at a time; a MeshError it raises is logged."""
        self._name = name
        self._follow = follow
        self._asked = threading.Condition()
        self._layer: Layer | None = None
        self._told = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def want(self, layer: Layer | None) -> None:
        """Takes what the control plane says, without waiting; None: nothing any more, an empty layer."""
        with self._asked:
            self._layer, self._told = layer, True
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._asked.notify()

    def close(self) -> None:
        """Ends the thread, after what it is at."""
        with self._asked:
            self._closed = True
            self._asked.notify()

    def _run(self) -> None:
        while True:
            with self._asked:
                self._asked.wait_for(lambda: self._told or self._closed)
                if self._closed:
                    return
                layer, self._told = self._layer or {}, False
            try:
                self._follow(layer)
            except MeshError as error:
                _LOG.warning("%s", error)
