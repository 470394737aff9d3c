"""One delta ADS stream to an Envoy of this shim, as a state machine: requests and contents come in, responses go out.

Owned by one stream of `server`; no clock, no I/O. Everything is told anew on a new stream: an Envoy keeps what it had
meanwhile, and collections have other names on each stream, because Envoy 1.40 does not say which of their members it
holds (docs/adr/006-collections-renamed-for-envoy.md).

The order is make before break (xDS protocol, "Eventual consistency considerations"): clusters, endpoints, then routes
and listeners once Envoy has taken all of those, then what went. `PATIENCE` bounds each wait: an Envoy that refuses a
cluster never asks for its endpoints.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

from meshsdk.model.endpoints import Endpoint, EndpointMap, Health, changes
from meshsdk.model.resources import ClusterEndpoints, LocalityEndpoints
from meshsdk.shim.xds.contents import (
    CLUSTER,
    ENDPOINTS,
    LB_ENDPOINT,
    LISTENER,
    ROUTE,
    Contents,
    Given,
    Place,
    Request,
    Response,
)
from meshsdk.shim.xds.endpoints import assignment, dialled, lb_endpoint, segment

PATIENCE = 5.0  # seconds
_CHUNK = 2_000  # endpoints in one response
_EMPTY = EndpointMap()
_SOURCES = (CLUSTER, ENDPOINTS, LB_ENDPOINT)  # what routes lead to
_USERS = (LISTENER, ROUTE)


@dataclass(slots=True)
class _Type:
    """What Envoy asked for and holds of one type. `told`: name -> what it was told, as it is compared."""

    wildcard: bool = False
    owed: bool = False  # an answer to the wildcard, even an empty one: Envoy waits for it
    asked: set[str] = field(default_factory=set)
    told: dict[str, object] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)  # from an earlier stream; to be told of if they are gone
    unknown: set[str] = field(default_factory=set)  # asked for, not there: to be answered so
    awaited: set[str] = field(default_factory=set)  # nonces without an answer

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.asked


@dataclass(slots=True)
class _Collection:
    place: Place
    directory: str
    asked: str = ""  # the name by which Envoy asked for it, "" while it has not
    told: EndpointMap | None = None  # None: not answered yet


class DeltaStream:
    """All methods are called by the stream's own thread; `now` in seconds of any one clock."""

    def __init__(self, stream: int, contents: Contents) -> None:
        """`stream`: a number that no other stream of this server has."""
        self.refusals: dict[str, str] = {}  # type -> Envoy's words on the last response that it did not take
        self._prefix = f"xdstp:///envoy.config.endpoint.v3.LbEndpoint/{stream}"
        self._contents = contents
        self._types = {name: _Type() for name in (*_SOURCES, *_USERS)}
        self._collections: dict[Place, _Collection] = {}
        self._directories: dict[str, _Collection] = {}
        self._nonces = itertools.count(1)
        self._numbers = itertools.count(1)
        self._cleaned: Contents | None = None  # what was missing in these was said
        self._patient_until: float | None = None  # while routes, or what went, wait

    def publish(self, contents: Contents) -> None:
        """Envoy is to have this from now on."""
        self._contents = contents

    def deadline(self) -> float | None:
        """When `take` is due without a request: a wait ends then."""
        return self._patient_until

    def receive(self, request: Request) -> None:
        """Takes a request: a subscription, an answer to a response, or both."""
        kind = self._types.get(request.type_url)
        if kind is None:
            return
        if request.nonce in kind.awaited:
            kind.awaited.discard(request.nonce)
            if request.error:
                self.refusals[request.type_url] = request.error
            else:
                self.refusals.pop(request.type_url, None)
        first = not (kind.wildcard or kind.asked or kind.told)
        if request.type_url in (CLUSTER, LISTENER) and first and not request.subscribe and not request.nonce:
            kind.wildcard = kind.owed = True  # the xDS protocol's older form of "*"
        kind.known.update(request.known)
        for name in request.subscribe:
            self._subscribe(request.type_url, kind, name)
        for name in request.unsubscribe:
            self._unsubscribe(request.type_url, kind, name)

    def take(self, now: float) -> list[Response]:
        """Returns what Envoy is to be told now, in order."""
        found = [*self._plain(CLUSTER), *self._endpoints(), *self._members()]
        expired = self._patient_until is not None and now >= self._patient_until
        if expired or self._settled():
            found += [*self._plain(LISTENER), *self._plain(ROUTE)]
            if expired or not any(self._types[name].awaited for name in _USERS):
                found += self._gone()
                self._patient_until = None
                return found
        if self._patient_until is None:
            self._patient_until = now + PATIENCE
        return found

    # -- subscriptions ------------------------------------------------------------------------------------------------

    def _subscribe(self, type_url: str, kind: _Type, name: str) -> None:
        if name == "*":
            kind.wildcard = kind.owed = True
        elif type_url == LB_ENDPOINT:
            collection = self._directories.get(_directory(name))
            if collection is None:
                kind.unknown.add(name)
            else:
                collection.asked, collection.told = name, None
        else:
            kind.asked.add(name)
            kind.told.pop(name, None)  # who asks again is told again
            if name not in self._names(type_url):
                kind.unknown.add(name)

    def _unsubscribe(self, type_url: str, kind: _Type, name: str) -> None:
        if name == "*":
            kind.wildcard = False
        elif type_url == LB_ENDPOINT:
            collection = self._directories.get(_directory(name))
            if collection is not None:
                collection.asked, collection.told = "", None
        else:
            kind.asked.discard(name)
            kind.told.pop(name, None)
        kind.unknown.discard(name)

    def _names(self, type_url: str) -> set[str]:
        return set(self._contents.endpoints if type_url == ENDPOINTS else self._contents.of(type_url))

    # -- what is owed -------------------------------------------------------------------------------------------------

    def _plain(self, type_url: str) -> Iterator[Response]:
        kind = self._types[type_url]
        given = []
        for name, value in self._contents.of(type_url).items():
            if kind.wants(name) and kind.told.get(name) != value:
                kind.told[name] = value
                given.append(Given(name, value))
        if given or kind.owed:
            kind.owed = False
            yield self._response(type_url, given)

    def _endpoints(self) -> Iterator[Response]:
        kind = self._types[ENDPOINTS]
        given = []
        for name in list(kind.asked):
            endpoints = self._contents.endpoints.get(name)
            if endpoints is None:
                continue
            before = kind.told.get(name)
            kind.told[name] = endpoints
            if not isinstance(before, ClusterEndpoints) or _skeleton(before) != _skeleton(endpoints):
                named = [(one, f"{self._collection(name, one).directory}/*") for one in _localities(endpoints)]
                given.append(Given(name, assignment(name, endpoints, named)))
        yield from self._said(ENDPOINTS, given)

    def _members(self) -> Iterator[Response]:
        kind = self._types[LB_ENDPOINT]
        given: list[Given] = []
        removed: list[str] = []
        for collection in list(self._collections.values()):
            if not collection.asked:
                continue
            endpoints = self._map(collection.place)
            if endpoints is None or endpoints is collection.told:  # None: it goes with its cluster or its locality
                continue
            put, gone = changes(collection.told or _EMPTY, endpoints)
            used = [one for one in put if _used(one)]
            members = [Given(f"{collection.directory}/{segment(one.address)}", lb_endpoint(one)) for one in used]
            gone = (*gone, *(one.address for one in put if not _used(one)))
            if collection.told is None and not members:
                # Envoy takes an empty response for an answer to wildcards only, and would keep the cluster warming.
                removed.append(collection.asked)
            given += members
            removed += [f"{collection.directory}/{segment(one)}" for one in gone if _held(collection, one)]
            collection.told = endpoints
        removed += kind.unknown
        kind.unknown = set()
        while len(given) > _CHUNK:
            yield self._response(LB_ENDPOINT, given[:_CHUNK])
            del given[:_CHUNK]
        yield from self._said(LB_ENDPOINT, given, removed)

    def _gone(self) -> Iterator[Response]:
        """What is there no more, users first."""
        asked = any(kind.known or kind.unknown for kind in self._types.values())
        if self._contents is self._cleaned and not asked:
            return
        self._cleaned = self._contents
        for type_url in (*_USERS, CLUSTER, ENDPOINTS):
            kind = self._types[type_url]
            names = self._names(type_url)
            gone = {name for name in (*kind.told, *kind.known, *kind.unknown) if name not in names}
            for name in gone:
                kind.told.pop(name, None)
            kind.known = set()
            kind.unknown = set()
            yield from self._said(type_url, [], sorted(gone))
        for collection in list(self._collections.values()):
            if not collection.asked and self._map(collection.place) is None:
                del self._collections[collection.place], self._directories[collection.directory]

    def _said(self, type_url: str, given: list[Given], removed: list[str] | None = None) -> Iterator[Response]:
        if given or removed:
            yield self._response(type_url, given, removed)

    def _response(self, type_url: str, given: list[Given], removed: list[str] | None = None) -> Response:
        nonce = str(next(self._nonces))
        self._types[type_url].awaited.add(nonce)
        return Response(type_url, nonce, tuple(given), tuple(removed or ()))

    # -- whether Envoy has what routes may lead to --------------------------------------------------------------------

    def _settled(self) -> bool:
        if any(self._types[name].awaited for name in _SOURCES):
            return False
        clusters, endpoints = self._types[CLUSTER], self._types[ENDPOINTS]
        for name, known in self._contents.endpoints.items():
            if name not in clusters.told:
                continue
            if name not in endpoints.told:
                return False
            if any(not self._collection(name, one).asked for one in known.localities):
                return False
        return True

    # -- collections --------------------------------------------------------------------------------------------------

    def _collection(self, cluster: str, group: LocalityEndpoints) -> _Collection:
        place = Place(cluster, group.locality, group.priority)
        known = self._collections.get(place)
        if known is None:
            known = _Collection(place, f"{self._prefix}/{next(self._numbers)}")
            self._collections[place] = self._directories[known.directory] = known
        return known

    def _map(self, place: Place) -> EndpointMap | None:
        endpoints = self._contents.endpoints.get(place.cluster)
        for group in endpoints.localities if endpoints else ():
            if (group.locality, group.priority) == (place.locality, place.priority):
                return group.endpoints
        return None


