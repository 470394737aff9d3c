"""Those who watch instances. Pure queues, called by `registration` and emptied by the watch streams.

What a watcher has not fetched yet is merged, so a slow one holds no more than one entry for each instance, and nobody
else waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from controlplane.registries.leases import Change
from meshsdk.model.instance import Increment, Instance


@dataclass(slots=True)
class Watcher:
    """One watch stream's queue. Guarded by the lock of the instances; `wake` is called when it fills."""

    app: str  # "" watches all
    unit: str  # "" for every unit
    wake: Callable[[], None]
    _pending: dict[str, dict[str, Instance | None]] = field(default_factory=dict)
    _listing: bool = True  # nothing was taken yet: what is pending is all there is

    def wants(self, instance: Instance) -> bool:
        """Tells whether the watcher asked for instances like this."""
        return (not self.app or instance.app == self.app) and (not self.unit or instance.unit == self.unit)

    def offer(self, change: Change) -> None:
        """Queues a change that concerns the watcher."""
        before = change.before is not None and self.wants(change.before)
        after = change.after is not None and self.wants(change.after)
        if before or after:
            instance = change.instance
            self._pending.setdefault(instance.app, {})[instance.id] = change.after if after else None
            self.wake()

    def start(self, instances: Mapping[str, Mapping[str, Instance]]) -> None:
        """Queues all there is: one reset for the watched application, or for every one."""
        for app in [self.app] if self.app else list(instances):
            group = instances.get(app, {})
            self._pending[app] = {key: each for key, each in group.items() if self.wants(each)}
        self.wake()

    def take(self) -> Iterator[Increment]:
        """Empties the queue; the first time with a reset for each application.

        Where all are watched, that listing ends with the mark: a reset without an application.
        """
        pending, self._pending = self._pending, {}
        reset, self._listing = self._listing, False
        for app, changes in pending.items():
            put = tuple(each for each in changes.values() if each is not None)
            removed = tuple(key for key, each in changes.items() if each is None)
            yield Increment(app, put, () if reset else removed, reset)
        if reset and not self.app:
            yield Increment("", reset=True)


class Hub:
    """All watchers. Guarded by the plane's lock."""

    def __init__(self) -> None:
        self._by_app: dict[str, dict[int, Watcher]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_app.values()))

    def add(self, watcher: Watcher, instances: Mapping[str, Mapping[str, Instance]]) -> None:
        """Adds a watcher and queues what there is."""
        self._by_app.setdefault(watcher.app, {})[id(watcher)] = watcher
        watcher.start(instances)

    def remove(self, watcher: Watcher) -> None:
        """Removes a watcher; one that is not there is no error."""
        group = self._by_app.get(watcher.app, {})
        group.pop(id(watcher), None)
        if not group:
            self._by_app.pop(watcher.app, None)

    def offer(self, change: Change) -> None:
        """Hands a change to those who watch its application and to those who watch all."""
        for key in {change.instance.app, ""}:
            for watcher in self._by_app.get(key, {}).values():
                watcher.offer(change)
