"""A LEDS collection: the endpoints of one locality, each of them an xDS resource of its own.

Kept by the xDS client's store, put into its cluster's endpoints by `resolve`. A change of one member costs that member,
whatever the size. Specs: envoy.config.endpoint.v3.LedsClusterLocalityConfig; xRFC TP1 (glob collections).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, cast

from meshsdk.model.buckets import Buckets, spread, updated
from meshsdk.model.endpoints import Endpoint, EndpointMap

_Item = str | Endpoint | None
_ITEMS = 3  # of one member


class Member(NamedTuple):
    """One resource of a collection: `id` is the last segment of its name, as it stands there."""

    id: str
    endpoint: Endpoint
    version: str


class _Form:
    """A bucket holds three items for each member, so that 100,000 of them cost no objects of their own.

    The id is None where it is the percent-encoded address, and the address's own string where it is equal to that.
    """

    @staticmethod
    def key(entry: Member) -> str:
        return entry.id

    @staticmethod
    def packed(entries: Iterable[Member]) -> tuple[_Item, ...]:
        items: list[_Item] = []
        for identifier, endpoint, version in entries:
            address = endpoint.address
            if identifier == _encoded(address):
                items += (None, endpoint, version)
            else:
                items += (address if identifier == address else identifier, endpoint, version)
        return tuple(items)

    @staticmethod
    def unpacked(bucket: tuple[_Item, ...]) -> dict[str, Member]:
        return {member.id: member for member in _members(bucket)}


def _members(bucket: Iterable[_Item]) -> Iterator[Member]:
    items = iter(bucket)
    for identifier, endpoint, version in cast(
        "Iterator[tuple[str | None, Endpoint, str]]", zip(items, items, items, strict=True)
    ):
        yield Member(_encoded(endpoint.address) if identifier is None else identifier, endpoint, version)


def _encoded(address: str) -> str:
    """Returns an IP address and port as a segment of a name (RFC 3986); a fraction of the cost of `urllib`'s."""
    return address.replace(":", "%3A").replace("[", "%5B").replace("]", "%5D")


class Arrivals(Collection[Member]):
    """Members as they come in by the ten thousand, kept as a bucket keeps them. Owned by whoever fills it."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: list[_Item] = []

    def add(self, member: Member) -> None:
        """Adds a member; of two with one id the last counts for whoever takes them over."""
        self._items += _Form.packed((member,))

    def __len__(self) -> int:
        return len(self._items) // _ITEMS

    def __iter__(self) -> Iterator[Member]:
        return _members(self._items)

    def __contains__(self, member: object) -> bool:
        return any(one == member for one in self)


@dataclass(frozen=True, slots=True)
class Members:
    """Members by id. Iteration order is unspecified but the same for the same value."""

    _buckets: Buckets[_Item] = field(default_factory=Buckets)
    _size: int = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Member]:
        for bucket in self._buckets:
            yield from _members(bucket)

    def endpoints(self) -> Iterator[Endpoint]:
        """Yields the endpoint of every member."""
        for bucket in self._buckets:
            yield from cast("tuple[Endpoint, ...]", bucket[1::_ITEMS])

    def get(self, identifier: str) -> Member | None:
        """Returns the member with this id, or None."""
        return _Form.unpacked(self._buckets.of(identifier)).get(identifier)

    def updated(self, put: Collection[Member], removed: Iterable[str]) -> Members:
        """Returns the members with the ids `removed` gone and then `put` added or replaced."""
        if not self._size and put:
            return Members(*spread(put, len(put), _Form))
        buckets, size = updated(self._buckets, self._size, _Form, put, removed)
        return self if buckets is self._buckets else Members(buckets, size)

    def changes_from(self, older: Members) -> tuple[list[Member], list[str]]:
        """Returns (members added or replaced, ids removed) since `older`, at the cost of what changed."""
        if len(older._buckets) == len(self._buckets):
            pairs = older._buckets.differing(self._buckets)
        else:
            pairs = [
                (tuple(item for one in older._buckets for item in one), tuple(i for one in self._buckets for i in one))
            ]
        put: list[Member] = []
        removed: list[str] = []
        for before, after in pairs:
            was, now = _Form.unpacked(before), _Form.unpacked(after)
            put += [member for identifier, member in now.items() if was.get(identifier) != member]
            removed += was.keys() - now.keys()
        return put, removed


def _nothing() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class EndpointCollection:
    """The collection `name` (`xdstp:.../*`), as far as its resources were good.

    `endpoints` stays the same object while none of them changes. Members that share an address are one endpoint, as
    in Envoy. `refused`: why the present resource of a member is not in force, by id; its last good one counts.
    `ignored`: paths without effect here that any of the resources has set so far.
    """

    name: str
    endpoints: EndpointMap = field(default_factory=EndpointMap)
    members: Members = field(default_factory=Members, compare=False, repr=False)
    refused: Mapping[str, str] = field(default_factory=_nothing)
    ignored: tuple[str, ...] = ()

    def updated(self, put: Collection[Member], removed: Collection[str] = ()) -> EndpointCollection:
        """Returns the collection without the ids `removed`, and then with `put` added or replaced."""
        if not len(self.members):
            if not len(put):
                return self
            members = self.members.updated(put, ())
            endpoints = EndpointMap.of(members.endpoints())
            return EndpointCollection(self.name, endpoints, members, self.refused, self.ignored)
        latest = {member.id: self._shared(member) for member in put}
        members = self.members.updated(latest.values(), removed)
        if members is self.members:
            return self
        known = map(self.members.get, (*removed, *latest))
        leaving = {member.endpoint.address for member in known if member is not None}
        arriving = {member.endpoint.address: member.endpoint for member in latest.values()}
        leaving -= arriving.keys()
        if leaving and len(self.members) > len(self.endpoints):  # perhaps another member has the same address
            arriving |= {one.address: one for one in members.endpoints() if one.address in leaving}
            leaving -= arriving.keys()
        fresh = [endpoint for endpoint in arriving.values() if self.endpoints.get(endpoint.address) != endpoint]
        endpoints = self.endpoints.updated(fresh, leaving) if fresh or leaving else self.endpoints
        return EndpointCollection(self.name, endpoints, members, self.refused, self.ignored)

    def _shared(self, member: Member) -> Member:
        known = self.endpoints.get(member.endpoint.address)
        return member._replace(endpoint=known) if known is not None and known == member.endpoint else member

    def versions(self) -> Iterator[tuple[str, str]]:
        """Yields (full name, version) of every member, for `initial_resource_versions`.

        "" for a member whose present resource was refused, and so is to be sent again.
        """
        base, mark, parameters = self.name.partition("?")
        prefix = base.removesuffix("*")
        for member in self.members:
            if member.id not in self.refused:
                yield f"{prefix}{member.id}{mark}{parameters}", member.version
        for identifier in self.refused:
            yield f"{prefix}{identifier}{mark}{parameters}", ""


@dataclass(frozen=True, slots=True)
class LbEndpoint:
    """One resource of a collection as the codec reads it. Its name is in the envelope only, so `name` is empty."""

    endpoint: Endpoint
    ignored: tuple[str, ...] = ()
    name: str = ""
