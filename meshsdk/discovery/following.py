"""The thread of one watch: follows a registry, and follows it anew with backoff when that breaks.

Every adapter that reads from a connection runs its watch in a `Following`. What it reads and how is the adapter's; when
to try again, what to log and how to end is decided here. It delivers nothing itself.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from meshsdk.discovery.backoff import delay
from meshsdk.errors import RegistryError

_LOG = logging.getLogger("meshsdk.discovery")


class RegistryClosed(RegistryError):
    """The connection was closed by this process: the watch ends and is not tried again."""


class Following:
    """Implements `meshsdk.discovery.registry.Watch`.

    Args:
        words: names the watch in log lines, such as "watch of app 'orders' at etcd 127.0.0.1:2379".
        follow: follows the registry until that breaks. It calls `settled` whenever it has heard of the registry, hands
            to `interruptible` what ends its waiting, and raises RegistryError when it breaks (a return counts as one).
            Any other exception is logged with its traceback, and the registry is followed anew.
        keeps: says in log lines what an outage leaves as it was.
        skipped: counts the entries that cannot be used at present (`Mirror.skipped`); called from any thread.
    """

    def __init__(
        self,
        words: str,
        follow: Callable[[Following], None],
        keeps: str = "the last known instances stay in use",
        skipped: Callable[[], int] = lambda: 0,
    ) -> None:
        self._words = words
        self._skipped = skipped
        self._keeps = keeps
        self._follow = follow
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._interrupt: Callable[[], None] | None = None  # guarded by _lock; ends what `follow` waits for
        self._failures = 0  # owned by the thread; in a row
        self._problem = ""  # written by the thread
        self._thread = threading.Thread(target=self._run, name="meshsdk-registry-watch", daemon=True)

    @property
    def live(self) -> bool:
        """Whether it has not been cancelled."""
        return not self._ended.is_set()

    @property
    def problem(self) -> str:
        """Why the registry is not followed at present; "" while it is, and before it was first asked."""
        return self._problem

    @property
    def skipped(self) -> int:
        """How many entries of the registry cannot be used at present."""
        return self._skipped()

    def start(self) -> Following:
        """Starts the thread; returns itself."""
        self._thread.start()
        return self

    def cancel(self) -> None:
        """Ends the watch; idempotent. It does not wait for the thread (see `join`)."""
        self._ended.set()
        with self._lock:
            interrupt, self._interrupt = self._interrupt, None
        if interrupt is not None:
            interrupt()

    def join(self, timeout: float) -> None:
        """Waits at most `timeout` seconds for the thread of a cancelled watch; at once on that thread itself."""
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    # -- called by `follow`, on the watch's thread ------------------------------------------------------------------

    def interruptible(self, interrupt: Callable[[], None] | None) -> None:
        """Has `cancel` call `interrupt` (on the cancelling thread); calls it at once where that is over already."""
        with self._lock:
            self._interrupt = interrupt
            ended = self._ended.is_set()
        if ended and interrupt is not None:
            interrupt()

    def settled(self) -> None:
        """The registry has answered: an outage is over."""
        if self._failures:
            _LOG.info("%s is back", self._words)
            self._failures = 0
            self._problem = ""

    def wait(self, seconds: float) -> bool:
        """Waits, and returns whether the watch goes on."""
        return not self._ended.wait(seconds)

    # -- the thread -------------------------------------------------------------------------------------------------

    def _goes_on(self) -> bool:
        return not self._ended.is_set()

    def _run(self) -> None:
        while self._goes_on():
            try:
                self._follow(self)
                problem = "it ended"
            except RegistryClosed as error:
                _LOG.debug("%s ends: %s", self._words, error)
                return
            except RegistryError as error:
                problem = str(error)
            except Exception as error:  # noqa: BLE001 - whatever a registry sends, the thread that follows it goes on
                if self._goes_on():
                    _LOG.exception("%s failed", self._words)
                problem = f"{type(error).__name__}: {error}"
            self.interruptible(None)
            if not self._goes_on():
                return
            self._failures += 1
            self._problem = problem
            if self._failures == 1:
                _LOG.warning("%s broke (%s); %s", self._words, problem, self._keeps)
            self.wait(delay(self._failures, random.random()))
