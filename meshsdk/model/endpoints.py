"""Endpoints, and the persistent map that holds them.

A set of 100,000 endpoints in which one changes must cost one change: `EndpointMap.updated` copies one bucket and the
outer tuple, `changes` compares buckets by identity. Both values are frozen, so readers need no lock.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_BUCKET = 32  # aimed-at endpoints per bucket; the outer tuple of 100k endpoints then holds 4,096 buckets


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


@dataclass(frozen=True, slots=True)
class EndpointMap:
    """Endpoints keyed by address. Iteration order is unspecified but the same for the same value."""

    _buckets: tuple[tuple[Endpoint, ...], ...] = ((),)
    _size: int = 0

    @classmethod
    def of(cls, endpoints: Iterable[Endpoint]) -> EndpointMap:
        """Builds a map; of endpoints with one address the last wins."""
        unique = {endpoint.address: endpoint for endpoint in endpoints}
        return cls._spread(unique.values(), len(unique))

    @classmethod
    def _spread(cls, endpoints: Iterable[Endpoint], size: int) -> EndpointMap:
        count = 1
        while count * _BUCKET < size:
            count *= 2
        buckets: list[list[Endpoint]] = [[] for _ in range(count)]
        for endpoint in endpoints:
            buckets[hash(endpoint.address) & (count - 1)].append(endpoint)
        return cls(tuple(map(tuple, buckets)), size)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Endpoint]:
        for bucket in self._buckets:
            yield from bucket

    def get(self, address: str) -> Endpoint | None:
        """Returns the endpoint with this address, or None."""
        for endpoint in self._buckets[hash(address) & (len(self._buckets) - 1)]:
            if endpoint.address == address:
                return endpoint
        return None

    def updated(self, put: Iterable[Endpoint] = (), removed: Iterable[str] = ()) -> EndpointMap:
        """Returns a map with `put` added or replaced and the addresses `removed` gone; unknown ones are no error.

        Costs a bucket copy per touched endpoint and one copy of the outer tuple; a map that doubled is spread anew.
        """
        mask = len(self._buckets) - 1
        touched: dict[int, dict[str, Endpoint]] = {}

        def bucket(address: str) -> dict[str, Endpoint]:
            index = hash(address) & mask
            if index not in touched:
                touched[index] = {endpoint.address: endpoint for endpoint in self._buckets[index]}
            return touched[index]

        size = self._size
        for address in removed:
            size -= bucket(address).pop(address, None) is not None
        for endpoint in put:
            entries = bucket(endpoint.address)
            size += endpoint.address not in entries
            entries[endpoint.address] = endpoint
        if not touched:
            return self
        buckets = list(self._buckets)
        for index, entries in touched.items():
            buckets[index] = tuple(entries.values())
        if size > 2 * _BUCKET * len(buckets) or size * 4 < _BUCKET * len(buckets) > _BUCKET:
            return self._spread((endpoint for entries in buckets for endpoint in entries), size)
        return EndpointMap(tuple(buckets), size)


def changes(old: EndpointMap, new: EndpointMap) -> tuple[tuple[Endpoint, ...], tuple[str, ...]]:
    """Returns (endpoints added or replaced, addresses removed) that lead from `old` to `new`.

    Costs the number of buckets plus the changed buckets when `new` came from `old.updated`; else both sizes.
    """
    if old is new:
        return (), ()
    if len(old._buckets) == len(new._buckets):
        pairs = [(a, b) for a, b in zip(old._buckets, new._buckets, strict=True) if a is not b]
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
