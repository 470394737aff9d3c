"""What one ADS stream has been told and what must be said next: nonces, names, versions. Pure.

One object lives as long as one stream and is owned by its `ServerLink`. Two classes with the same methods, one for each
variant of the protocol (xDS protocol, "ACK/NACK and resource type instance version", "Incremental xDS").

A type with nothing wanted is never mentioned first on a stream: an empty first request would ask for everything
(the wildcard), and this client always asks by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Protocol

from meshsdk.model.resources import Kind
from meshsdk.xds_client.messages import DeltaRequest, Request, Response, SotwRequest

# Clusters before endpoints and listeners before routes: the order in which the protocol text makes changes safe.
_SOTW = (Kind.CLUSTER, Kind.ENDPOINTS, Kind.LISTENER, Kind.ROUTE, Kind.RUNTIME)
_DELTA = (Kind.CLUSTER, Kind.ENDPOINTS, Kind.LB_ENDPOINTS, Kind.LISTENER, Kind.ROUTE, Kind.RUNTIME)

Wanted = Mapping[Kind, AbstractSet[str]]


class Subscription(Protocol):
    """What a stream's bookkeeping does for the machine."""

    def knows(self, kind: Kind) -> bool:
        """Says whether this type was ever asked for on this stream."""

    def requests(self, wanted: Wanted) -> Iterator[tuple[Request, AbstractSet[str]]]:
        """Yields the requests that bring the server's view to `wanted`, each with the names that are new in it."""

    def answer(self, kind: Kind, response: Response, error: str, wanted: Wanted) -> tuple[Request, AbstractSet[str]]:
        """Returns the ACK, or with `error` the NACK, of a response, and the names that are new in it."""


@dataclass(slots=True)
class _SotwType:
    names: frozenset[str] = frozenset()  # as last sent
    nonce: str = ""
    version: str = ""


@dataclass(slots=True)
class SotwSubscription:
    """State of the world: each request carries all names of its type, the newest nonce and the last good version.

    `versions` outlives the stream (owned by the link): the last version accepted from this server for each type.
    """

    versions: dict[Kind, str]
    held: Mapping[Kind, AbstractSet[str]]
    _types: dict[Kind, _SotwType] = field(default_factory=dict)

    def knows(self, kind: Kind) -> bool:
        """Says whether this type was ever asked for on this stream."""
        return kind in self._types

    def requests(self, wanted: Wanted) -> Iterator[tuple[Request, AbstractSet[str]]]:
        """Yields one request for each type whose names differ from those last sent; collections cannot be asked for."""
        for kind in _SOTW:
            names = wanted[kind]
            if names != (self._types[kind].names if kind in self._types else frozenset()):
                yield self._request(kind, names, "")

    def answer(self, kind: Kind, response: Response, error: str, wanted: Wanted) -> tuple[Request, AbstractSet[str]]:
        """ACKs with the response's version, or NACKs with the last good one; carries a change of names along."""
        state = self._types[kind]
        state.nonce = response.nonce
        if not error:
            state.version = self.versions[kind] = response.version
        return self._request(kind, wanted[kind], error)

    def _request(self, kind: Kind, names: AbstractSet[str], error: str) -> tuple[SotwRequest, AbstractSet[str]]:
        with_node = not self._types
        state = self._types.get(kind)
        if state is None:
            state = self._types[kind] = _SotwType()
            # After a reconnect the version tells the server what we have, and it may then stay silent; so it is only
            # said when this server gave us every resource that we ask for.
            if names <= self.held[kind]:
                state.version = self.versions.get(kind, "")
        new = names - state.names
        state.names = frozenset(names)
        request = SotwRequest(kind.value, tuple(sorted(names)), state.version, state.nonce, error, with_node)
        return request, new


@dataclass(slots=True)
class DeltaSubscription:
    """Incremental: requests carry changes of the subscription only, and ACKs carry nothing but the nonce.

    `initial` holds, for each type, the versions of what this server has given us on an earlier stream: of collections
    those of the members, by the members' names.
    """

    initial: Mapping[Kind, Mapping[str, str]]
    _names: dict[Kind, set[str]] = field(default_factory=dict)

    def knows(self, kind: Kind) -> bool:
        """Says whether this type was ever asked for on this stream."""
        return kind in self._names

    def requests(self, wanted: Wanted) -> Iterator[tuple[Request, AbstractSet[str]]]:
        """Yields one request for each type whose names changed; a type's first one has `initial_resource_versions`."""
        for kind in _DELTA:
            known = self._names.get(kind, set())
            names = wanted[kind]
            if known == names:
                continue
            added, dropped = names - known, known - names
            initial = None if kind in self._names else self.initial.get(kind)
            request = DeltaRequest(
                kind.value, tuple(sorted(added)), tuple(sorted(dropped)), initial, with_node=not self._names
            )
            self._names[kind] = set(names)
            yield request, added

    def answer(self, kind: Kind, response: Response, error: str, wanted: Wanted) -> tuple[Request, AbstractSet[str]]:
        """ACKs or NACKs by nonce; `wanted` is not looked at, changes of it go by `requests`."""
        del wanted
        return DeltaRequest(kind.value, nonce=response.nonce, error=error), frozenset()
