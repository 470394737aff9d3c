"""One consumer: the instances that one `RegistrySource` names, kept right whatever registry and migration do. Pure.

Owned by a desk, which brings what the registry tells and the time, and after each change asks `turn` what to watch and
what to tell. Three machines do the deciding: `migration` (which side), `instance_set` with `doubt` (which instances),
`mapping` (which applications). In time:

    begins       waits for all it may use to be listed; a registry that says why it cannot: at once the next line
    after 3 s    goes on with what is listed, or with what an earlier process saved
    after 15 s   with nothing at all, says so: calls that do not wait for ready fail with the words of `problem`
    later        whatever the registry does, what was known last stays in use until it tells otherwise
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from meshsdk.discovery.instance_set import InstanceSet, Member
from meshsdk.discovery.mapping import Catalogue
from meshsdk.discovery.method_defaults import agreed
from meshsdk.discovery.migration import Side, Standing, decide, watched
from meshsdk.model.instance import Increment
from meshsdk.model.migration import Migration
from meshsdk.model.resources import NO_METHODS, ClusterEndpoints, Methods, RegistrySource
from meshsdk.model.snapshot import Key
from meshsdk.model.told import Told

_GLANCE = 0.5  # seconds between two looks while there is nothing to use, or only what was saved
_PATIENCE = 3.0  # seconds
_SILENCE = 15.0  # seconds, as gRFC A57 waits for a resource


class Memory(Protocol):
    """What an earlier process saved (`last_known.LastKnown`)."""

    def instances(self, what: Sequence[object]) -> Mapping[str, Member] | None:
        """Returns a saved set of instances."""

    def applications(self, service: str) -> tuple[str, ...] | None:
        """Returns a saved mapping."""


@dataclass(frozen=True, slots=True)
class Watched:
    """One watch of the registry: the instances of `app`, for one side. `app` is the service's name on its own side."""

    side: Side
    app: str


@dataclass(frozen=True, slots=True)
class Turn:
    """What follows: the watches there are to be, and what to tell (None: nothing new)."""

    watches: frozenset[Watched]
    told: Told | None


