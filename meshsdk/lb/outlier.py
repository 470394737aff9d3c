"""Outlier detection: which endpoints of a cluster are taken out for a while, for failing more than they should. Pure.

envoy.config.cluster.v3.OutlierDetection, gRFC A50. One `Detector` for each cluster that has a policy, kept by the
channel layer, which hands in the time. Streaks of failures eject at once; rates are judged at the end of each
`interval`. How statuses count: `attempt_counts`.

Where Envoy and gRPC differ, and what is done here:
- How many may be out at once: `max_ejection_percent` of the endpoints, rounded down, but one in any case where there
  are two or more (as gRPC; Envoy since 1.31 only with `always_eject_one_host`). Never the only endpoint, unless the
  percentage is 100 or `always_eject_one_host` is set.
- An endpoint comes back when its time is over, not at the sweep after that.
- `enforcing_*` of 0 turns an algorithm off: nothing is detected that would not be enforced.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from statistics import fmean, pstdev
from types import MappingProxyType

from meshsdk.lb.attempt_counts import AttemptCounts, Counted
from meshsdk.model.policy import OutlierDetection

_SHORTEST_INTERVAL = 0.001  # seconds
_WHOLE = 100  # per cent
_NOTHING = Counted()


class Cause(enum.Enum):
    """Why an endpoint was ejected; named as envoy.data.cluster.v3.OutlierEjectionType."""

    CONSECUTIVE_5XX = "CONSECUTIVE_5XX"
    CONSECUTIVE_GATEWAY_FAILURE = "CONSECUTIVE_GATEWAY_FAILURE"
    CONSECUTIVE_LOCAL_ORIGIN_FAILURE = "CONSECUTIVE_LOCAL_ORIGIN_FAILURE"
    SUCCESS_RATE = "SUCCESS_RATE"
    SUCCESS_RATE_LOCAL_ORIGIN = "SUCCESS_RATE_LOCAL_ORIGIN"
    FAILURE_PERCENTAGE = "FAILURE_PERCENTAGE"
    FAILURE_PERCENTAGE_LOCAL_ORIGIN = "FAILURE_PERCENTAGE_LOCAL_ORIGIN"


@dataclass(frozen=True, slots=True)
class Ejection:
    """An endpoint that is out, `since` and `until` in seconds of the clock that is handed in.

    `times`: how often it was ejected since it came. `why`: the cause in numbers, in words.
    """

    cause: Cause
    why: str
    since: float
    until: float
    times: int


@dataclass(slots=True)
class _Member:
    """One endpoint. `growth`: the factor of its next ejection's time, less one; falls with every quiet interval."""

    counts: AttemptCounts = field(default_factory=AttemptCounts)
    before: Counted = _NOTHING
    growth: int = 0
    times: int = 0


