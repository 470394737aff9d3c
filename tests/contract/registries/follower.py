"""What the suite's tests look through: a follower that keeps what a watch tells, and a keeper that keeps registrations.

The follower applies increments as the port's documentation says, and nothing else: it is the suite's reading of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from meshsdk.discovery.registry import Lease, LeaseLapsed, Registry
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Increment, Instance
from tests.e2e.processes import PATIENCE, until


class Follower:
    """Watches, and keeps the instances that it was told of. `log` has every increment as it came."""

    def __init__(self, registry: Registry, app: str, unit: str = "") -> None:
        self._changed = threading.Condition()
        self._told_since_mark: set[str] = set()  # guarded by _changed, as is all below
        self.log: list[Increment] = []
        self.apps: dict[str, dict[str, Instance]] = {}
        self.marks = 0  # "all there is has been told", of a watch of all applications
        self.watch = registry.watch(app, unit, self._take)

    def ids(self, app: str) -> set[str]:
        """Returns the ids known of an application."""
        with self._changed:
            return set(self.apps.get(app, ()))

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Waits until `condition` holds; looks after each increment."""
        with self._changed:
            held = self._changed.wait_for(condition, PATIENCE)
            assert held, f"not told within {PATIENCE:g} s: {what}; told: {self.log[-10:]}"

    def wait_for(self, *instances: Instance, app: str = "orders") -> None:
        """Waits until exactly these instances of `app` are known (once told, also if none)."""
        truth = {instance.id: instance for instance in instances}
        self.wait(lambda: self.apps.get(app) == truth, f"{app} is {sorted(truth)}")

    def wait_for_mark(self) -> None:
        """Waits until all there is has been told."""
        self.wait(lambda: self.marks, "the end of the listing")

    def _take(self, increment: Increment) -> None:
        with self._changed:
            self.log.append(increment)
            if not increment.app:
                assert increment == Increment("", reset=True), increment
                self.marks += 1
                self.apps = {app: known for app, known in self.apps.items() if app in self._told_since_mark}
                self._told_since_mark = set()
            else:
                self._told_since_mark.add(increment.app)
                known = self.apps.setdefault(increment.app, {})
                if increment.reset:
                    known.clear()
                for identifier in increment.removed:
                    known.pop(identifier, None)
                known.update({instance.id: instance for instance in increment.put})
            self._changed.notify_all()


class Keeper:
    """Keeps instances registered as a process would: renews, and registers again what lapsed. Context manager."""

    def __init__(self, registry: Registry, ttl: float) -> None:
        self._registry = registry
        self._ttl = ttl
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], tuple[Instance, Lease | None]] = {}  # by (app, id); guarded by _lock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def keep(self, *instances: Instance) -> None:
        """Registers instances, and keeps them registered. The first registration must succeed."""
        for instance in instances:
            lease = self._registry.register(instance, self._ttl)
            with self._lock:
                self._kept[instance.app, instance.id] = (instance, lease)

    def __enter__(self):
        """Starts renewing."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops renewing; what is registered stays until it lapses."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._ttl / 4):
            with self._lock:
                self._kept = {
                    key: (instance, self._renewed(instance, lease)) for key, (instance, lease) in self._kept.items()
                }

    def _renewed(self, instance: Instance, lease: Lease | None) -> Lease | None:
        try:
            return self._registry.register(instance, self._ttl) if lease is None else self._registry.renew(lease)
        except LeaseLapsed:
            return None
        except RegistryError:
            return lease  # away: tried again soon


def eventually(action: Callable[[], object], what: str) -> None:
    """Repeats `action` until it no longer raises RegistryError."""

    def succeeds() -> bool:
        try:
            action()
        except RegistryError as error:
            raise AssertionError(str(error)) from None
        return True

    until(succeeds, what)


def ids(instances: Collection[Instance]) -> set[str]:
    """Returns the ids of instances."""
    return {instance.id for instance in instances}
