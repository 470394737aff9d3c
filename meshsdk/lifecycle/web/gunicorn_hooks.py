"""gunicorn, with the web application as an instance in the registry: drains before any worker is told to stop.

    # gunicorn.conf.py
    from meshsdk.lifecycle.web.gunicorn_hooks import GunicornHooks
    globals().update(GunicornHooks(app="web", address="10.0.0.7:8000").hooks())

One instance for all workers: they share one address, and gunicorn replaces them as it likes. Imported by that file,
never by meshsdk itself.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from meshsdk.errors import ConfigurationError
from meshsdk.lifecycle.drain import DrainTiming
from meshsdk.lifecycle.web.activity import CountedWsgi
from meshsdk.lifecycle.web.shared_activity import SLOTS, SharedActivity

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_OVERTIME = 5.0  # seconds past the drain's own limits that the registrar may take


class GunicornHooks:
    """Hooks for the arbiter and its workers. Thread rule: all run on the main thread of their process."""

    def __init__(self, *, app: str, address: str, drain: DrainTiming | None = None, **instance: Any) -> None:
        """`instance`: further arguments of `announce` that JSON can say (metadata, zone, weight, health_port ...)."""
        self._drain = drain or DrainTiming()
        self._instance = {"app": app, "address": address, **instance}
        self._activity = SharedActivity()
        self._slots: dict[int, int] = {}  # of workers, by their age
        self._registrar: subprocess.Popen[str] | None = None
        self._draining = False
        try:
            json.dumps(self._instance)
        except TypeError as error:
            raise ConfigurationError(f"GunicornHooks: the arguments must be plain values: {error}") from None

    def hooks(self) -> Mapping[str, Callable[..., None]]:
        """Returns gunicorn's settings by name."""
        return {
            "when_ready": self.when_ready,
            "pre_fork": self.pre_fork,
            "post_worker_init": self.post_worker_init,
            "child_exit": self.child_exit,
            "on_exit": self.on_exit,
        }

    def when_ready(self, server: Any) -> None:
        """The arbiter listens: registers, and takes SIGTERM and SIGINT to itself until the drain is over."""
        arguments = {
            "descriptor": self._activity.descriptor,
            "drain": dataclasses.asdict(self._drain),
            "instance": self._instance,
        }
        self._registrar = subprocess.Popen(  # noqa: S603 - our own module, by this interpreter
            [sys.executable, "-m", "meshsdk.lifecycle.web.registrar", json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[self._activity.descriptor],
        )
        for number in _SIGNALS:
            signal.signal(number, self._holding(server, signal.getsignal(number)))

    def pre_fork(self, server: Any, worker: Any) -> None:
        """Gives the worker a slot of the shared counts."""
        living = {other.age for other in server.WORKERS.values()}
        self._slots = {age: slot for age, slot in self._slots.items() if age in living}
        self._slots[worker.age] = next(slot for slot in range(SLOTS) if slot not in self._slots.values())

    def post_worker_init(self, worker: Any) -> None:
        """Runs in the worker, which has its application: counts its calls from now on."""
        for number in _SIGNALS:
            if getattr(signal.getsignal(number), "__qualname__", "").startswith("GunicornHooks."):
                signal.signal(number, signal.SIG_DFL)  # inherited; a worker class that sets none of its own
        counter = self._activity.slot(self._slots[worker.age])
        worker.wsgi = CountedWsgi(worker.wsgi, counter)
        counter.boot()

    def child_exit(self, server: Any, worker: Any) -> None:  # noqa: ARG002 - gunicorn's signature
        """A worker is gone, and its calls with it."""
        slot = self._slots.get(worker.age)
        if slot is not None:
            self._activity.release(slot)

    def on_exit(self, server: Any) -> None:  # noqa: ARG002 - gunicorn's signature
        """The arbiter ends, for whatever reason: the instance must not outlive it."""
        if self._registrar is not None:
            self._tell("stop")
            try:
                self._registrar.wait(_OVERTIME)
            except subprocess.TimeoutExpired:
                self._registrar.kill()

    def _holding(self, server: Any, handler: Any) -> Callable[[int, FrameType | None], None]:
        """Returns a signal handler that has the instance drain first; a second signal goes through at once."""

        def on_signal(number: int, frame: FrameType | None) -> None:
            if self._draining or self._registrar is None:
                handler(number, frame)
                return
            self._draining = True

            def drain() -> None:
                self._wait_drained(server)
                handler(number, None)  # it only puts the signal into the arbiter's queue

            threading.Thread(target=drain, name="meshsdk-drain", daemon=True).start()

        return on_signal

    def _wait_drained(self, server: Any) -> None:
        registrar = self._registrar
        if registrar is None or registrar.stdout is None or not self._tell("drain"):
            return
        patience = self._drain.timeout + self._drain.deregister + self._drain.grace + _OVERTIME
        watchdog = threading.Timer(patience, registrar.kill)
        watchdog.start()
        if registrar.stdout.readline().strip() != "over":
            server.log.warning("meshsdk: the registrar ended without having drained")
        watchdog.cancel()

    def _tell(self, word: str) -> bool:
        """Returns whether the registrar was there to hear it."""
        if self._registrar is None or self._registrar.stdin is None:
            return False
        try:
            self._registrar.stdin.write(word + "\n")
            self._registrar.stdin.flush()
        except OSError:
            return False
        return True