class Consumer:
    """Owned by the desk's thread.

    Args:
        key: what is told is told of this key.
        source: what is consumed.
        mode: the migration mode in force.
        catalogue: the registry's, shared with other consumers.
        memory: None without a cache directory.
        period: seconds of doubt and of leaving a mapping, see `outage`.
        now: the time, as in every method.
    """

    def __init__(
        self,
        key: Key,
        source: RegistrySource,
        mode: Migration,
        catalogue: Catalogue,
        memory: Memory | None,
        period: float,
        now: float,
    ) -> None:
        self.key = key
        self.source = source
        self.side: Side | None = None  # the one in use
        self._mode = mode
        self._catalogue = catalogue
        self._memory = memory
        self._period = period
        self._began = now
        self._looked = now
        self._sets: dict[Side, InstanceSet] = {}
        self._restored: set[Watched] = set()
        self._told: Told | None = None
        self._said: tuple[Methods, ...] = ()  # what `_defaults` was made of
        self._defaults = NO_METHODS
        self._made: ClusterEndpoints | None = None  # what was told last, with the defaults
        if self._maps:
            catalogue.follow(source.interface)

    @property
    def _maps(self) -> bool:
        """Whether the applications are found by the service."""
        return bool(self.source.interface) and not self.source.app

    def close(self) -> None:
        """The consumer is over."""
        if self._maps:
            self._catalogue.unfollow(self.source.interface)

    def migrate(self, mode: Migration) -> None:
        """The migration mode has changed."""
        self._mode = mode

    def tell_again(self) -> None:
        """Whoever was told has forgotten it."""
        self._told = None

    def take(self, watch: Watched, increment: Increment, now: float) -> None:
        """The registry has told something on a watch."""
        if increment.app == watch.app:
            self._set(watch.side).take(increment, now)
            if increment.reset:
                self._restored.discard(watch)

    def reviewed(self, app: str, revision: str) -> None:
        """It is known now what a revision contains."""
        if Side.APPLICATION in self._sets:
            self._sets[Side.APPLICATION].review(app, revision)

    def turn(self, now: float, problem: str) -> Turn:
        """Settles what follows from all that was told. `problem`: why the registry cannot be followed at present."""
        self._looked = now
        problem = problem or (self._catalogue.problem if self._maps else "")
        for instances in self._sets.values():
            instances.settle(now, away=bool(problem))
        patient = not problem and now - self._began < _PATIENCE
        mode = self._choose(patient=patient)
        if self.side is None and not patient:
            self._restore(now)
            mode = self._choose(patient=False)
        watches = self._watches(mode)
        self._let_go(watches)
        told = self._outcome(now, problem)
        if told is None or _same(told, self._told):
            return Turn(watches, None)
        self._told = told
        return Turn(watches, told)

    def deadline(self) -> float | None:
        """When `turn` is due at the latest; None: not before something is told."""
        times = [time for one in self._sets.values() if (time := one.deadline()) is not None]
        if self.side is None or self._restored:
            times.append(self._looked + _GLANCE)
        return min(times, default=None)

    def saved(self, watch: Watched) -> tuple[list[object], Mapping[str, Member]] | None:
        """Returns what to save of a watch: its name for `Memory`, and the instances; None: not all are known."""
        known = self._sets.get(watch.side)
        if known is None or watch in self._restored or not known.listed(watch.app):
            return None
        return self._name(watch.app), known.members(watch.app)

    # -- what is in use -----------------------------------------------------------------------------------------------

    def _choose(self, *, patient: bool) -> Migration:
        """Decides on the side in use; returns the mode that counts."""
        apps = self._apps()
        mode = self._mode_for(apps)
        if self._maps:
            names = self._sets.get(Side.INTERFACE)
            self._catalogue.plain(self.source.interface, plain=not apps and names is not None and names.usable > 0)
        application = self._standing(Side.APPLICATION, apps)
        interface = self._standing(Side.INTERFACE, (self.source.interface,))
        self.side = decide(mode, application, interface, self.side, patient=patient)
        return mode

    def _apps(self) -> tuple[str, ...] | None:
        return self._catalogue.apps(self.source.interface) if self._maps else (self.source.app,)

    def _mode_for(self, apps: tuple[str, ...] | None) -> Migration:
        if not self.source.interface:
            return Migration.FORCE_APPLICATION
        if apps:
            return self._mode
        # No application serves it: then the name is an application's, whose instances are found under the name. While
        # nobody knows (None), what is found there is better than nothing.
        unknown = apps is None and self._mode is not Migration.FORCE_INTERFACE
        return Migration.APPLICATION_FIRST if unknown else Migration.FORCE_INTERFACE

    def _standing(self, side: Side, apps: tuple[str, ...] | None) -> Standing:
        known = self._sets.get(side)
        if known is None or apps is None:
            return Standing()
        listed = all(known.listed(app) for app in apps) and not known.undecided
        return Standing(listed, known.usable)

    def _watches(self, mode: Migration) -> frozenset[Watched]:
        found: set[Watched] = set()
        sides = watched(mode, self.side)
        if Side.INTERFACE in sides and self.source.interface:
            found.add(Watched(Side.INTERFACE, self.source.interface))
        if Side.APPLICATION in sides:
            apps: Collection[str] = self._apps() or ()
            if not apps and self.side is Side.APPLICATION:
                apps = self._sets[Side.APPLICATION].apps  # no longer mapped, and in use until there is something else
            found.update(Watched(Side.APPLICATION, app) for app in apps)
        return frozenset(found)

    def _let_go(self, watches: frozenset[Watched]) -> None:
        """Forgets what is not watched any more, except for the side in use while nothing replaces it."""
        self._restored &= watches
        for side, known in list(self._sets.items()):
            apps = {watch.app for watch in watches if watch.side is side}
            if not apps and side is not self.side:
                del self._sets[side]
            elif apps:
                for app in [app for app in known.apps if app not in apps]:
                    known.forget(app)

    def _outcome(self, now: float, problem: str) -> Told | None:
        if self.side is not None:
            known = self._set(self.side)
            endpoints: ClusterEndpoints | None = self._endpoints(known)
            if not any(watch.side is self.side for watch in self._restored):
                return Told(self.key, endpoints, note=_note(known))
            words = problem or "it has not answered yet"
            return Told(self.key, endpoints, f"the instances are those known before: {words}", "cache")
        if problem and not self._restored:  # what was restored waits for a word on its revisions, no longer than this:
            return Told(self.key, None, problem)
        if now - self._began >= _SILENCE:
            return Told(self.key, None, f"it has not answered within {_SILENCE:g} s")
        return None

    def _endpoints(self, known: InstanceSet) -> ClusterEndpoints:
        """Returns the endpoints with what all their revisions say; the same object as long as nothing changed.

        While the content of one of them is not known, nothing is: its instances may not be called twice.
        """
        contents = [self._catalogue.methods(app, revision) for app, revision in known.revisions()]
        said = tuple(one for one in contents if one is not None)
        said = said if len(said) == len(contents) else ()
        if said != self._said:
            self._said, self._defaults = said, agreed(said)
        plain = known.endpoints()
        if not self._defaults:
            return plain
        if self._made is None or self._made.localities is not plain.localities or self._made.methods != self._defaults:
            self._made = replace(plain, methods=self._defaults)
        return self._made

    # -- what an earlier process knew ---------------------------------------------------------------------------------

    def _restore(self, now: float) -> None:
        """The registry does not answer: takes what was saved, as far as nothing was told."""
        if self._memory is None:
            return
        if self._maps and self._catalogue.apps(self.source.interface) is None:
            apps = self._memory.applications(self.source.interface)
            if apps is not None:
                self._catalogue.restore(self.source.interface, apps)
        for watch in self._watches(self._mode_for(self._apps())):
            if not self._set(watch.side).listed(watch.app):
                members = self._memory.instances(self._name(watch.app))
                if members is not None:
                    self._set(watch.side).restore(watch.app, members, now)
                    self._restored.add(watch)

    def _name(self, app: str) -> list[object]:
        return ["instances", app, self.source.unit, [list(label) for label in self.source.labels]]

    def _set(self, side: Side) -> InstanceSet:
        known = self._sets.get(side)
        if known is None:
            offers = self._serves if side is Side.APPLICATION else _any_revision
            known = self._sets[side] = InstanceSet(self.key.name, self.source.labels, offers, self._period)
        return known

    def _serves(self, app: str, revision: str) -> bool | None:
        if not self.source.interface:
            return True
        return self._catalogue.serves(self.source.interface, app, revision)


def _same(told: Told, before: Told | None) -> bool:
    """Endpoints that did not change are the same object, so that no set is compared."""
    return (
        before is not None
        and told.endpoints is before.endpoints
        and (told.problem, told.origin, told.note) == (before.problem, before.origin, before.note)
    )


def _note(known: InstanceSet) -> str:
    """Says what is to be known of the instances in use."""
    if known.doubted:
        return f"in doubt: {known.doubted} instances, which the registry no longer has, stay in use for a while"
    return "" if known.endpoints().localities else "it has answered, with no instance to offer"


def _any_revision(app: str, revision: str) -> bool:
    """Whoever registers under the name of a service says that it serves it."""
    del app, revision
    return True
