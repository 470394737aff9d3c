"""Instances as a registry tells them: increments in, changes out.

What xDS cannot serve is left out, counted and logged; what vanishes in a manner that is not to be believed stays for a
while (`doubts`). Used by `feed` and by a shared store. Pure but for the log; guarded by the lock of its owner.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType

from controlplane.registries.doubts import Doubts
from controlplane.registries.leases import Change
from controlplane.registries.limits import endpoint_problem
from meshsdk.model.instance import Increment, Instance

_LOG = logging.getLogger(__name__)
_MAX_TOLD = 1_000  # instances remembered as logged, so that each is logged once


class Followed:
    """The instances of the registry `name`. `listed`: a whole listing has come to its end.

    `period`: seconds of doubt; 0: all is believed.
    """

    def __init__(self, name: str, period: float = 0.0) -> None:
        self._name = name
        self._doubts = Doubts(name, period)
        self._instances: dict[str, dict[str, Instance]] = {}
        self._skipped: dict[str, set[str]] = {}  # application -> ids that cannot be served
        self._told: set[str] = set()  # applications of the listing under way
        self._logged: set[tuple[str, str]] = set()
        self.listed = False

    @property
    def instances(self) -> Mapping[str, Mapping[str, Instance]]:
        """Application -> id -> instance; a live view without empty groups."""
        return MappingProxyType(self._instances)

    @property
    def count(self) -> int:
        """How many instances there are."""
        return sum(map(len, self._instances.values()))

    @property
    def skipped(self) -> int:
        """How many instances cannot be served."""
        return sum(map(len, self._skipped.values()))

    @property
    def doubted(self) -> int:
        """How many instances are kept that the registry does not have."""
        return len(self._doubts)

    def settle(self, now: float, *, away: bool) -> list[Change]:
        """Lets go of instances that were in doubt for long enough; `away`: the registry cannot be asked."""
        changes: list[Change] = []
        for app, identifier in self._doubts.over(now, away=away):
            changes.append(Change(self._instances[app].pop(identifier), None))
            self._tidy(app)
        return changes

    def next_deadline(self) -> float | None:
        """Returns when `settle` has something to do."""
        return self._doubts.next_deadline()

    def take(self, increment: Increment, now: float = 0.0) -> list[Change]:
        """Takes what the registry tells; a reset without an application ends a listing of all."""
        if increment.app:
            if increment.reset:
                self._told.add(increment.app)
            return self._take(increment, now)
        changes: list[Change] = []
        if increment.reset:
            for app in [app for app in (*self._instances, *self._skipped) if app not in self._told]:
                changes += self._take(Increment(app, reset=True), now)
            self._told.clear()
            self.listed = True
        return changes

    def _take(self, increment: Increment, now: float) -> list[Change]:
        app = increment.app
        group = self._instances.setdefault(app, {})
        skipped = self._skipped.setdefault(app, set())
        gone = set(increment.removed)
        if increment.reset:
            kept = {instance.id for instance in increment.put}
            gone.update(key for key in (*group, *skipped) if key not in kept)
        skipped -= gone
        usable = [(instance, self._usable(instance)) for instance in increment.put]
        for instance, after in usable:
            self._doubts.told(app, instance.id, group.get(instance.id), after)
        gone -= self._doubts.vanished(app, [group[key] for key in sorted(gone) if key in group], now)
        changes = [Change(old, None) for key in sorted(gone) if (old := group.pop(key, None)) is not None]
        for instance, after in usable:
            before = group.get(instance.id)
            if after is None:
                skipped.add(instance.id)
                group.pop(instance.id, None)
            else:
                skipped.discard(instance.id)
                group[instance.id] = after
            if before != after:
                changes.append(Change(before, after))
        self._tidy(app)
        return changes

    def _tidy(self, app: str) -> None:
        if not self._instances[app]:
            del self._instances[app]
            self._doubts.forget(app)
        if not self._skipped.get(app, True):
            del self._skipped[app]

    def _usable(self, instance: Instance) -> Instance | None:
        problem = endpoint_problem(instance)
        if not problem:
            return instance
        key = (instance.app, instance.id)
        if key not in self._logged and len(self._logged) < _MAX_TOLD:
            self._logged.add(key)
            _LOG.warning("%s/%s of %s is not served: %s", instance.app, instance.id, self._name, problem)
        return None
