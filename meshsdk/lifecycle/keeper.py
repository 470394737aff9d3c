"""The thread that keeps an instance registered: carries what `registration` decides to the registry and back.

Started by a service, one per service, so that a registry that hangs holds up nothing else. Logs each outage once.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping

from meshsdk.discovery.registry import Lease, LeaseLapsed, Registry
from meshsdk.errors import RegistryError
from meshsdk.lifecycle.registration import (
    Change,
    Deregister,
    Gone,
    Pause,
    Publish,
    Register,
    Registration,
    Renew,
    SetState,
    Step,
)
from meshsdk.model.instance import Instance, InstanceState, Revision

_LOG = logging.getLogger("meshsdk.lifecycle")


class Keeper:
    """Keeps `instance` in `registry` from `start` until `leave`. All methods may be called from any thread."""

    def __init__(
        self,
        registry: Registry,
        instance: Instance,
        revision: Revision | None,
        ttl: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._name = f"{instance.app} at {instance.address}"
        self._now = now
        self._changed = threading.Condition()
        self._machine = Registration(instance, revision, ttl, random.random)  # guarded by _changed
        self._closed = False  # guarded by _changed
        self._thread = threading.Thread(target=self._run, name=f"meshsdk-keeper-{instance.app}", daemon=True)

    def start(self) -> None:
        """Begins to register, in the background."""
        self._thread.start()

    @property
    def told(self) -> InstanceState | None:
        """The state that the registry holds of this instance; None while it is not registered."""
        with self._changed:
            return self._machine.told

    @property
    def gone(self) -> bool:
        """Whether `leave` is done."""
        with self._changed:
            return self._machine.gone

    def want(self, state: InstanceState) -> None:
        """Brings the registry to `state`, in the background, as soon as it answers."""
        with self._changed:
            self._machine.want(state, self._now())
            self._changed.notify_all()

    def amend(self, labels: Mapping[str, str], started_at: float) -> None:
        """Brings other labels, or another moment of coming up (unix seconds), to the registry, in the background."""
        with self._changed:
            self._machine.amend(labels, started_at, self._now())
            self._changed.notify_all()

    def leave(self) -> None:
        """Takes the instance out, in the background."""
        with self._changed:
            self._machine.leave(self._now())
            self._changed.notify_all()

    def wait_told(self, state: InstanceState, timeout: float) -> bool:
        """Waits up to `timeout` seconds until the registry holds `state`; returns whether it does."""
        with self._changed:
            return self._changed.wait_for(lambda: self._machine.told is state, timeout)

    def close(self, timeout: float = 1.0) -> None:
        """Ends the thread, waiting at most `timeout` seconds for a call under way; without `leave` the lease stays."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while (step := self._next()) is not None:
            try:
                lease = self._perform(step)
            except RegistryError as error:
                with self._changed:
                    change = self._machine.failed(step, lapsed=isinstance(error, LeaseLapsed), now=self._now())
                    closed = self._closed
                if not closed:  # else it failed because the service closed the registry under it
                    self._report(change, str(error))
            else:
                with self._changed:
                    change = self._machine.done(step, lease, self._now())
                    self._changed.notify_all()
                self._report(change, "")

    def _next(self) -> Step | None:
        """Waits until there is something to do; None: nothing ever again."""
        with self._changed:
            while not self._closed:
                now = self._now()
                action = self._machine.next(now)
                if isinstance(action, Gone):
                    return None
                if not isinstance(action, Pause):
                    return action
                self._changed.wait(max(0.0, action.until - now))
            return None

    def _perform(self, step: Step) -> Lease | None:
        match step:
            case Publish(revision=revision):
                self._registry.publish_revision(revision)
            case Register(instance=instance, ttl=ttl):
                return self._registry.register(instance, ttl)
            case Renew(lease=lease):
                return self._registry.renew(lease)
            case SetState(lease=lease, state=state):
                self._registry.set_state(lease, state)
            case Deregister(lease=lease):
                self._registry.deregister(lease)
        return None

    def _report(self, change: Change, problem: str) -> None:
        match change:
            case Change.LOST:
                _LOG.warning("%s: %s; serving goes on, trying again in the background", self._name, problem)
            case Change.UNPUBLISHED:
                _LOG.warning("%s: its revision is not published: %s; trying again", self._name, problem)
            case Change.LAPSED:
                _LOG.warning("%s: the registry lost the lease (%s), registering again", self._name, problem)
            case Change.REGISTERED:
                _LOG.info("%s: registered", self._name)
            case Change.RECOVERED:
                _LOG.info("%s: the registry answers again", self._name)
            case Change.NONE:
                pass
