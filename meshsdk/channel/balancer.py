"""Keeps the picker of one cluster right: which endpoints to connect to, which are connected, and the picker over them.

Called by `stack.Target` with each snapshot and by the scope's monitor as connections come and go. It decides nothing
itself: `meshsdk.lb` selects and builds, the pool connects.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from meshsdk.channel.attempt_watch import EndpointWatch
from meshsdk.channel.load_asking import Asked
from meshsdk.channel.outliers import Outliers
from meshsdk.channel.pins import Pins, find
from meshsdk.channel.pool import Pool, PooledBackend
from meshsdk.channel.tallies import Naming, Tallies, naming
from meshsdk.lb.backend import Connectivity
from meshsdk.lb.picker import Failing, Picker, Waiting, build, connect_plan
from meshsdk.lb.selection import Selection, select
from meshsdk.model.endpoints import Endpoint, Health
from meshsdk.model.policy import Maglev, RingHash, WeightedRoundRobin
from meshsdk.model.resources import Locality
from meshsdk.model.snapshot import ResolvedCluster
from meshsdk.xds_client.load_counts import LoadCounts

_SHORTEST_PERIOD = 0.1  # seconds between two askings for load


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all balancers of a scope share. `seed` fixes this client's subset (gRFC A68).

    `clock` gives unix seconds (slow start compares them with `started_at`), `monotonic` seconds that never jump.
    `loads`: where calls are counted. `hurry` has the monitor look soon; called where the lock is not to be had at once.
    `ask` asks endpoints for their load (seconds between two reports) without blocking; False: not now.
    """

    pool: Pool
    local: Locality
    seed: int
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    loads: LoadCounts = field(default_factory=LoadCounts)
    hurry: Callable[[], None] = lambda: None
    ask: Callable[[Sequence[Asked], float], bool] = lambda _asked, _period: False


