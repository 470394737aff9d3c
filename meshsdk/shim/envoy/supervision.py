"""Keeps one Envoy up: the thread that starts it again when it died, with growing pauses. Says so once.

`running` starts it; upgrades hold `exclusive` and hand the new Envoy over by `adopt`.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from meshsdk.shim.envoy.process import EnvoyFailed, EnvoyProcess, Launch, Place

_LOG = logging.getLogger("meshsdk.shim")
_READY = 30.0  # seconds for an Envoy that is started again
_STOP = 5.0  # seconds from SIGTERM to SIGKILL
_WELL = 30.0  # seconds that an Envoy which was started again is up until its trouble counts as over


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long to wait before Envoy is started again; a step returns a new one. Pure. Seconds."""

    failures: int = 0
    first: float = 0.1
    longest: float = 10.0
    well_after: float = 60.0  # an Envoy that ran so long had no part in earlier failures

    def after_end(self, ran: float) -> Pauses:
        """Envoy ended after `ran` seconds."""
        return replace(self, failures=1 if ran >= self.well_after else self.failures + 1)

    def soon(self, ran: float) -> bool:
        """Tells whether an end after `ran` seconds speaks against the program, and not against a single moment."""
        return ran < self.well_after

    @property
    def delay(self) -> float:
        """The pause before the next start."""
        if not self.failures:
            return 0.0
        delay: float = min(self.longest, self.first * 2.0 ** min(self.failures - 1, 30))
        return delay


class Trouble(Protocol):
    """Takes what is wrong with Envoy, "" when it has been up for a while. `failing`: it ended soon after its start."""

    def __call__(self, problem: str, *, failing: bool) -> None:
        """Must not block."""


class Supervision:
    """Methods are for any thread. `_current` and `_since` are written under `exclusive`.

    `_pauses` and `_troubled` are the thread's. `trouble` is set before `start`.
    """

    def __init__(self, executable: Path, place: Place) -> None:
        self.exclusive = threading.RLock()  # held by whoever exchanges processes
        self._place = place
        self._launches = itertools.count()  # its `next` is atomic
        self._executable = executable
        self._current: EnvoyProcess | None = None
        self._ended: queue.SimpleQueue[EnvoyProcess | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._pauses = Pauses()
        self._since = 0.0
        self._troubled = False
        self.trouble: Trouble | None = None
        self._thread = threading.Thread(target=self._run, name="meshsdk-shim-supervision", daemon=True)

    @property
    def current(self) -> EnvoyProcess:
        """The Envoy that serves, or is about to."""
        if self._current is None:
            raise EnvoyFailed("Envoy has not been started")
        return self._current

    @property
    def executable(self) -> Path:
        """What is started when the current one dies."""
        return self._executable

    def place(self) -> Place:
        """Where this shim's Envoys live."""
        return self._place

    def next_launch(self, executable: Path) -> Launch:
        """Returns how to start another Envoy, alone or beside the current one."""
        return Launch(executable, next(self._launches))

    def start(self, timeout: float) -> None:
        """Starts the first Envoy and waits until it serves. Raises EnvoyFailed, with nothing left running."""
        with self.exclusive:
            self._fresh(self._executable, timeout)
        self._thread.start()

    def adopt(self, process: EnvoyProcess, *, on_trial: bool = False) -> None:
        """The Envoy that is current from now on; the end of the former one is no failure.

        `on_trial`: until `settle`, what is started when it dies is the program of the former one.
        """
        with self.exclusive:
            self._current = process
            if not on_trial:
                self._executable = process.launch.executable
            self._since = time.monotonic()
            process.on_end(lambda: self._ended.put(process))

    def settle(self) -> None:
        """The current Envoy's program has proved itself."""
        with self.exclusive:
            self._executable = self.current.launch.executable

    def stop(self) -> None:
        """Ends Envoy and the thread; may be repeated."""
        self._closing.set()
        self._ended.put(None)
        with self.exclusive:
            if self._current is not None:
                _end(self._current)
        self._place.keeper.close()

    def _fresh(self, executable: Path, timeout: float) -> None:
        process = EnvoyProcess(self.next_launch(executable), self._place)
        process.start()
        try:
            process.wait_ready(timeout)
        except EnvoyFailed:
            process.kill()
            process.wait(_STOP)
            raise
        self.adopt(process)

    def _run(self) -> None:
        while True:
            patience = max(0.0, self._since + _WELL - time.monotonic()) if self._troubled else None
            try:
                ended = self._ended.get(timeout=patience)
            except queue.Empty:
                self._tell("", failing=False)
                continue
            if ended is None:
                return
            if ended is self._current and not self._closing.is_set():
                self._again(ended)

    def _tell(self, problem: str, *, failing: bool) -> None:
        self._troubled = bool(problem)
        if self.trouble is not None:
            self.trouble(problem, failing=failing)

    def _again(self, ended: EnvoyProcess) -> None:
        ran = time.monotonic() - self._since
        words = f"Envoy ended with exit code {ended.poll()} after {ran:.0f} s ({ended.words()})"
        self._tell(words, failing=self._pauses.soon(ran))
        self._pauses = self._pauses.after_end(ran)
        _LOG.warning("%s; starting it again", words)
        while not self._closing.wait(self._pauses.delay):
            with self.exclusive:
                if self._current is not ended or self._closing.is_set():
                    return
                try:
                    self._fresh(self._executable, _READY)
                except EnvoyFailed as error:
                    self._tell(str(error), failing=True)
                    told, self._pauses = self._pauses, self._pauses.after_end(0.0)
                    if told.failures == 1:
                        _LOG.warning("%s; trying on", error)
                    continue
            _LOG.info("Envoy serves again")
            return


def _end(process: EnvoyProcess) -> None:
    process.terminate()
    if process.wait(_STOP) is None:
        process.kill()
        process.wait(_STOP)
