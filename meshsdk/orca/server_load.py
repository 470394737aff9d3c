"""What is true of the load of a whole server, told by the application whenever it knows better."""

from __future__ import annotations

import threading
from typing import Any

from meshsdk.lb.endpoint_load import LoadReport
from meshsdk.orca.load_setters import LoadSetters, merged


class ServerLoad(LoadSetters):
    """The latest load of a server. Any thread sets it; `_lock` guards the change, `report` is replaced as a whole."""

    def __init__(self) -> None:
        """Nothing is told yet."""
        self._lock = threading.Lock()
        self.report = LoadReport()

    def clear(self) -> None:
        """Takes back all that was told."""
        with self._lock:
            self.report = LoadReport()

    def _put(self, **fields: Any) -> None:
        with self._lock:
            self.report = merged(self.report, fields)
