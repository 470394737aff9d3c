"""Keeps the picker of one cluster right: which endpoints to connect to, which are connected, and the picker over them.

Called by `stack.Target` with each snapshot and by the scope's monitor as connections come and go. It decides nothing
itself: `meshsdk.lb` selects and builds, the pool connects.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from meshsdk.channel.pool import Pool, PooledBackend
from meshsdk.channel.tallies import Naming, Tallies, naming
from meshsdk.lb.backend import Connectivity
from meshsdk.lb.picker import Failing, Picker, Waiting, build, connect_plan
from meshsdk.lb.selection import Selection, select
from meshsdk.model.endpoints import Endpoint, Health
from meshsdk.model.policy import Maglev, RingHash
from meshsdk.model.resources import Locality
from meshsdk.model.snapshot import ResolvedCluster
from meshsdk.xds_client.load_counts import LoadCounts


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all balancers of a scope share. `seed` fixes this client's subset (gRFC A68).

    `clock` gives unix seconds (slow start compares them with `started_at`), `monotonic` seconds that never jump.
    `loads`: where calls are counted.
    """

    pool: Pool
    local: Locality
    seed: int
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    loads: LoadCounts = field(default_factory=LoadCounts)


class ClusterBalancer:
    """One cluster of one target.

    Thread rules: `picker` and `pick` are published by one assignment each and read by any thread; the rest is guarded
    by the scope's lock. `pick` is the picker's own function where a call needs to ask nothing else, else None.
    """

    __slots__ = (
        *("_around", "_authority", "_backends", "_cluster", "_naming", "_selection", "_tallies"),
        *("hashes", "pick", "picker"),
    )

    def __init__(self, cluster: ResolvedCluster, authority: str, around: Surroundings, *, eager: bool) -> None:
        """`authority` is the :authority of its connections. `eager`: connects now, else at the first `wake`."""
        self._around = around
        self._authority = authority
        self._backends: dict[str, PooledBackend] = {}
        self._tallies = Tallies(around.loads)
        self._naming: Naming = ()
        self._selection: Selection | None = None
        self._cluster = cluster
        self.hashes = False
        self.pick: Callable[[int | None], PooledBackend] | None = None
        self.picker: Picker | Waiting | Failing = Waiting(f"cluster {cluster.cluster.name} is not connected yet")
        if eager:
            self._follow(cluster)

    def update(self, cluster: ResolvedCluster) -> None:
        """Takes a version of the cluster: connects to what came, lets go of what left, keeps the rest."""
        if cluster is self._cluster or cluster == self._cluster:  # cheap: what did not change in it is the same object
            return
        if self._selection is None:
            self._cluster = cluster
        else:
            self._follow(cluster)

    def wake(self) -> None:
        """A call is here: connects, if that has not begun."""
        if self._selection is None:
            self._follow(self._cluster)

    def _follow(self, cluster: ResolvedCluster) -> None:
        before = self._selection
        self._cluster = cluster
        self.hashes = isinstance(cluster.cluster.lb.policy, RingHash | Maglev)
        self._selection = select(cluster, self._around.local, self._around.seed, before)
        chosen = self._selection.endpoints
        named, self._naming = self._naming, naming(cluster)
        if before is not None and _same_choice(before, self._selection):
            if named != self._naming:
                self._tallies.assign(self._naming, self._selection, self._backends)
            return  # what changed is outside of this client's subset
        for address in [address for address in self._backends if address not in chosen]:
            self._around.pool.release(self._backends.pop(address).connection, self._around.monotonic())
        for address, backend in self._backends.items():
            if _is_back(backend.endpoint, chosen[address]):
                backend.connection.stays()
            backend.endpoint = chosen[address]
        self._rebuild()

    def refresh(self) -> bool:
        """Looks at the connections and rebuilds the picker if one came or went; returns whether it did."""
        moved = False
        states = {address: backend.connection.probe() for address, backend in self._backends.items()}
        # A peer that announced its end still serves: it is the last resort, for as long as nothing else is connected.
        now = self._around.monotonic()
        leaving = {address for address, backend in self._backends.items() if backend.connection.leaving(now)}
        fresh = any(state is Connectivity.READY and address not in leaving for address, state in states.items())
        for address, state in states.items():
            moved |= self._backends[address].follow(Connectivity.IDLE if fresh and address in leaving else state)
        expires = getattr(self.picker, "expires", None)
        if moved or (expires is not None and expires <= self._around.clock()):
            self._rebuild()
            return True
        return False

    @property
    def settled(self) -> bool:
        """Whether every connection is up, so that nothing is to be expected soon."""
        return all(backend.state is Connectivity.READY for backend in self._backends.values())

    def close(self, *, cut: bool = False) -> None:
        """Lets go of every connection (`cut`: see `Pool.release`)."""
        for backend in self._backends.values():
            self._around.pool.release(backend.connection, self._around.monotonic(), cut=cut)
        self._backends.clear()
        self._tallies.close()

    def _rebuild(self) -> None:
        if self._selection is None:
            return
        for address in connect_plan(self._selection, self._backends):
            if address not in self._backends:
                connection = self._around.pool.acquire(address, self._authority)
                backend = PooledBackend(self._selection.endpoints[address], connection)
                if backend.endpoint.health is not Health.DRAINING:
                    connection.stays()  # another cluster may hold it since before the peer went online again
                backend.follow(connection.probe())
                self._backends[address] = backend
        self._tallies.assign(self._naming, self._selection, self._backends)
        self.picker = picker = build(self._selection, self._backends, self._around.clock(), random.random)
        self.pick = None
        if isinstance(picker, Picker) and not picker.has_drops and not self.hashes:
            self.pick = cast("Callable[[int | None], PooledBackend]", picker.pick)


def _is_back(before: Endpoint, after: Endpoint) -> bool:
    """Tells whether the registry's word on an endpoint is newer than its announcement that it drains."""
    went_online = before.health is Health.DRAINING or before.started_at != after.started_at
    return went_online and after.health is not Health.DRAINING


def _same_choice(before: Selection, after: Selection) -> bool:
    return before.groups is after.groups and before.lb == after.lb and before.problems == after.problems
