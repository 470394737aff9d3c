"""LEDS collections of targets that are no longer configured: left in the cache while clients still ask for them.

Owned by `endpoint_sets`. A client keeps a cluster or an EDS resource that its server took away (gRFC A88), but a member
that leaves a collection is an endpoint that went. Told of it, a client that still follows the old routes would be left
with none. So what such a collection had stays as it was until nobody asks for it: those who follow the new routes no
longer do. Knows no rosters, and follows no instances.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from controlplane.server.type_urls import LB_ENDPOINT
from controlplane.snapshot import ResourceCache
from controlplane.translate.roster import Single


class WithdrawnCollections:
    """Mutable; guarded by the lock of its owner's owner."""

    def __init__(self, cache: ResourceCache) -> None:
        self._cache = cache
        self._members: dict[str, dict[str, set[str]]] = {}  # by target: key of the collection -> names in it
        self._idle: frozenset[str] = frozenset()  # keys that nobody asked for at the last look

    def leave(self, target: str, singles: Iterable[Single]) -> None:
        """Takes charge of what the cache has of a target."""
        members: dict[str, set[str]] = {}
        for single in singles:
            members.setdefault(single.collection, set()).add(single.name)
        if members:
            self._members[target] = members

    def take(self, target: str) -> set[str]:
        """Returns the names of what was left of a target that came back; they are the caller's matter now."""
        return set().union(*self._members.pop(target, {}).values())

    def keys(self) -> frozenset[str]:
        """Returns the keys of the collections that are left."""
        return frozenset().union(*self._members.values())

    def release(self, asked: Collection[str]) -> None:
        """Deletes the collections that are not `asked` for, the second time that it is so: clients come back."""
        idle = self.keys().difference(asked)
        over, self._idle = idle & self._idle, idle
        if not over:
            return
        gone: set[str] = set()
        for target, members in list(self._members.items()):
            for key in over & members.keys():
                gone |= members.pop(key)
            if not members:
                del self._members[target]
        self._cache.delete(LB_ENDPOINT, gone)
