"""What a response of LEDS resources does to the store: members of collections come, change and go. Pure.

One `CollectionIntake` is made by `AdsMachine` for each response. The server's part, which no specification spells out,
is settled so, in accord with what Envoy needs (its `leds.cc`):

- The first response on a stream that speaks of a collection is its whole listing, unless the stream was opened with
  the versions of its members: then all responses are changes. Members that a listing leaves out are gone.
- An empty collection is told by its own name among the removed resources. It is a state like any other, no error.
- One that is emptied when the EDS resource that names it is absent goes the way of that: the last good one stays (A88).
- A malformed member is refused by its name; its last good resource stays in force (A88), and so do all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from meshsdk.errors import InvalidResource
from meshsdk.model.collection import Arrivals, EndpointCollection, LbEndpoint, Member
from meshsdk.model.resources import ClusterEndpoints, Kind
from meshsdk.model.snapshot import Key
from meshsdk.xds_client.intake import Decode, Outcome, Source, checked_decode, reported
from meshsdk.xds_client.messages import Received, Response
from meshsdk.xds_client.names import canonical, member_of
from meshsdk.xds_client.store import FROM_DISK, Entry, EntryStatus, Store

_KIND = Kind.LB_ENDPOINTS
_MOST_RESOURCES = 1_000_000  # in one response; ten large collections
_SHOWN = 3  # refused members named in the words about a collection


@dataclass(slots=True)
class _Told:
    """What one response says about one collection. `emptied`: that it has no members."""

    put: Arrivals = field(default_factory=Arrivals)
    refused: dict[str, str] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    emptied: bool = False
    ignored: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class CollectionIntake:
    """Applies one response to the collections that are `wanted`.

    `listed`: those whose members the server knows us to have, by this stream; grows as listings come.
    """

    store: Store
    decode: Decode
    wanted: AbstractSet[str]
    source: Source
    listed: set[str]
    outcome: Outcome = field(default_factory=Outcome)

    def apply(self, response: Response) -> Outcome:
        """Takes over everything that is good in the response; why the rest is not is in `Outcome.reasons`."""
        outcome = self.outcome
        if len(response.resources) > _MOST_RESOURCES:
            outcome.reasons.append(f"{len(response.resources)} resources in one response, at most {_MOST_RESOURCES}")
            return outcome
        told = self._read(response)
        if any(self._estranged(name) for name in told):
            outcome.estranged = True
            outcome.accepted = 0
            return outcome
        for name, one in told.items():
            if self._counts(name):
                self._update(Key(_KIND, name), one, response.version)
            else:
                outcome.unheeded = True
        for problem in response.problems:
            name = canonical(problem.name)
            if name in self.wanted and name not in told and self._counts(name):
                self._put(reported(self._entry(Key(_KIND, name)), problem, self.source))
        return outcome

    def _read(self, response: Response) -> Mapping[str, _Told]:
        told: dict[str, _Told] = {}
        shared: dict[str, str] = {}  # one string for a version that many members have
        for index, received in enumerate(response.resources):
            name, identifier = member_of(received.name)
            if not received.named:
                self.outcome.reasons.append(f"resource {index}: has no name")
            elif name in self.wanted and received.raw is not None:  # without content: a heartbeat (TTL)
                version = received.version or response.version
                one = told.setdefault(name, _Told())
                self._take(one, identifier, received, shared.setdefault(version, version))
        for removed in response.removed:
            if canonical(removed) in self.wanted:
                told.setdefault(canonical(removed), _Told()).emptied = True
                continue
            name, identifier = member_of(removed)
            if name in self.wanted:
                told.setdefault(name, _Told()).removed.add(identifier)
        return told

    def _take(self, one: _Told, identifier: str, received: Received, version: str) -> None:
        reason = ""
        if received.type_url != _KIND.value:
            reason = f"type {received.type_url!r} in a response of type {_KIND.value!r}"
        elif identifier in {"", "*"}:
            self.outcome.reasons.append(f"{received.name!r}: is not the name of one endpoint")
            return
        else:
            try:
                _, resource = checked_decode(self.decode, _KIND, received.raw or b"", None)
            except InvalidResource as error:
                reason = str(error)
            else:
                if isinstance(resource, LbEndpoint):
                    one.put.add(Member(identifier, resource.endpoint, version))
                    one.ignored.update(resource.ignored)
                    self.outcome.accepted += 1
                    return
                reason = f"decoded to {type(resource).__name__}"
        one.refused[identifier] = reason
        self.outcome.reasons.append(f"{received.name!r}: {reason}")

    def _estranged(self, name: str) -> bool:
        """The server tells changes of members that another server's listing has replaced since (A71)."""
        entry = self.store.get(Key(_KIND, name))
        return name in self.listed and (entry is None or entry.server != self.source.server)

    def _counts(self, name: str) -> bool:
        """A71: a server that comes back takes nothing from another's listing until it has given something itself."""
        entry = self.store.get(Key(_KIND, name))
        free = entry is None or entry.server in {"", FROM_DISK, self.source.server}
        return self.source.in_charge or self.outcome.accepted > 0 or free

    def _entry(self, key: Key) -> Entry:
        self.outcome.heard.add(key)
        return self.store.get(key) or Entry(key)

    def _update(self, key: Key, told: _Told, version: str) -> None:
        entry = self._entry(key)
        known = entry.resource if isinstance(entry.resource, EndpointCollection) else EndpointCollection(key.name)
        whole = told.emptied or key.name not in self.listed
        self.listed.add(key.name)
        removed = told.removed
        if whole and len(known.members):
            removed = {member.id for member in known.members} - {member.id for member in told.put} - told.refused.keys()
        dropped = removed if self.source.keep else removed | told.refused.keys()
        resource = known.updated(told.put, dropped)
        if len(known.members) and not len(resource.members) and self._is_orphan(key.name):
            self._keep(entry)
            return
        refused = {} if whole else dict(known.refused)
        for identifier in (*removed, *(member.id for member in told.put)) if refused else ():
            refused.pop(identifier, None)
        resource = _noted(resource, refused | told.refused, told.ignored)
        words = _words(resource, self.source.server)
        status = EntryStatus.INVALID if words else EntryStatus.PRESENT
        self._put(Entry(key, status, resource, version, words, b"", self.source.server))

    def _is_orphan(self, name: str) -> bool:
        """Whether a collection is in use only by EDS resources that their server has taken away.

        Looks through the store; asked only when a collection loses its last member.
        """
        naming = [
            entry
            for entry in self.store.entries()
            if isinstance(entry.resource, ClusterEndpoints)
            and any(canonical(one.collection) == name for one in entry.resource.localities if one.collection)
        ]
        return bool(naming) and all(entry.status is EntryStatus.ABSENT for entry in naming)

    def _keep(self, entry: Entry) -> None:
        self.listed.discard(entry.key.name)  # the server knows us to have none: what it says next is a listing
        words = f"xDS server {self.source.server} has no endpoints in {entry.key.name!r}, and not what names it"
        self._put(replace(entry, status=EntryStatus.ABSENT, problem=words))

    def _put(self, entry: Entry) -> None:
        known = self.store.get(entry.key)
        self.store.put(entry)
        same = known is not None and known.resource is entry.resource
        if known is None or not same or (known.status, known.problem) != (entry.status, entry.problem):
            self.outcome.changed.add(entry.key)


def _noted(resource: EndpointCollection, refused: Mapping[str, str], ignored: AbstractSet[str]) -> EndpointCollection:
    """Returns the collection with these notes; itself if it has them."""
    if refused == resource.refused and ignored <= set(resource.ignored):
        return resource
    return replace(resource, refused=refused, ignored=tuple(sorted({*resource.ignored, *ignored})))


def _words(resource: EndpointCollection, server: str) -> str:
    """Says what is wrong with a collection, "" if nothing is."""
    if not resource.refused:
        return ""
    shown = [f"{identifier}: {why[:200]}" for identifier, why in list(resource.refused.items())[:_SHOWN]]
    more = len(resource.refused) - len(shown)
    return (
        f"{resource.name!r} from {server}: {len(resource.refused)} of its endpoints are not valid: {'; '.join(shown)}"
        + (f"; and {more} more" if more else "")
    )
