"""One call under its plan: through the gates, past the breaker to a backend, and what is told at its end.

Made by the façades for a call whose lane has a plan, in place of `Target.take`. Decides nothing about attempts.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from meshsdk.channel.breakers import Breaker
from meshsdk.channel.plan import CallPlan
from meshsdk.channel.pool import PooledBackend
from meshsdk.channel.sitting import sitting
from meshsdk.channel.stack import Hold, HoldKind, Lane, Metadata, Target
from meshsdk.interceptors.drivers import NOBODY, AioRateLimitClient, Question, RateLimitClient
from meshsdk.interceptors.policies.edits import edited
from meshsdk.interceptors.policies.gate import CallEnd, Consult, GateCall, Passed, Verdict
from meshsdk.interceptors.policies.steps import Reject
from meshsdk.telemetry.port import Sight

if TYPE_CHECKING:
    from collections.abc import Callable

_NO_PLAN = CallPlan()


class Called(NamedTuple):
    """What a call is. `streamed`: its answer is a stream; `single`: its request is not."""

    method: str
    metadata: Metadata | None
    request: object
    channel_id: int
    streamed: bool
    single: bool


class Placed(NamedTuple):
    """Where an attempt goes. `breaker`: that counts it, to be left at its end."""

    lane: Lane
    backend: PooledBackend
    breaker: Breaker | None = None

    def give_back(self) -> None:
        """No attempt will be made."""
        if self.breaker is not None:
            self.breaker.leave()


def unplanned(target: Target, called: Called, avoid: frozenset[str]) -> Placed | Lane | Hold:
    """Steps 1 to 3 for a call that has waited: as `Target.take`, but the bare lane where the lane has a plan."""
    what = called.method, called.metadata, called.request, called.channel_id
    taken = target.take_elsewhere(*what, avoid) if avoid else target.take(*what)
    if isinstance(taken, Hold):
        return taken.lane or taken
    return Placed(*taken)


class Passage:
    """A call's way through its plan.

    Thread rules: `gating` and `place` are run by whoever makes the call's next attempt, one at a time; `end` may come
    from any thread, also while those run: `_lock` guards what it gives back.
    """

    __slots__ = (
        *("_called", "_ended", "_lock", "_passed", "_queued", "_retried", "_sitting", "_table", "_target"),
        *("lane", "metadata", "observed"),
    )

    def __init__(self, target: Target, lane: Lane, called: Called) -> None:
        """`lane` has a plan. `metadata`: what is sent, after the edits. `observed`: told why a call is refused."""
        self.observed: Sight | None = None
        self._sitting = sitting(lane.plan.session if lane.plan else None, called.method, called.metadata)
        self.lane = lane if self._sitting is None else self._sitting.lane(target, lane)
        edits = self.plan.request_edits
        self.metadata: Metadata | None = edited(called.metadata, edits) if edits else called.metadata
        self._called = called
        self._target = target
        routes = target.routes
        self._table = None if routes is None else routes.table
        self._lock = threading.Lock()
        self._passed: list[tuple[Callable[[CallEnd], None], float]] = []
        self._queued: Breaker | None = None
        self._retried: Breaker | None = None
        self._ended = False

    @property
    def plan(self) -> CallPlan:
        """The plan of the lane that the call is in."""
        return self.lane.plan or _NO_PLAN

    def gating(self, deadline: float | None) -> Question[Reject | None]:
        """Leads the call through the gates, in order; returns why it is refused. `deadline`: monotonic seconds."""
        told = tuple(self._called.metadata or ())
        for gate in self.plan.gates:
            now = time.monotonic()
            left = None if deadline is None else deadline - now
            app, streamed = self._target.shared.app, self._called.streamed
            call = GateCall(self._called.method, told, now, left, self.lane.cluster, app, streamed)
            decision = yield from gate.enter(call)
            if isinstance(decision, Reject):
                if self.observed is not None:
                    self.observed.event("reject", {"category": decision.category, "code": decision.code})
                return decision
            self._pass(decision)
        return None

    def _pass(self, passed: Passed) -> None:
        if passed is None:
            return
        with self._lock:
            if not self._ended:
                self._passed.append((passed, time.monotonic()))
                return
        passed(CallEnd("CANCELLED", time.monotonic(), 0.0, self._called.streamed))

    def ask(self, consult: Consult) -> Verdict:
        """Asks the target's rate limit service; blocks."""
        client: RateLimitClient | None = self._target.rate_limits
        return NOBODY if client is None else client.ask(consult)

    async def aask(self, consult: Consult) -> Verdict:
        """As `ask`, in a task."""
        client: AioRateLimitClient | None = self._target.rate_limits
        return NOBODY if client is None else await client.ask(consult)

    def place(self, *, avoid: frozenset[str] = frozenset(), pinned: bool = False) -> Placed | Hold:
        """Step 3: a backend, and room at the breaker of its cluster. `pinned`: an attempt was made, the lane stays."""
        lane = self._lane_in_force(pinned=pinned)
        if isinstance(lane, Hold):
            return lane
        if self._sitting is not None:
            lane = self._sitting.lane(self._target, lane)
        self.lane = lane
        taken = None if self._sitting is None else self._sitting.take(self._target, lane, avoid)
        if taken is None:
            taken = self._target.take_slowly(lane, self.metadata, self._called.channel_id, avoid)
        if isinstance(taken, Hold):
            return self._queue(taken)
        self._unqueue()
        backend = taken[1]
        breaker = self.plan.breakers.get(backend.tally.place.cluster)
        if breaker is not None and not breaker.enter():
            return self._overflow(breaker, f"{breaker.limit} calls run", "max_requests")
        if self._sitting is not None:
            self._sitting.seated(lane, backend)
        return Placed(lane, backend, breaker)

    @property
    def marks_headers(self) -> bool:
        """Whether `headers` gives other headers than it takes."""
        return bool(self.plan.response_edits) or self._sitting is not None

    def headers(self, metadata: Any) -> Any:
        """Returns an answer's first headers after the plan's edits, with the cookie of the call's session."""
        edits = self.plan.response_edits
        found = edited(metadata, edits) if edits else metadata
        return found if self._sitting is None else self._sitting.told(found)

    def _lane_in_force(self, *, pinned: bool) -> Lane | Hold:
        """Returns the call's lane; chosen anew where it is gone, or where routes changed before an attempt was made."""
        routes = self._target.routes
        if routes is None:
            return self._target.hold
        lane = self.lane
        if routes.balancer(lane.cluster) is lane.balancer and (pinned or routes.table is self._table):
            return lane
        self._table = routes.table
        chosen = routes.choose(self._called.method, self._called.metadata, self._called.request)
        return chosen.lane or chosen if isinstance(chosen, Hold) else chosen

    def _queue(self, hold: Hold) -> Hold:
        """Counts a call that begins to wait for a connection."""
        breaker = next(iter(self.plan.breakers.values()), None)
        if breaker is None or hold.kind is not HoldKind.CONNECTING or self._queued is not None:
            return hold
        with self._lock:
            if not self._ended and breaker.queue():
                self._queued = breaker
                return hold
        return self._overflow(breaker, f"{breaker.pending} calls wait", "max_pending_requests")

    def _unqueue(self) -> None:
        with self._lock:
            queued, self._queued = self._queued, None
        if queued is not None:
            queued.unqueue()

    def may_retry(self) -> bool:
        """Asks the breaker for a retry; it counts until `attempted`."""
        breaker = next(iter(self.plan.breakers.values()), None)
        if breaker is None:
            return True
        with self._lock:
            if self._ended or not breaker.retry():
                return False
            self._retried = breaker
            return True

    def attempted(self) -> None:
        """An attempt has ended: if it was a retry, that one is over."""
        with self._lock:
            retried, self._retried = self._retried, None
        if retried is not None:
            retried.retried()

    def end(self, code: str) -> None:
        """The call has ended with a gRPC status, by name; only the first end counts."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            passed, self._passed = self._passed, []
        self._unqueue()
        self.attempted()
        now = time.monotonic()
        for tell, since in passed:
            tell(CallEnd(code, now, now - since, self._called.streamed))

    def _overflow(self, breaker: Breaker, what: str, limit: str) -> Hold:
        if self.observed is not None:
            self.observed.event("reject", {"category": "circuit_breaker", "code": "UNAVAILABLE", "limit": limit})
        words = f"circuit breaker of cluster {breaker.cluster}: {what}, as many as its {limit} lets"
        return Hold(HoldKind.REFUSED, words)