class ClusterBalancer:
    """One cluster of one target. `outliers`: who of its endpoints is ejected.

    Thread rules: `picker` and `pick` are published by one assignment each and read by any thread; the rest is guarded
    by the scope's lock. `pick` is the picker's own function where a call needs to ask nothing else, else None.
    """

    __slots__ = (
        *(
            "_around",
            "_asks_at",
            "_authority",
            "_backends",
            "_cluster",
            "_naming",
            "_pins",
            "_selection",
            "_tallies",
            "_urge",
        ),
        *("hashes", "outliers", "pick", "picker"),
    )

    def __init__(
        self,
        cluster: ResolvedCluster,
        authority: str,
        around: Surroundings,
        urge: Callable[[], None] = lambda: None,
        *,
        eager: bool,
    ) -> None:
        """`authority` is the :authority of its connections. `eager`: connects now, else at the first `wake`.

        `urge` is called, by any thread, when `refresh` should be called soon; it must not block.
        """
        self._around = around
        self._urge = urge
        self._asks_at = 0.0
        self.outliers = Outliers()
        self._authority = authority
        self._backends: dict[str, PooledBackend] = {}
        self._tallies = Tallies(around.loads)
        self._pins = Pins(around.pool, around.loads, around.monotonic)
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
        self._pins.follow(cluster)
        named, self._naming = self._naming, naming(cluster)
        self.outliers.follow(cluster, self._selection, self._around.monotonic())
        if before is not None and _same_choice(before, self._selection):
            if named != self._naming:
                self._tallies.assign(self._naming, self._selection, self._backends)
            if self.outliers.mark(self._backends):
                self._rebuild()
            else:
                self._watch()
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
        moved |= self.outliers.sweep(now, self._backends)
        pinned = self._pins.look()
        self._ask(now)
        expires = getattr(self.picker, "expires", None)
        if moved or (expires is not None and expires <= self._around.clock()):
            self._rebuild()
            return True
        return pinned

    def at(self, address: str) -> PooledBackend | None:
        """Returns the backend of an endpoint that a session asks for (A55); None if its calls are to go elsewhere.

        It may not be connected yet: then `Backend.state` is IDLE or CONNECTING, and the call waits. Any thread; the
        first call that asks for an endpoint which pickers do not use gets None, and has to `pin` it.
        """
        backend = self._backends.get(address) or self._pins.get(address)
        return backend if backend is not None and self._serves_sessions(backend) else None

    def pin(self, address: str) -> PooledBackend | None:
        """As `at`, and connects to the endpoint if the cluster has it. Called with the scope's lock held."""
        self.wake()
        backend = self._backends.get(address) or self._pins.get(address)
        if backend is None:
            found = find(self._cluster, address)
            if found is None or not self._session_health(found.endpoint.health):
                return None
            backend = self._pins.put(found, self._authority)
        return backend if backend is not None and self._serves_sessions(backend) else None

    def has(self, address: str) -> bool:
        """Tells whether the cluster has an endpoint with this address, of whatever priority and health. Any thread."""
        return find(self._cluster, address) is not None

    def _serves_sessions(self, backend: PooledBackend) -> bool:
        if backend.ejected or backend.state is Connectivity.FAILED:
            return False
        draining = backend.connection.draining and not self._cluster.cluster.lb.draining_sessions
        return not draining and self._session_health(backend.endpoint.health)

    def _session_health(self, health: Health) -> bool:
        return health is Health.HEALTHY or (health is Health.DRAINING and self._cluster.cluster.lb.draining_sessions)

    @property
    def cluster(self) -> ResolvedCluster:
        """The version of the cluster that is in force."""
        return self._cluster

    @property
    def selection(self) -> Selection | None:
        """What this client uses of it; None before the first `wake`. Called with the scope's lock held."""
        return self._selection

    @property
    def backends(self) -> tuple[PooledBackend, ...]:
        """Returns the endpoints of this client's subset. Called with the scope's lock held."""
        return tuple(self._backends.values())

    @property
    def settled(self) -> bool:
        """Whether every connection is up, so that nothing is to be expected soon."""
        return self._pins.settled and all(one.state is Connectivity.READY for one in self._backends.values())

    def close(self, *, cut: bool = False) -> None:
        """Lets go of every connection (`cut`: see `Pool.release`)."""
        for backend in self._backends.values():
            self._around.pool.release(backend.connection, self._around.monotonic(), cut=cut)
        self._backends.clear()
        self._pins.close(cut=cut)
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
        self._watch()
        self.picker = picker = build(self._selection, self._backends, self._around.clock(), random.random)
        self.pick = None
        if isinstance(picker, Picker) and not picker.has_drops and not self.hashes:
            self.pick = cast("Callable[[int | None], PooledBackend]", picker.pick)

    def _watch(self) -> None:
        """Has the ends of attempts reported where somebody goes by them."""
        policy = self._cluster.cluster.lb.policy
        weighing = policy if isinstance(policy, WeightedRoundRobin) else None
        self.outliers.mark(self._backends)
        for address, backend in self._backends.items():
            judged = self.outliers.judged(address)
            if judged is None and weighing is None:
                backend.watch = None
            elif backend.watch is None or not backend.watch.serves(judged, weighing):
                backend.watch = EndpointWatch(backend, judged, self._suspect, weighing, self._around.clock)

    def _ask(self, now: float) -> None:
        """Has connected endpoints asked for their load, where that comes out of band and it is time."""
        policy = self._cluster.cluster.lb.policy
        if not isinstance(policy, WeightedRoundRobin) or not policy.out_of_band or now < self._asks_at:
            return
        connected = [backend for backend in self._backends.values() if backend.state is Connectivity.READY]
        asked = [Asked(one.connection, one.watch) for one in connected if one.watch is not None and one.watch.asks]
        if asked and self._around.ask(asked, policy.oob_period):
            self._asks_at = now + max(policy.oob_period, _SHORTEST_PERIOD)

    def _suspect(self, address: str) -> None:
        self.outliers.suspects.add(address)
        self._urge()


def _is_back(before: Endpoint, after: Endpoint) -> bool:
    """Tells whether the registry's word on an endpoint is newer than its announcement that it drains."""
    went_online = before.health is Health.DRAINING or before.started_at != after.started_at
    return went_online and after.health is not Health.DRAINING


def _same_choice(before: Selection, after: Selection) -> bool:
    return before.groups is after.groups and before.lb == after.lb and before.problems == after.problems
