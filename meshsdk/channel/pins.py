"""Endpoints that sessions ask for by name (gRFC A55) and that this client's pickers do not use.

They are outside of its subset, of a priority that is not needed, or drain. Owned by a `ClusterBalancer`; they are
connected to when a call first asks for them, and let go of once no call has for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from meshsdk.channel.pool import Pool, PooledBackend
from meshsdk.channel.tallies import place_of
from meshsdk.lb.backend import Connectivity
from meshsdk.model.endpoints import Endpoint
from meshsdk.model.resources import Locality
from meshsdk.model.snapshot import Leaf, ResolvedCluster
from meshsdk.xds_client.load_counts import LoadCounts

_MOST = 100  # connections that sessions may ask for, of one cluster
_UNUSED = 60.0  # seconds without a call after which one is let go


class Found(NamedTuple):
    """An endpoint in the configuration of a cluster, and where it is in it."""

    endpoint: Endpoint
    leaf: Leaf
    locality: Locality


def find(cluster: ResolvedCluster, address: str) -> Found | None:
    """Returns the endpoint with this address, of whatever leaf, priority and health; None if there is none."""
    for leaf in cluster.leaves:
        for members in leaf.endpoints.localities if leaf.endpoints is not None else ():
            endpoint = members.endpoints.get(address)
            if endpoint is not None:
                return Found(endpoint, leaf, members.locality)
    return None


class Pins:
    """Backends by address, beside those of the pickers.

    Thread rules: guarded by the scope's lock, but for `get`, which any thread calls: it reads and writes one entry.
    """

    __slots__ = ("_backends", "_clock", "_loads", "_pool", "_used")

    def __init__(self, pool: Pool, loads: LoadCounts, clock: Callable[[], float]) -> None:
        """`clock`: monotonic seconds."""
        self._pool = pool
        self._loads = loads
        self._clock = clock
        self._backends: dict[str, PooledBackend] = {}
        self._used: dict[str, float] = {}

    def get(self, address: str) -> PooledBackend | None:
        """Returns the endpoint's backend, if it is pinned, and notes that a call asked for it."""
        backend = self._backends.get(address)
        if backend is not None:
            self._used[address] = self._clock()
        return backend

    def put(self, found: Found, authority: str) -> PooledBackend | None:
        """Connects to an endpoint; None if as many as may be are pinned already."""
        address = found.endpoint.address
        if len(self._backends) >= _MOST:
            return None
        backend = PooledBackend(found.endpoint, self._pool.acquire(address, authority))
        backend.tally = self._loads.acquire(place_of(found.leaf, found.locality))
        backend.follow(backend.connection.probe())
        self._used[address] = self._clock()
        self._backends[address] = backend
        return backend

    def follow(self, cluster: ResolvedCluster) -> None:
        """Takes a version of the cluster: lets go of endpoints that it does not have any more."""
        for address, backend in list(self._backends.items()):
            found = find(cluster, address)
            if found is None:
                self._let_go(address)
            else:
                backend.endpoint = found.endpoint

    def look(self) -> bool:
        """Follows the connections and lets go of unused ones; returns whether one came up or went."""
        now, moved = self._clock(), False
        for address, backend in list(self._backends.items()):
            if now - self._used.get(address, now) >= _UNUSED and not backend.in_flight:
                self._let_go(address)
            else:
                moved |= backend.follow(backend.connection.probe())
        return moved

    @property
    def settled(self) -> bool:
        """Whether every connection is up."""
        return all(backend.state is Connectivity.READY for backend in self._backends.values())

    def __iter__(self) -> Iterator[PooledBackend]:
        return iter(self._backends.values())

    def close(self, *, cut: bool) -> None:
        """Lets go of all (`cut`: see `Pool.release`)."""
        for address in list(self._backends):
            self._let_go(address, cut=cut)

    def _let_go(self, address: str, *, cut: bool = False) -> None:
        backend = self._backends.pop(address)
        self._used.pop(address, None)
        self._loads.release(backend.tally)
        self._pool.release(backend.connection, self._clock(), cut=cut)
