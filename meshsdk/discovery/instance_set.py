"""The instances of one side of a consumer, as endpoints: increments in, `ClusterEndpoints` out.

Owned by a `Consumer`. One changed instance of 100,000 costs one change: versions of the endpoints share what did not
change, and no instance is kept, only what picking needs of it. Which instances are offered:

    ONLINE     to calls
    DRAINING   to no new ones; running calls finish
    STARTING, OFFLINE, other labels than wanted, a revision without the service     not at all

Of several instances at one address (a process that was killed and started again has a new id) the youngest counts, one
that is in doubt (`outage`) only if there is no other. A locality weighs what its instances weigh, as in the EDS that
our control plane makes of the same registry.

Where leases lapse one by one, the first of them are believed before the loss is one to be doubted: when a doubt begins,
those that vanished without a word a short while before come back with it. They had been believed gone, so they go as
soon as all others of the doubt are listed again. Pure but for the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from meshsdk.discovery.outage import Protection
from meshsdk.model.endpoints import Endpoint, EndpointMap, Health
from meshsdk.model.instance import Increment, Instance, InstanceState
from meshsdk.model.resources import ClusterEndpoints, Locality, LocalityEndpoints

_LOG = logging.getLogger("meshsdk.discovery")

Offers = Callable[[str, str], "bool | None"]  # (application, revision) -> offered; None: not known yet, so not yet
_HEALTH = {InstanceState.ONLINE: Health.HEALTHY, InstanceState.DRAINING: Health.DRAINING}


@dataclass(slots=True, eq=False)
class Member:
    """What is kept of an instance. `offered`: by its revision. `doubted`: when the doubt ends, None: no doubt."""

    endpoint: Endpoint
    locality: Locality
    revision: str
    offered: bool = True
    doubted: float | None = None


@dataclass(slots=True, eq=False)
class _Application:
    """The instances of one application. `confirmed`: how many are ONLINE and not in doubt, `doubted`: how many are.

    `gone`: those that vanished without a word and were believed, with the time, the earliest first. `questioned` and
    `released`: how many came into the present doubt, and how many of them were given up; `recalled`: those in doubt
    that had been `gone` before.
    """

    protection: Protection
    members: dict[str, Member] = field(default_factory=dict)
    listed: bool = False
    confirmed: int = 0
    doubted: int = 0
    gone: dict[str, tuple[Member, float]] = field(default_factory=dict)
    questioned: int = 0
    released: int = 0
    recalled: set[str] = field(default_factory=set)


_Shown = tuple[Endpoint, Locality] | None


class InstanceSet:
    """Owned by one thread.

    Args:
        name: of the endpoints made.
        labels: only instances that have all of these are offered.
        offers: says whether instances of a revision are offered; changes of its mind are told by `review`.
        period: seconds of doubt (`outage`).
    """

    def __init__(self, name: str, labels: Iterable[tuple[str, str]], offers: Offers, period: float) -> None:
        self._labels = frozenset(labels)
        self._offers = offers
        self._period = period
        self._apps: dict[str, _Application] = {}
        self._undecided: set[tuple[str, str]] = set()  # revisions whose instances wait for `offers` to know
        self._doubted: dict[tuple[str, str], float] = {}  # (app, id) -> when the doubt ends
        self._at: dict[str, Member | tuple[Member, ...]] = {}  # by address
        self._localities: dict[Locality, Locality] = {}  # each kept once
        self._maps: dict[Locality, EndpointMap] = {}
        self._weights: dict[Locality, int] = {}  # of the ONLINE ones
        self._pending: dict[Locality, dict[str, Endpoint | None]] = {}  # not in `_maps` yet; None: removed
        self._made = ClusterEndpoints(name, ())
        self.usable = 0  # addresses that can be called

    @property
    def apps(self) -> Collection[str]:
        """The applications that have told something."""
        return self._apps.keys()

    @property
    def doubted(self) -> int:
        """How many instances are in use though the registry says that they are gone."""
        return len(self._doubted)

    @property
    def undecided(self) -> bool:
        """Whether instances are held back until it is known what they serve."""
        return bool(self._undecided)

    def listed(self, app: str) -> bool:
        """Tells whether all instances of an application have been told."""
        known = self._apps.get(app)
        return known is not None and known.listed

    def take(self, increment: Increment, now: float) -> None:
        """Applies what the registry told of one application."""
        app = self._application(increment.app)
        present = {instance.id for instance in increment.put} if increment.reset else frozenset[str]()
        gone = [i for i in app.members if i not in present] if increment.reset else list(increment.removed)
        for instance in increment.put:
            self._put(app, instance)
        app.protection.note(app.confirmed, now)
        self._vanish(increment.app, app, gone, now)
        app.protection.note(app.confirmed, now)
        app.listed = app.listed or increment.reset
        self._end_of_doubt(increment.app, app)

    def restore(self, app: str, members: Mapping[str, Member], now: float) -> None:
        """Takes what an earlier process knew last, while the registry is away; the next listing replaces it."""
        known = self._application(app)
        for identifier, member in members.items():
            self._enter(app, known, identifier, member)
        known.protection.note(known.confirmed, now)
        known.listed = True

    def members(self, app: str) -> Mapping[str, Member]:
        """Returns what is known of an application's instances, by id; to be kept for `restore`."""
        known = self._apps.get(app)
        return known.members if known is not None else {}

    def forget(self, app: str) -> None:
        """The application is no longer wanted."""
        known = self._apps.pop(app, None)
        if known is not None:
            for identifier in list(known.members):
                self._remove(app, known, identifier)
            self._undecided = {one for one in self._undecided if one[0] != app}

    def review(self, app: str, revision: str) -> None:
        """`offers` has changed its mind about a revision."""
        self._undecided.discard((app, revision))
        known = self._apps.get(app)
        for member in list(known.members.values()) if known is not None else ():
            if member.revision == revision:
                before = self._shown(member.endpoint.address)
                member.offered = self._offered(app, revision)
                self._note(member.endpoint.address, before)

    def settle(self, now: float, *, away: bool) -> None:
        """Ends doubts whose time is over; while the registry is `away` nobody could dispel them, so they go on."""
        for (name, identifier), end in list(self._doubted.items()):
            if end <= now and away:
                self._apps[name].members[identifier].doubted = self._doubted[name, identifier] = now + self._period
            elif end <= now:
                self._apps[name].released += 1
                self._remove(name, self._apps[name], identifier)
        for name, app in self._apps.items():
            self._expire(app, now)
            self._end_of_doubt(name, app)

    def deadline(self) -> float | None:
        """When `settle` has something to do; None: not as things are."""
        return min(self._doubted.values(), default=None)

    def endpoints(self) -> ClusterEndpoints:
        """Returns the endpoints as of now; the same object as long as nothing changed."""
        if self._pending:
            for locality, changes in self._pending.items():
                put = [endpoint for endpoint in changes.values() if endpoint is not None]
                removed = [address for address, endpoint in changes.items() if endpoint is None]
                updated = self._maps.get(locality, EndpointMap()).updated(put, removed)
                if len(updated):
                    self._maps[locality] = updated
                else:
                    self._maps.pop(locality, None)
            self._pending.clear()
            places = tuple(
                LocalityEndpoints(locality, 0, max(1, self._weights.get(locality, 0)), self._maps[locality])
                for locality in sorted(self._maps)
            )
            self._made = ClusterEndpoints(self._made.name, places)
        return self._made

    # -- instances ----------------------------------------------------------------------------------------------------

    def _application(self, name: str) -> _Application:
        known = self._apps.get(name)
        if known is None:
            known = self._apps[name] = _Application(Protection(self._period))
        return known

    def _put(self, app: _Application, instance: Instance) -> None:
        app.gone.pop(instance.id, None)
        health = _HEALTH.get(instance.state)
        if health is None or not self._labels <= instance.labels.items():
            app.protection.said_farewell(self._remove(instance.app, app, instance.id))
            return
        endpoint = Endpoint(instance.address, instance.weight, health, instance.started_at)
        place = Locality(instance.region, instance.zone)
        place = self._localities.setdefault(place, place)
        offered = self._offered(instance.app, instance.revision)
        known = app.members.get(instance.id)
        if known is not None and known.endpoint.address == endpoint.address:
            before = self._shown(endpoint.address)
            counted = _counts(known)
            if known.endpoint != endpoint:
                known.endpoint = endpoint
            known.locality, known.revision, known.offered = place, instance.revision, offered
            self._trust(instance.app, app, instance.id, known)
            app.confirmed += _counts(known) - counted
            app.protection.said_farewell(max(0, counted - _counts(known)))
            self._note(endpoint.address, before)
            return
        self._remove(instance.app, app, instance.id)
        self._enter(instance.app, app, instance.id, Member(endpoint, place, instance.revision, offered))

    def _offered(self, app: str, revision: str) -> bool:
        verdict = self._offers(app, revision)
        if verdict is None:
            self._undecided.add((app, revision))
        return bool(verdict)

    def _vanish(self, name: str, app: _Application, identifiers: Iterable[str], now: float) -> None:
        """Instances have gone without a word, unless they were draining."""
        silent = []
        for identifier in identifiers:
            member = app.members.get(identifier)
            if member is None or member.doubted is not None:
                continue
            if _counts(member):
                silent.append(identifier)
            else:
                self._remove(name, app, identifier)
        if not app.protection.doubts(app.confirmed - len(silent), now):
            self._believe(name, app, silent, now)
            return
        self._expire(app, now)
        begins = not app.doubted
        for identifier in silent:
            member = app.members[identifier]
            before = self._shown(member.endpoint.address)
            app.confirmed -= 1
            self._doubt(name, app, identifier, now)
            self._note(member.endpoint.address, before)
        for identifier, (member, _) in app.gone.items():
            member.doubted = now  # so that it is none of the confirmed from the beginning
            self._enter(name, app, identifier, member)
            self._doubt(name, app, identifier, now)
        app.recalled.update(app.gone)
        app.gone.clear()
        if begins and app.doubted:
            words = (
                "%s: the registry says that %d of %d instances of %r are gone without a word; in doubt, they stay in "
            )
            words += "use until they are listed again, for %g s at most (longer while the registry is away)"
            count = app.confirmed + app.doubted
            _LOG.warning(words, self._made.name, app.doubted, count, name, self._period)

    def _believe(self, name: str, app: _Application, silent: list[str], now: float) -> None:
        """These are gone; they are kept aside for as long as a doubt may still begin."""
        for identifier in silent:
            if self._period > 0:
                app.gone.pop(identifier, None)
                app.gone[identifier] = app.members[identifier], now
            self._remove(name, app, identifier)
        self._expire(app, now)

    def _expire(self, app: _Application, now: float) -> None:
        """Drops what vanished too long ago, or is more than there were instances lately, from what is kept aside."""
        while app.gone:
            identifier, (_, at) = next(iter(app.gone.items()))
            if now - at < self._period and len(app.gone) <= app.protection.peak:
                return
            del app.gone[identifier]

    def _doubt(self, name: str, app: _Application, identifier: str, now: float) -> None:
        app.members[identifier].doubted = self._doubted[name, identifier] = now + self._period
        app.doubted += 1
        app.questioned += 1

    def _end_of_doubt(self, name: str, app: _Application) -> None:
        """Lets go of the recalled where nothing else is in doubt; says so where the last doubt has ended."""
        if app.doubted == len(app.recalled):
            app.released += len(app.recalled)
            for identifier in list(app.recalled):
                self._remove(name, app, identifier)
        if app.questioned and not app.doubted:
            words = "%s: the doubt about %d instances of %r is over; %d are not listed again and no longer used"
            _LOG.info(words, self._made.name, app.questioned, name, app.released)
            app.questioned = app.released = 0

    def _trust(self, name: str, app: _Application, identifier: str, member: Member) -> None:
        if member.doubted is not None:
            member.doubted = None
            app.doubted -= 1
            app.recalled.discard(identifier)
            del self._doubted[name, identifier]

    def _enter(self, name: str, app: _Application, identifier: str, member: Member) -> None:
        member.offered = self._offered(name, member.revision)
        address = member.endpoint.address
        before = self._shown(address)
        app.members[identifier] = member
        app.confirmed += _counts(member)
        self._at[address] = member if address not in self._at else (*self._here(address), member)
        self._note(address, before)

    def _remove(self, name: str, app: _Application, identifier: str) -> int:
        """Removes an instance; returns 1 if it was one that counted, else 0."""
        member = app.members.get(identifier)
        if member is None:
            return 0
        address = member.endpoint.address
        before = self._shown(address)
        counted = _counts(member)
        app.confirmed -= counted
        self._trust(name, app, identifier, member)
        del app.members[identifier]
        rest = tuple(one for one in self._here(address) if one is not member)
        if rest:
            self._at[address] = rest if len(rest) > 1 else rest[0]
        else:
            del self._at[address]
        self._note(address, before)
        return counted

    # -- addresses ----------------------------------------------------------------------------------------------------

    def _here(self, address: str) -> tuple[Member, ...]:
        found = self._at.get(address, ())
        return found if isinstance(found, tuple) else (found,)

    def _shown(self, address: str) -> _Shown:
        """Returns what is offered at an address."""
        found = self._at.get(address)
        if isinstance(found, tuple):
            offered = [one for one in found if one.offered]
            found = max(offered, key=_rank, default=None)
        if found is None or not found.offered:
            return None
        return found.endpoint, found.locality

    def _note(self, address: str, before: _Shown) -> None:
        """What is offered at an address may have changed since it was `before`."""
        after = self._shown(address)
        if before == after:
            return
        if before is not None:
            self._count(*before, -1)
            self._pending.setdefault(before[1], {})[address] = None
        if after is not None:
            self._count(*after, 1)
            self._pending.setdefault(after[1], {})[address] = after[0]

    def _count(self, endpoint: Endpoint, locality: Locality, sign: int) -> None:
        if endpoint.health is Health.HEALTHY:
            self.usable += sign
            self._weights[locality] = self._weights.get(locality, 0) + sign * endpoint.weight


def _counts(member: Member) -> int:
    return int(member.endpoint.health is Health.HEALTHY and member.doubted is None)


def _rank(member: Member) -> tuple[bool, float, str]:
    return member.doubted is None, member.endpoint.started_at, member.revision