def _skeleton(endpoints: ClusterEndpoints) -> object:
    """Returns what an EDS resource says besides the endpoints themselves."""
    groups = tuple((one.locality, one.priority, one.weight) for one in _localities(endpoints))
    return (groups, endpoints.drops, endpoints.overprovisioning)


def _used(endpoint: Endpoint) -> bool:
    """Tells whether Envoy is to have an endpoint.

    A draining one it is not: with more than half of them draining it would be in panic and call those too. Calls that
    run there finish; Envoy closes a connection to an endpoint that is gone when nothing runs on it.
    """
    return endpoint.health is not Health.DRAINING and dialled(endpoint.address)


def _localities(endpoints: ClusterEndpoints) -> list[LocalityEndpoints]:
    """Returns the localities, without the weight of one that is alone in its priority.

    It is the sum of its endpoints' as a rule, and would have each change of one bring a new EDS resource for nothing.
    """
    counts = collections.Counter(one.priority for one in endpoints.localities)
    return [one if counts[one.priority] > 1 else replace(one, weight=1) for one in endpoints.localities]


def _held(collection: _Collection, address: str) -> bool:
    """Tells whether Envoy was told of an endpoint."""
    before = collection.told.get(address) if collection.told is not None else None
    return before is not None and _used(before)


def _directory(name: str) -> str:
    """Returns the directory of a glob, whichever way Envoy wrote it."""
    return unquote(name.partition("?")[0]).removesuffix("/*")
