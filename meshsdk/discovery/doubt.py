"""Which instances of a registry are kept though it says that they are gone. Pure but for the log: `now` comes in.

One rule for a consumer (`instance_set`) and for a control plane that turns a registry into EDS
(`controlplane.registries.followed`). Each keeps its instances itself, tells here what it hears of them, and does what
the verdict says:

    told of                      it is what the registry says, and in no doubt
    gone, and was not ONLINE     not asked here: who drained is believed
    gone without a word          believed where `outage` finds the loss small, and kept aside for `period`; otherwise
                                 it stays, in doubt, for `period`
    a doubt begins               those kept aside, of that application, are recalled: leases lapse one by one, and the
                                 first of them are believed before the loss is one to be doubted
    its time is over             gone; while the registry is away nobody could dispel doubts, so they go on
    only recalled ones are left  gone: they had been believed gone, and all others are told of again

Knows ids, counts and times, and of those kept aside what the owner keeps of them. A call costs what it changes,
whatever the number of instances and applications.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Generic, TypeVar

from meshsdk.discovery.outage import Protection

_LOG = logging.getLogger("meshsdk.discovery")

Kept = TypeVar("Kept")
Identity = tuple[str, str]  # (application, id)


@dataclass(frozen=True, slots=True)
class Verdict(Generic[Kept]):
    """What becomes of instances of one application, by id; of those that vanished the rest stays, in doubt as before.

    `doubted`: stay, and are in doubt from now. `recalled`: gone before, and back, in doubt. `gone`: to be let go.
    """

    doubted: tuple[str, ...]
    recalled: Mapping[str, Kept]
    gone: tuple[str, ...]


@dataclass(slots=True, eq=False)
class _Application(Generic[Kept]):
    """What is known of one application. `confirmed`: how many instances are ONLINE and not in doubt.

    `aside`: those that vanished without a word and were believed, the earliest first. `doubted`: those in doubt,
    `recalled`: those of them that had been aside. `questioned` and `released`: how many came into the present doubt,
    and how many of them were given up.
    """

    protection: Protection
    confirmed: int = 0
    aside: dict[str, Kept] = field(default_factory=dict)
    doubted: set[str] = field(default_factory=set)
    recalled: set[str] = field(default_factory=set)
    questioned: int = 0
    released: int = 0


class Doubts(Generic[Kept]):
    """About the instances of one registry. Guarded by its owner: one thread, or the owner's lock.

    Args:
        name: of the owner, for the log.
        period: seconds of doubt (`outage`); 0: all is believed.

    `now` never goes back.
    """

    def __init__(self, name: str, period: float) -> None:
        self._name = name
        self._period = period
        self._apps: dict[str, _Application[Kept]] = {}
        self._until: dict[Identity, float] = {}  # when each doubt ends, the earliest first
        self._since: dict[Identity, float] = {}  # when each that is aside vanished, the earliest first

    def __len__(self) -> int:
        """Returns how many are in doubt."""
        return len(self._until)

    @property
    def aside(self) -> int:
        """How many are kept aside, to come back with a doubt."""
        return len(self._since)

    def told(self, app: str, identifier: str, *, before: bool, after: bool) -> None:
        """The registry has told of an instance; whether it was ONLINE as far as the owner knew, and whether it is."""
        known = self._application(app)
        counted = before and identifier not in known.doubted
        self._clear(app, known, identifier)
        if known.aside.pop(identifier, None) is not None:
            del self._since[app, identifier]
        known.confirmed += after - counted
        if counted and not after:
            known.protection.said_farewell(1)

    def conclude(self, app: str, silent: Mapping[str, Kept], now: float) -> Verdict[Kept]:
        """The registry has said all that it says now, and ONLINE instances of the owner are `silent`ly missing."""
        known = self._application(app)
        known.protection.note(known.confirmed, now)
        self._expire(now)
        fresh = {identifier: kept for identifier, kept in silent.items() if identifier not in known.doubted}
        known.confirmed -= len(fresh)
        recalled: Mapping[str, Kept] = {}
        doubts = bool(fresh) and known.protection.doubts(known.confirmed, now)
        if doubts:
            recalled = self._question(app, known, fresh, now)
        else:
            self._believe(app, known, fresh, now)
        known.protection.note(known.confirmed, now)
        released = self._release(app, known)
        return Verdict(tuple(fresh) if doubts else (), recalled, released if doubts else (*fresh, *released))

    def settle(self, now: float, *, away: bool) -> list[Identity]:
        """Returns those whose doubt ends now, to be let go; `away`: the registry cannot be followed."""
        self._expire(now)
        due = [identity for identity, _ in takewhile(lambda item: item[1] <= now, self._until.items())]
        if away:
            for identity in due:
                del self._until[identity]
                self._until[identity] = now + self._period
            return []
        for app, identifier in due:
            self._clear(app, self._apps[app], identifier)
            self._apps[app].released += 1
        touched = dict.fromkeys(app for app, _ in due)
        return due + [(app, identifier) for app in touched for identifier in self._release(app, self._apps[app])]

    def deadline(self) -> float | None:
        """When `settle` has something to let go; None: not as things are."""
        return next(iter(self._until.values()), None)

    def forget(self, app: str) -> None:
        """The application is no longer the owner's; nothing is said of what was in doubt."""
        known = self._apps.pop(app, None)
        if known is not None:
            for identifier in known.aside:
                del self._since[app, identifier]
            for identifier in known.doubted:
                del self._until[app, identifier]

    # -- inside -----------------------------------------------------------------------------------------------------

    def _application(self, app: str) -> _Application[Kept]:
        known = self._apps.get(app)
        if known is None:
            known = self._apps[app] = _Application(Protection(self._period))
        return known

    def _question(self, app: str, known: _Application[Kept], fresh: Mapping[str, Kept], now: float) -> dict[str, Kept]:
        """Doubts that these are gone, and returns those that are recalled with them."""
        self._trim(app, known)
        recalled, known.aside = known.aside, {}
        begins = not known.doubted
        for identifier in (*fresh, *recalled):
            self._until[app, identifier] = now + self._period
        for identifier in recalled:
            del self._since[app, identifier]
        known.doubted.update(fresh, recalled)
        known.recalled.update(recalled)
        known.questioned += len(fresh) + len(recalled)
        if begins:
            words = (
                "%s: the registry says that %d of %d instances of %r are gone without a word; in doubt, they stay in "
                "use until they are listed again, for %g s at most (longer while the registry is away)"
            )
            count = len(known.doubted)
            _LOG.warning(words, self._name, count, known.confirmed + count, app, self._period)
        return recalled

    def _believe(self, app: str, known: _Application[Kept], fresh: Mapping[str, Kept], now: float) -> None:
        """These are gone; they are kept aside for as long as a doubt may still begin."""
        if self._period > 0:
            known.aside.update(fresh)
            self._since.update(((app, identifier), now) for identifier in fresh)
            self._trim(app, known)

    def _expire(self, now: float) -> None:
        """Drops what vanished too long ago from what is kept aside."""
        for app, identifier in [
            identity for identity, _ in takewhile(lambda item: now - item[1] >= self._period, self._since.items())
        ]:
            del self._since[app, identifier], self._apps[app].aside[identifier]

    def _trim(self, app: str, known: _Application[Kept]) -> None:
        """Keeps no more aside than there were instances lately."""
        while len(known.aside) > known.protection.peak:
            identifier = next(iter(known.aside))
            del self._since[app, identifier], known.aside[identifier]

    def _clear(self, app: str, known: _Application[Kept], identifier: str) -> None:
        if identifier in known.doubted:
            known.doubted.remove(identifier)
            known.recalled.discard(identifier)
            del self._until[app, identifier]

    def _release(self, app: str, known: _Application[Kept]) -> tuple[str, ...]:
        """Lets go of the recalled where nothing else is in doubt; says so where the last doubt has ended."""
        released = tuple(sorted(known.recalled)) if len(known.recalled) == len(known.doubted) else ()
        for identifier in released:
            self._clear(app, known, identifier)
        known.released += len(released)
        if known.questioned and not known.doubted:
            words = "%s: the doubt about %d instances of %r is over; %d are not listed again and no longer used"
            _LOG.info(words, self._name, known.questioned, app, known.released)
            known.questioned = known.released = 0
        return released
