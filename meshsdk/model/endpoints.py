"""Endpoints, and the persistent map that holds them.

A set of 100,000 endpoints in which one changes must cost one change: versions share their buckets (`buckets`), and
`changes` compares those by identity. All values are frozen, so readers need no lock.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from meshsdk.model.buckets import Buckets, spread, updated


class Health(enum.Enum):
    """envoy.config.core.v3.HealthStatus as far as picking cares (A27: only UNKNOWN and HEALTHY are usable)."""

    HEALTHY = "healthy"  # HEALTHY and UNKNOWN
    DRAINING = "draining"  # no new calls; running calls finish
    UNHEALTHY = "unhealthy"  # UNHEALTHY, TIMEOUT
    DEGRADED = "degraded"  # used only when no healthy endpoint is left


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address: `ip:port`, `[v6]:port`, `unix:path` or `dns:///host:port`, as gRPC dials it.

    `weight` >= 1, relative to the endpoints beside it. `started_at`: unix seconds when the instance came up, for
    slow start; 0.0 where the source does not say. `hash_key`: A76 ring position key, "" for the address itself.
    """

    address: str
    weight: int = 1
    health: Health = Health.HEALTHY
    started_at: float = 0.0
    hash_key: str = ""


class _Form:
    """An `EndpointMap` keeps the endpoints themselves, keyed by address."""

    @staticmethod
    def key(entry: Endpoint) -> str:
        return entry.address

    @staticmethod
    def packed(entries: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
        return tuple(entries)

    @staticmethod
    def unpacked(bucket: tuple[Endpoint, ...]) -> dict[str, Endpoint]:
        return {endpoint.address: endpoint for endpoint in bucket}


@dataclass(frozen=True, slots=True)
class EndpointMap:
    """Endpoints keyed by address. Iteration order is unspecified but the same for the same value."""

    _buckets: Buckets[Endpoint] = field(default_factory=Buckets)
    _size: int = 0

    @classmethod
    def of(cls, endpoints: Iterable[Endpoint]) -> EndpointMap:
        """Builds a map; of endpoints with one address the last wins."""
        unique = {endpoint.address: endpoint for endpoint in endpoints}
        return cls(*spread(unique.values(), len(unique), _Form))

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Endpoint]:
        for bucket in self._buckets:
            yield from bucket

    def get(self, address: str) -> Endpoint | None:
        """Returns the endpoint with this address, or None."""
        for endpoint in self._buckets.of(address):
            if endpoint.address == address:
                return endpoint
        return None

    def updated(self, put: Iterable[Endpoint] = (), removed: Iterable[str] = ()) -> EndpointMap:
        """Returns a map with `put` added or replaced and the addresses `removed` gone; unknown ones are no error.

        Costs what is put and removed, whatever the size; a map that doubled is spread anew.
        """
        buckets, size = updated(self._buckets, self._size, _Form, put, removed)
        return self if buckets is self._buckets else EndpointMap(buckets, size)


def changes(old: EndpointMap, new: EndpointMap) -> tuple[tuple[Endpoint, ...], tuple[str, ...]]:
    """Returns (endpoints added or replaced, addresses removed) that lead from `old` to `new`.

    Costs what changed when `new` came from `old.updated`; else both sizes.
    """
    if old is new:
        return (), ()
    if len(old._buckets) == len(new._buckets):
        pairs = old._buckets.differing(new._buckets)
    else:
        pairs = [(tuple(old), tuple(new))]
    put: list[Endpoint] = []
    removed: list[str] = []
    for before, after in pairs:
        was = {endpoint.address: endpoint for endpoint in before}
        for endpoint in after:
            known = was.pop(endpoint.address, None)
            if known is not endpoint and known != endpoint:
                put.append(endpoint)
        removed.extend(was)
    return tuple(put), tuple(removed)