class Detector:
    """The endpoints of one cluster and who of them is out.

    Thread rules: owned by one thread, or guarded by its owner's lock; but any thread calls `due`, reads `ejections`
    and `overflows`, and counts in what `counts` gave. `ejections` is replaced, never changed.
    """

    __slots__ = ("__weakref__", "_config", "_draw", "_members", "_next", "_swept", "ejections", "overflows", "totals")

    def __init__(self, config: OutlierDetection, draw: Callable[[], float], now: float) -> None:
        """`draw` gives numbers in [0, 1)."""
        self._config = config
        self._draw = draw
        self._members: dict[str, _Member] = {}
        self._swept = now
        self._next = now + max(config.interval, _SHORTEST_INTERVAL)
        self.ejections: Mapping[str, Ejection] = MappingProxyType({})
        """Who is out now, by address."""
        self.totals: Counter[Cause] = Counter()
        """How many ejections there were."""
        self.overflows = 0
        """Detections without an ejection, because enough endpoints were out."""

    @property
    def config(self) -> OutlierDetection:
        """The policy in force."""
        return self._config

    @property
    def splits(self) -> bool:
        """Whether failures of this side count apart."""
        return self._config.split_local_origin

    def configure(self, config: OutlierDetection) -> None:
        """Takes another policy; who is out stays out for as long as was said."""
        self._config = config
        self._next = self._swept + max(config.interval, _SHORTEST_INTERVAL)

    def follow(self, addresses: Iterable[str]) -> bool:
        """Takes the endpoints of the cluster; returns whether one that was out has gone."""
        self._members = {address: self._members.get(address) or _Member() for address in addresses}
        return self._publish({address: one for address, one in self.ejections.items() if address in self._members})

    def counts(self, address: str) -> AttemptCounts | None:
        """Returns where the attempts on an endpoint are counted; None for one that is not of the cluster."""
        member = self._members.get(address)
        return None if member is None else member.counts

    def due(self, counts: AttemptCounts) -> bool:
        """Tells whether a streak of failures is long enough for an ejection: then call `strike` soon."""
        return any(length >= limit for _, length, limit, _ in self._streaks(counts))

    def strike(self, address: str, now: float) -> bool:
        """Ejects an endpoint for its streak of failures, if it has one that long; returns whether it did."""
        member = self._members.get(address)
        if member is None:
            return False
        counts = member.counts
        ejected = False
        for cause, length, limit, enforcing in self._streaks(counts):
            if length >= limit and not ejected:
                ejected = self._detect(address, cause, enforcing, f"{length} failures in a row", now)
        counts.forgive()
        return ejected

    def sweep(self, now: float) -> bool:
        """Lets those back whose time is over; once an interval, judges rates. Returns whether `ejections` changed."""
        changed = self._let_back(now)
        if now < self._next:
            return changed
        self._swept = now
        self._next = now + max(self._config.interval, _SHORTEST_INTERVAL)
        since: dict[str, Counted] = {}
        for address, member in self._members.items():
            counted = member.counts.read()
            if address not in self.ejections:
                since[address] = Counted(*(now - then for now, then in zip(counted, member.before, strict=True)))
                member.growth = max(0, member.growth - 1)
            member.before = counted
        for address, cause, enforcing, why in list(self._outliers(since)):
            changed |= self._detect(address, cause, enforcing, why, now)
        return changed

    @property
    def expires(self) -> float:
        """When `sweep` is due next."""
        return min(self._next, min((one.until for one in self.ejections.values()), default=inf))

    def _streaks(self, counts: AttemptCounts) -> Iterator[tuple[Cause, int, int, int]]:
        """Cause, length, limit and enforced percentage of each kind of streak that is looked for."""
        config = self._config
        gateway, errors = config.consecutive_gateway_failure, config.consecutive_5xx
        if gateway and config.enforcing_consecutive_gateway_failure:
            enforcing = config.enforcing_consecutive_gateway_failure
            yield Cause.CONSECUTIVE_GATEWAY_FAILURE, counts.gateway_errors, gateway, enforcing
        if errors and config.enforcing_consecutive_5xx:
            yield Cause.CONSECUTIVE_5XX, counts.errors, errors, config.enforcing_consecutive_5xx
        local = config.consecutive_local_origin
        if local and config.split_local_origin and config.enforcing_consecutive_local_origin:
            enforcing = config.enforcing_consecutive_local_origin
            yield Cause.CONSECUTIVE_LOCAL_ORIGIN_FAILURE, counts.losses, local, enforcing

    def _outliers(self, since: Mapping[str, Counted]) -> Iterator[tuple[str, Cause, int, str]]:
        """Address, cause, enforced percentage and words of all whose rates in an interval stand out."""
        config = self._config
        answers = {address: (one.good, one.good + one.bad) for address, one in since.items()}
        yield from _judged(
            answers,
            config,
            (Cause.SUCCESS_RATE, config.enforcing_success_rate),
            (Cause.FAILURE_PERCENTAGE, config.enforcing_failure_percentage),
        )
        if config.split_local_origin:
            reached = {address: (one.good + one.bad, sum(one)) for address, one in since.items()}
            yield from _judged(
                reached,
                config,
                (Cause.SUCCESS_RATE_LOCAL_ORIGIN, config.enforcing_local_origin_success_rate),
                (Cause.FAILURE_PERCENTAGE_LOCAL_ORIGIN, config.enforcing_failure_percentage_local_origin),
            )

    def _detect(self, address: str, cause: Cause, enforcing: int, why: str, now: float) -> bool:
        """Ejects, unless it is out already, enough are out, or the draw spares it."""
        if address in self.ejections:
            return False
        if len(self.ejections) >= _allowed(len(self._members), self._config):
            self.overflows += 1
            return False
        if self._draw() * _WHOLE >= enforcing:
            return False
        config, member = self._config, self._members[address]
        longest = max(config.base_ejection_time, config.max_ejection_time)
        if config.base_ejection_time * member.growth < longest:
            member.growth += 1
        member.times += 1
        lasts = min(config.base_ejection_time * member.growth, longest) + self._draw() * config.max_ejection_jitter
        self.totals[cause] += 1
        return self._publish({**self.ejections, address: Ejection(cause, why, now, now + lasts, member.times)})

    def _let_back(self, now: float) -> bool:
        back = [address for address, one in self.ejections.items() if one.until <= now]
        for address in back:
            member = self._members[address]
            member.counts.forgive()
            member.before = member.counts.read()  # what ended while it was out is of the time before
        return self._publish({address: one for address, one in self.ejections.items() if address not in back})

    def _publish(self, ejections: Mapping[str, Ejection]) -> bool:
        if ejections == self.ejections:
            return False
        self.ejections = MappingProxyType(dict(ejections))
        return True


def _allowed(size: int, config: OutlierDetection) -> int:
    share = size * min(config.max_ejection_percent, _WHOLE) // _WHOLE
    at_least = config.always_eject_one or (config.max_ejection_percent > 0 and size > 1)
    return max(share, int(at_least))


def _judged(
    rates: Mapping[str, tuple[int, int]],
    config: OutlierDetection,
    success_rate: tuple[Cause, int],
    failure_percentage: tuple[Cause, int],
) -> Iterator[tuple[str, Cause, int, str]]:
    """Applies both algorithms to (good, all) of each endpoint; those without enough attempts are not judged."""
    cause, enforcing = success_rate
    if config.success_rate_stdev_factor is not None and enforcing:
        volume = max(1, config.success_rate_request_volume)
        shares = {address: _WHOLE * good / whole for address, (good, whole) in rates.items() if whole >= volume}
        if len(shares) >= max(1, config.success_rate_minimum_hosts):
            bound = lowest_normal(shares.values(), config.success_rate_stdev_factor / 1000)
            for address, share in shares.items():
                if share < bound:
                    yield address, cause, enforcing, f"success rate {share:.1f} % is below {bound:.1f} %"
    cause, enforcing = failure_percentage
    if config.failure_percentage_threshold is not None and enforcing:
        volume = max(1, config.failure_percentage_request_volume)
        shares = {
            address: _WHOLE * (whole - good) / whole for address, (good, whole) in rates.items() if whole >= volume
        }
        if len(shares) >= max(1, config.failure_percentage_minimum_hosts):
            for address, share in shares.items():
                if share >= config.failure_percentage_threshold:
                    yield address, cause, enforcing, f"{share:.1f} % of its calls failed"


def lowest_normal(shares: Iterable[float], factor: float) -> float:
    """Returns mean - factor * standard deviation: what is below that stands out (A50 "success rate")."""
    values = list(shares)
    return fmean(values) - factor * pstdev(values)
