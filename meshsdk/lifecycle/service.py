"""The service of a server in threads: what `meshsdk.serve` and `meshsdk.announce` return.

The shell of `course` for threads: one thread sleeps until someone asks (a signal, `drain`, `stop`, `ready`, `cycle`),
then does as the course says. It decides nothing. What kind of server it is, it knows by the `Host` port.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from types import TracebackType
from typing import Protocol, final

from meshsdk.errors import LifecycleError
from meshsdk.lifecycle import exits, signals
from meshsdk.lifecycle.course import Ask, Asked, Course, Perform, Step
from meshsdk.lifecycle.cycle import make_cycle
from meshsdk.lifecycle.drain import Look, Stop
from meshsdk.lifecycle.local_access import LocalAccess
from meshsdk.lifecycle.plan import Plan
from meshsdk.lifecycle.presence import Presence
from meshsdk.model.instance import Instance, InstanceState

_LOG = logging.getLogger("meshsdk.lifecycle")
_GLANCE = 1.0  # seconds between looks at whether someone else stopped the server


class Host(Protocol):
    """The server behind a service. `stop` is called by the service's thread."""

    def start(self) -> None:
        """Begins to take calls, unless it does already."""

    def running(self) -> bool:
        """Whether nobody stopped it."""

    def step_aside(self) -> object:
        """Peers are told that it drains for good: leaves new connections to whoever else takes them."""

    def stop(self, grace: float | None) -> None:
        """Takes no more calls, lets those that run go on for `grace` seconds (None: none), returns when it is over."""


