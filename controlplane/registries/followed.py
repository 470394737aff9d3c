"""Instances as a registry tells them: increments in, changes out.

What xDS cannot serve is left out, counted and logged. Used by `feed` and by a shared store. Pure but for the log;
guarded by the lock of its owner.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType

from controlplane.registries.leases import Change
from controlplane.registries.limits import endpoint_problem
from meshsdk.model.instance import Increment, Instance

_LOG = logging.getLogger(__name__)
_MAX_TOLD = 1_000  # instances remembered as logged, so that each is logged once


class Followed:
    """The instances of the registry `name`. `listed`: a whole listing has come to its end."""

    def __init__(self, name: str) -> None:
        self._name = name
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

    def take(self, increment: Increment) -> list[Change]:
        """Takes what the registry tells; a reset without an application ends a listing of all."""
        if increment.app:
            if increment.reset:
                self._told.add(increment.app)
            return self._take(increment)
        changes: list[Change] = []
        if increment.reset:
            for app in [app for app in (*self._instances, *self._skipped) if app not in self._told]:
                changes += self._take(Increment(app, reset=True))
            self._told.clear()
            self.listed = True
        return changes

    def _take(self, increment: Increment) -> list[Change]:
        app = increment.app
        group = self._instances.setdefault(app, {})
        skipped = self._skipped.setdefault(app, set())
        gone = set(increment.removed)
        if increment.reset:
            kept = {instance.id for instance in increment.put}
            gone.update(key for key in (*group, *skipped) if key not in kept)
        skipped -= gone
        changes = [Change(old, None) for key in sorted(gone) if (old := group.pop(key, None)) is not None]
        for instance in increment.put:
            before, after = group.get(instance.id), self._usable(instance)
            if after is None:
                skipped.add(instance.id)
                group.pop(instance.id, None)
            else:
                skipped.discard(instance.id)
                group[instance.id] = after
            if before != after:
                changes.append(Change(before, after))
        if not group:
            del self._instances[app]
        if not skipped:
            del self._skipped[app]
        return changes

    def _usable(self, instance: Instance) -> Instance | None:
        problem = endpoint_problem(instance)
        if not problem:
            return instance
        key = (instance.app, instance.id)
        if key not in self._logged and len(self._logged) < _MAX_TOLD:
            self._logged.add(key)
            _LOG.warning("%s/%s of %s is not served: %s", instance.app, instance.id, self._name, problem)
        return None
