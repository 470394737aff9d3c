"""The instances of one side of a consumer, as endpoints: increments in, `ClusterEndpoints` out.

Owned by a `Consumer`. One changed instance of 100,000 costs one change: versions of the endpoints share what did not
change, and no instance is kept, only what picking needs of it. Which instances are offered:

    ONLINE     to calls
    DRAINING   to no new ones; running calls finish
    STARTING, OFFLINE, other labels than wanted, a revision without the service     not at all

Of several instances at one address (a process that was killed and started again has a new id) the youngest counts, one
that is in doubt only if there is no other. Which of those that the registry no longer has stay, in doubt, and for how
long, is decided by `doubt`. A locality weighs what its instances weigh, as in the EDS that our control plane makes of
the same registry. Pure but for the log of `doubt`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from meshsdk.discovery.doubt import Doubts, Verdict
from meshsdk.model.endpoints import Endpoint, EndpointMap, Health
from meshsdk.model.instance import Increment, Instance, InstanceState
from meshsdk.model.resources import ClusterEndpoints, Locality, LocalityEndpoints

Offers = Callable[[str, str], "bool | None"]  # (application, revision) -> offered; None: not known yet, so not yet
_HEALTH = {InstanceState.ONLINE: Health.HEALTHY, InstanceState.DRAINING: Health.DRAINING}


@dataclass(slots=True, eq=False)
class Member:
    """What is kept of an instance. `offered`: by its revision. `doubted`: at its address any other goes before it."""

    endpoint: Endpoint
    locality: Locality
    revision: str
    offered: bool = True
    doubted: bool = False


@dataclass(slots=True, eq=False)
class _Application:
    """The instances of one application, by id."""

    members: dict[str, Member] = field(default_factory=dict)
    listed: bool = False
    revisions: Counter[str] = field(default_factory=Counter)  # how many members have each


_Shown = tuple[Endpoint, Locality] | None


class InstanceSet:
    """Owned by one thread.

    Args:
        name: of the endpoints made.
        labels: only instances that have all of these are offered.
        offers: says whether instances of a revision are offered; changes of its mind are told by `review`.
        period: seconds of doubt (`doubt`).
    """

    def __init__(self, name: str, labels: Iterable[tuple[str, str]], offers: Offers, period: float) -> None:
        self._labels = frozenset(labels)
        self._offers = offers
        self._doubts: Doubts[Member] = Doubts(name, period)
        self._apps: dict[str, _Application] = {}
        self._undecided: set[tuple[str, str]] = set()  # revisions whose instances wait for `offers` to know
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
        return len(self._doubts)

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
        self._vanish(increment.app, app, gone, now)
        app.listed = app.listed or increment.reset

    def restore(self, app: str, members: Mapping[str, Member], now: float) -> None:
        """Takes what an earlier process knew last, while the registry is away; the next listing replaces it."""
        known = self._application(app)
        for identifier, member in members.items():
            self._enter(app, known, identifier, member)
            self._doubts.told(app, identifier, before=False, after=_online(member))
        self._vanish(app, known, (), now)
        known.listed = True

    def members(self, app: str) -> Mapping[str, Member]:
        """Returns what is known of an application's instances, by id; to be kept for `restore`."""
        known = self._apps.get(app)
        return known.members if known is not None else {}

    def revisions(self) -> Iterator[tuple[str, str]]:
        """Yields (application, revision) of the instances that are known, each once, in order."""
        for app in sorted(self._apps):
            yield from ((app, revision) for revision in sorted(self._apps[app].revisions))

    def forget(self, app: str) -> None:
        """The application is no longer wanted."""
        known = self._apps.pop(app, None)
        if known is not None:
            self._doubts.forget(app)
            for identifier in list(known.members):
                self._remove(known, identifier)
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
        for app, identifier in self._doubts.settle(now, away=away):
            self._remove(self._apps[app], identifier)

    def deadline(self) -> float | None:
        """When `settle` has something to do; None: not as things are."""
        return self._doubts.deadline()

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
            known = self._apps[name] = _Application()
        return known

    def _put(self, app: _Application, instance: Instance) -> None:
        known = app.members.get(instance.id)
        before = known is not None and _online(known)
        health = _HEALTH.get(instance.state)
        if health is None or not self._labels <= instance.labels.items():
            self._doubts.told(instance.app, instance.id, before=before, after=False)
            self._remove(app, instance.id)
            return
        self._doubts.told(instance.app, instance.id, before=before, after=health is Health.HEALTHY)
        endpoint = Endpoint(instance.address, instance.weight, health, instance.started_at)
        place = Locality(instance.region, instance.zone)
        place = self._localities.setdefault(place, place)
        if known is not None and known.endpoint.address == endpoint.address:
            shown = self._shown(endpoint.address)
            if known.endpoint != endpoint:
                known.endpoint = endpoint
            if known.revision != instance.revision:
                _leave(app, known.revision)
                app.revisions[instance.revision] += 1
            known.locality, known.revision, known.doubted = place, instance.revision, False
            known.offered = self._offered(instance.app, instance.revision)
            self._note(endpoint.address, shown)
            return
        self._remove(app, instance.id)
        self._enter(instance.app, app, instance.id, Member(endpoint, place, instance.revision))

    def _offered(self, app: str, revision: str) -> bool:
        verdict = self._offers(app, revision)
        if verdict is None:
            self._undecided.add((app, revision))
        return bool(verdict)

    def _vanish(self, name: str, app: _Application, identifiers: Iterable[str], now: float) -> None:
        """Instances have gone without a word, unless they were draining."""
        silent: dict[str, Member] = {}
        for identifier in identifiers:
            member = app.members.get(identifier)
            if member is not None and _online(member):
                silent[identifier] = member
            else:
                self._remove(app, identifier)
        self._obey(name, app, self._doubts.conclude(name, silent, now))

    def _obey(self, name: str, app: _Application, verdict: Verdict[Member]) -> None:
        for identifier in verdict.doubted:
            member = app.members[identifier]
            shown = self._shown(member.endpoint.address)
            member.doubted = True
            self._note(member.endpoint.address, shown)
        for identifier, member in verdict.recalled.items():
            member.doubted = True
            self._enter(name, app, identifier, member)
        for identifier in verdict.gone:
            self._remove(app, identifier)

    def _enter(self, name: str, app: _Application, identifier: str, member: Member) -> None:
        member.offered = self._offered(name, member.revision)
        address = member.endpoint.address
        before = self._shown(address)
        app.members[identifier] = member
        app.revisions[member.revision] += 1
        self._at[address] = member if address not in self._at else (*self._here(address), member)
        self._note(address, before)

    def _remove(self, app: _Application, identifier: str) -> None:
        member = app.members.pop(identifier, None)
        if member is None:
            return
        _leave(app, member.revision)
        address = member.endpoint.address
        before = self._shown(address)
        rest = tuple(one for one in self._here(address) if one is not member)
        if rest:
            self._at[address] = rest if len(rest) > 1 else rest[0]
        else:
            del self._at[address]
        self._note(address, before)

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


def _online(member: Member) -> bool:
    return member.endpoint.health is Health.HEALTHY


def _rank(member: Member) -> tuple[bool, float, str]:
    return not member.doubted, member.endpoint.started_at, member.revision


def _leave(app: _Application, revision: str) -> None:
    """One instance fewer has a revision."""
    app.revisions[revision] -= 1
    if not app.revisions[revision]:
        del app.revisions[revision]
