"""Circuit breakers: how many calls, waits and retries run at once in one cluster, and whether one more may.

One breaker for each cluster and priority of a mesh, shared by all its targets, threads and event loops (gRFC A32 counts
in the whole process). Made when a plan is compiled, asked by `passage`; clusters without `circuit_breakers` have none.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator

from meshsdk.model.policy import CircuitBreakers

_REQUESTS = _PENDING = 1024  # the defaults of envoy.config.cluster.v3.CircuitBreakers.Thresholds, and of A32
_RETRIES = 3
_NO_LIMIT = 2**31 - 1  # from here on no process gets there; Istio writes 4294967295 for "not limited"


def limits_nothing(limits: CircuitBreakers) -> bool:
    """Tells whether these limits are so high that no call ever meets one."""
    given = (limits.max_requests, limits.max_pending_requests, limits.max_retries)
    return limits.retry_budget is None and all(limit is not None and limit >= _NO_LIMIT for limit in given)


class Breaker:
    """The calls of one cluster and priority.

    Thread rules: everything is guarded by `_lock`; single numbers may be read without it.
    `refused`: calls and retries that were not made because of it, since the process started.
    """

    __slots__ = ("__weakref__", "_limits", "_lock", "_retries", "cluster", "high", "pending", "refused", "running")

    def __init__(self, cluster: str, limits: CircuitBreakers, *, high: bool) -> None:
        """`high`: of HIGH priority."""
        self.cluster = cluster
        self.high = high
        self.running = 0
        self.pending = 0
        self.refused = 0
        self._retries = 0
        self._limits = limits
        self._lock = threading.Lock()

    def limit_by(self, limits: CircuitBreakers) -> None:
        """Takes new limits; what runs goes on."""
        self._limits = limits

    @property
    def limit(self) -> int:
        """How many attempts may run at once."""
        return _REQUESTS if self._limits.max_requests is None else self._limits.max_requests

    @property
    def open(self) -> bool:
        """Whether the next call would be refused."""
        return self.running >= self.limit

    @property
    def retries(self) -> int:
        """How many retries wait for their time or run."""
        return self._retries

    @property
    def retry_limit(self) -> int:
        """How many retries may run at once: `max_retries`, or what the budget makes of the calls that run now."""
        budget = self._limits.retry_budget
        if budget is not None:
            return max(budget.min_concurrency, int(budget.share * (self.running + self.pending)))
        return _RETRIES if self._limits.max_retries is None else self._limits.max_retries

    def enter(self) -> bool:
        """An attempt wants to begin; False: it must not. Else `leave` follows at its end."""
        with self._lock:
            if self.running >= self.limit:
                self.refused += 1
                return False
            self.running += 1
            return True

    def leave(self) -> None:
        """An attempt has ended."""
        with self._lock:
            self.running -= 1

    def queue(self) -> bool:
        """A call wants to wait for a connection; False: it must not. Else `unqueue` follows."""
        most = self._limits.max_pending_requests
        with self._lock:
            if self.pending >= (_PENDING if most is None else most):
                self.refused += 1
                return False
            self.pending += 1
            return True

    def unqueue(self) -> None:
        """A call waits no more."""
        with self._lock:
            self.pending -= 1

    def retry(self) -> bool:
        """A call wants to retry; False: it must not. Else `retried` follows when that attempt has ended."""
        with self._lock:
            if self._retries >= self.retry_limit:
                self.refused += 1
                return False
            self._retries += 1
            return True

    def retried(self) -> None:
        """A retry has ended, or will not be made."""
        with self._lock:
            self._retries -= 1


class Breakers:
    """The breakers of a mesh, each as long as a plan in force or a running call has it. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: weakref.WeakValueDictionary[tuple[str, bool], Breaker] = weakref.WeakValueDictionary()

    def of(self, cluster: str, limits: CircuitBreakers, *, high: bool) -> Breaker:
        """Returns the breaker of a cluster, with these limits from now on."""
        with self._lock:
            breaker = self._known.get((cluster, high))
            if breaker is None:
                breaker = self._known[cluster, high] = Breaker(cluster, limits, high=high)
            else:
                breaker.limit_by(limits)
            return breaker

    def __iter__(self) -> Iterator[Breaker]:
        """Yields those in force, for metrics and `explain`."""
        with self._lock:
            return iter(list(self._known.values()))
