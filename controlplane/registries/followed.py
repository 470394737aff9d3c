"""Instances as a registry tells them: increments in, changes out.

What xDS cannot serve is left out, counted and logged; what vanishes in a manner that is not to be believed stays for a
while, or comes back (`meshsdk.discovery.doubt`: the rule is the SDK's, so that clients of the control plane fare like
those that follow the registry themselves). Used by `feed` and by a shared store. Pure but for the log; guarded by the
lock of its owner.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from controlplane.registries.leases import Change
from controlplane.registries.limits import endpoint_problem
from meshsdk.discovery.doubt import Doubts
from meshsdk.model.instance import Increment, Instance, InstanceState

_LOG = logging.getLogger(__name__)
_MAX_TOLD = 1_000  # instances remembered as logged, so that each is logged once


class Followed:
    """The instances of the registry `name`. `listed`: a whole listing has come to its end.

    `period`: seconds of doubt; 0: all is believed.
    """

    def __init__(self, name: str, period: float = 0.0) -> None:
        self._name = name
        self._doubts: Doubts[Instance] = Doubts(name, period)
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
        for app, identifier in self._doubts.settle(now, away=away):
            changes.append(Change(self._instances[app].pop(identifier), None))
            self._tidy(app)
        return changes

    def next_deadline(self) -> float | None:
        """Returns when `settle` has something to do."""
        return self._doubts.deadline()

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
            self._doubts.told(app, instance.id, before=_online(group.get(instance.id)), after=_online(after))
        changes = self._vanish(app, group, sorted(gone), now)
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

    def _vanish(self, app: str, group: dict[str, Instance], gone: Iterable[str], now: float) -> list[Change]:
        """The registry no longer has these; returns what becomes of that, for them and for those gone before."""
        changes: list[Change] = []
        silent: dict[str, Instance] = {}
        for identifier in gone:
            instance = group.get(identifier)
            if instance is not None and _online(instance):
                silent[identifier] = instance
            elif instance is not None:
                changes.append(Change(group.pop(identifier), None))
        verdict = self._doubts.conclude(app, silent, now)
        changes += [Change(group.pop(identifier), None) for identifier in verdict.gone]
        changes += [Change(None, instance) for instance in verdict.recalled.values()]
        group.update(verdict.recalled)
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


def _online(instance: Instance | None) -> bool:
    return instance is not None and instance.state is InstanceState.ONLINE
