"""The first woven server of a process enters the service registry; this says as what, and whether it may.

Used by `sync_servers` and `aio_servers`. One server a process: instances of an application are taken to serve all of
it, and a second server (metrics, administration) does not.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from meshsdk.bootstrap import Bootstrap
from meshsdk.errors import MeshError
from meshsdk.instrument import weaving
from meshsdk.instrument.instance import ADDRESS, APP, Bound, address_of, app_of, own_host

_LOG = logging.getLogger("meshsdk.instrument")

LABEL = "meshsdk.io/interception"
OFF = "off"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What `serve` is called with."""

    app: str
    address: str
    bootstrap: Bootstrap
    intercepted: bool

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of `serve`, but the server. Methods that cannot be listed stay unpublished."""
        return {
            "app": self.app,
            "address": self.address,
            "bootstrap": self.bootstrap,
            "metadata": {} if self.intercepted else {LABEL: OFF},
            "services": {},
            "handle_signals": False,
        }


class _Desk:
    """Thread rules: `_taken` is guarded by `_lock`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False

    def enrol(self, bound: Iterable[Bound]) -> Enrolment | None:
        """Returns what a server that starts now registers as, None (and a line in the log) if it does not."""
        try:
            engine = weaving.engine()
        except MeshError as error:
            _LOG.warning("this server is not registered: %s", error)
            return None
        app = app_of(os.environ, engine.bootstrap.node)
        if not app:
            _LOG.warning("this server is not registered: its application is not known; set %s", APP)
            return None
        address = address_of(os.environ, bound, own_host())
        if not address:
            _LOG.warning("%s: this server is not registered: it bound no port of TCP; set %s", app, ADDRESS)
            return None
        with self._lock:
            if self._taken:
                _LOG.info("%s: a second server of this process, on %s, is not registered", app, address)
                return None
            self._taken = True
        weaving.switch().follow(engine)
        return Enrolment(app, address, engine.bootstrap, weaving.switch().traffic.server)

    def release(self) -> None:
        """The server that was registered has stopped: another one may be."""
        with self._lock:
            self._taken = False

    def after_fork_in_child(self) -> None:
        """A child's server is a server of its own."""
        self._lock = threading.Lock()
        self._taken = False


DESK = _Desk()
os.register_at_fork(after_in_child=DESK.after_fork_in_child)