@final
class Service:
    """A served server. A context manager that drains at its end."""

    def __init__(self, host: Host, presence: Presence, plan: Plan) -> None:
        self._host = host
        self._presence = presence
        self._readiness = plan.readiness
        self._handle_signals = plan.handle_signals
        self._health_port = plan.health_port
        self._course = Course(presence, plan, time.monotonic, host.step_aside)
        self._asked: queue.SimpleQueue[Ask] = queue.SimpleQueue()  # put() may interrupt itself: fit for signals
        self._access = LocalAccess(self._course.report, self.offline)
        self._steps = self._course.run()  # driven by `start`, from then on by the thread
        self._over = threading.Event()
        self._unlisten: Callable[[], None] | None = None  # set once, before the thread starts
        self._thread = threading.Thread(target=self._run, name=f"meshsdk-drain-{presence.instance.app}", daemon=True)

    @property
    def instance(self) -> Instance:
        """The instance as it was first registered."""
        return self._presence.instance

    @property
    def state(self) -> InstanceState | None:
        """The state that the registry holds; None while it holds nothing (not registered yet, or it is away)."""
        return self._presence.state

    def ready(self) -> None:
        """Says that the application is ready, which `serve(ready=False)` waits for. Any thread; once is enough."""
        self._readiness.say()
        self._asked.put(Asked.LOOK)

    def wait_online(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for the registry to hold the instance ONLINE; returns whether it does."""
        return self._presence.wait_online(timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the service has drained and stopped, at most `timeout` seconds; returns whether it has.

        Raises LifecycleError when it stopped because what it depends on was not resolved in time.
        """
        over = self._over.wait(timeout)
        if over and self._course.problem:
            raise LifecycleError(f"{self.instance.app}: {self._course.problem}")
        return over

    def drain(self, *, wait: bool = True) -> None:
        """Takes the service offline without losing a call and, unless `wait` is False, waits until it has stopped."""
        self._asked.put(Asked.DRAIN)
        if wait:
            self._over.wait()

    def stop(self) -> None:
        """Deregisters and stops at once: calls in flight are cancelled."""
        self._asked.put(Asked.STOP)
        self._over.wait()

    def offline(self) -> None:
        """Goes offline as `drain` does, and keeps the server running until it is asked for its end. Does not wait."""
        self._asked.put(Asked.OFFLINE)

    @property
    def health_address(self) -> str | None:
        """`host:port` of /readyz and /livez, None without `health_port`."""
        return self._access.probe_address

    def cycle(self, change: Callable[[], object], labels: Mapping[str, str | None] | None = None) -> bool:
        """Goes offline, calls `change`, and goes online again with `labels` changed. The server runs all the time.

        DRAINING in the registry and to callers, a wait for quiet (`DrainTiming`), `change()` on the service's thread,
        ONLINE. Callers that have nobody else go on calling meanwhile and are served. `labels` are set on the
        instance in the registry, those with None removed. Returns, when the registry is being told ONLINE, whether all
        was quiet as `change` ran: calls that outlast the drain go on. Before the service is online `change` runs at
        once. Cycles asked for at one time follow each other.

        Raises what `change` raised (a LifecycleError caused by it, if that is no Exception, such as SystemExit), the
        labels being as before and the service online again; ConfigurationError for labels that no registry takes,
        LifecycleError if the service goes offline for good instead.
        """
        cycle = make_cycle(change, labels, self.instance)
        if threading.current_thread() is self._thread:
            raise LifecycleError("cycle() inside the change of a cycle would wait for itself")
        self._asked.put(cycle)
        while not self._over.is_set():
            try:
                return cycle.result.result(_GLANCE)
            except FutureTimeout:
                if cycle.result.done():  # between two looks, or with a TimeoutError of `change`
                    break
        if cycle.result.done():
            return cycle.result.result()
        raise LifecycleError(f"{self.instance.app}: the service has stopped")

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.drain()

    def start(self) -> Service:
        """Starts the server and registers. Called by whoever made it, once; see `serve` and `announce`."""
        if self._handle_signals:
            self._unlisten = signals.listen_if_possible(lambda: self._asked.put(Asked.SIGNAL))
        try:
            self._access.open(self._health_port)
            self._readiness.start(lambda: self._asked.put(Asked.LOOK))
            self._presence.start()
            self._host.start()
        except BaseException:
            self._close()
            raise
        self._step = self._act(next(self._steps))
        self._thread.start()
        exits.drain_at_exit(self)
        return self

    def _run(self) -> None:
        try:
            self._follow(self._step)
        except Exception:  # noqa: BLE001 - whatever it was, the server must not stay up half offline
            _LOG.exception("%s: the drain failed; stopping the server", self.instance.app)
            self._host.stop(None)
        finally:
            exits.forget(self)
            try:
                self._close()
            finally:
                self._over.set()

    def _follow(self, step: Look | Stop) -> None:
        while isinstance(step, Look):
            step = self._act(self._steps.send(self._next(step.at)))
        _in_background(self._presence.health.end)
        self._host.stop(step.grace)

    def _act(self, step: Step) -> Look | Stop:
        """Does what the course says, up to its next wait."""
        while not isinstance(step, Look | Stop):
            if isinstance(step, Perform):
                step = self._steps.send(_outcome(step.change))
            else:
                self._presence.health.set_serving(serving=step.serving)
                # Telling watches may take as long as a peer does not read; nothing waits for that.
                _in_background(self._presence.health.tell)
                step = self._steps.send(None)
        return step

    def _next(self, at: float) -> Ask | None:
        """Waits until something is asked or the time is `at` (monotonic); looks after the server meanwhile."""
        while True:
            left = at - time.monotonic()
            try:
                return self._asked.get(timeout=max(0.0, min(left, _GLANCE)))
            except queue.Empty:
                if not self._host.running():
                    return Asked.ENDED
                if left <= _GLANCE and not math.isinf(at):
                    return None

    def _close(self) -> None:
        self._access.close()
        self._readiness.close()
        self._presence.close()
        if self._unlisten is not None:
            self._unlisten()


def _outcome(change: Callable[[], object]) -> BaseException | None:
    try:
        change()
    except BaseException as error:  # noqa: BLE001 - it is the caller of `cycle` who is told; the service goes on
        return error
    return None


def _in_background(action: Callable[[], None]) -> None:
    threading.Thread(target=action, name="meshsdk-health", daemon=True).start()
