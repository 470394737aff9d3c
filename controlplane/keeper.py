"""The plane's own thread: looks at the files, lets leases lapse, publishes changes of instances, sweeps views.

Carries no decision of its own: it calls the plane when something is due. Made by `assembly`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from controlplane.plane import Plane

_LOG = logging.getLogger(__name__)
_LOOK = 0.1  # seconds between looks at the files; a change is taken up at the second look that sees it
_SWEEP = 30.0  # seconds between sweeps of views


class Keeper:
    """A thread that runs from `start` to `stop`. `wake` may be called from any thread, before `start` too.

    `clock` gives monotonic seconds. `sweep` forgets what no client asks for any more.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due = threading.Event()
        self._ended = False  # written by stop, before the event is set
        self._thread: threading.Thread | None = None  # owned by the caller of start and stop

    def wake(self) -> None:
        """Has the thread look at once."""
        self._due.set()

    def start(self, plane: Plane, sweep: Callable[[], None]) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, args=(plane, sweep), name="control-plane-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and waits for it. Idempotent."""
        self._ended = True
        self._due.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, plane: Plane, sweep: Callable[[], None]) -> None:
        look = self._clock()
        sweep_at = look + _SWEEP
        while not self._ended:
            now = self._clock()
            try:
                plane.flush()
                deadline = plane.tick()
                if now >= look:
                    look = now + _LOOK
                    plane.look()
                if now >= sweep_at:
                    sweep_at = now + _SWEEP
                    sweep()
            except Exception:  # noqa: BLE001 - the thread that lets leases lapse must outlive a fault in one round
                _LOG.exception("the control plane's keeper failed in one round and goes on")
                deadline = None
            until = look if deadline is None else min(look, deadline)
            self._due.wait(max(0.0, until - self._clock()))
            self._due.clear()
