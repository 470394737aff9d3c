"""What is compared: each row is a measurement that every way makes, and what each way has to give.

docs/parity.md is made of these rows (`document.py`); `test_parity` makes the measurements.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import grpc

from tests.e2e.parity.configuration import (
    ABORTED,
    BACKOFF,
    DELAYED,
    EJECTED,
    EJECTION,
    LOADS,
    NAMES,
    RETRIES,
    RETRY_ON,
    RUNNING,
    STREAK,
)
from tests.e2e.parity.ways import ENVOY, XDS, Way
from tests.e2e.processes import until

Found = str | float
MANY = 10_000.0
_NEVER = "is never out"
_WATCHED = 1.6  # seconds: Envoy tells its workers of changes once a second, and an ejection lasts two


@dataclass(frozen=True, slots=True)
class Exactly:
    """Nothing else will do."""

    value: Found

    def holds(self, found: Found) -> bool:
        """Whether it is that."""
        return found == self.value

    def words(self, unit: str) -> str:
        """For tables."""
        return shown(self.value, unit)


@dataclass(frozen=True, slots=True)
class Between:
    """A number within bounds, both included; `most` of MANY: no upper bound, since time belongs to the machine."""

    least: float
    most: float = MANY

    def holds(self, found: Found) -> bool:
        """Whether it is within."""
        return isinstance(found, float | int) and self.least <= found <= self.most

    def words(self, unit: str) -> str:
        """For tables."""
        if self.most == MANY:
            return f">= {shown(self.least, unit)}"
        return f"{shown(self.least, '')} to {shown(self.most, unit)}"


Bound = Exactly | Between
Ways = Mapping[str, Way]


@dataclass(frozen=True, slots=True)
class Row:
    """`measure` is given all ways and the name of the one to be measured.

    `bound`: what every way gives, but for `others`, which differ, for `why`.
    """

    policy: str
    what: str
    measure: Callable[[Ways, str], Found]
    bound: Bound
    unit: str = ""
    others: Mapping[str, Bound] = field(default_factory=dict)
    why: str = ""

    def expected(self, way: str) -> Bound:
        """What a way has to give."""
        return self.others.get(way, self.bound)


def shown(value: Found, unit: str) -> str:
    """Writes a value."""
    return value if isinstance(value, str) else f"{value:.3g} {unit}".strip()


# -- retries ----------------------------------------------------------------------------------------------------------


def retried(ways: Ways, name: str) -> Found:
    """The codes after which a call is tried again."""
    codes = [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
    arrived = {code: ways[name].call("tried", codes=[code, "OK"])[1][0] for code in codes}
    return ", ".join(sorted(code for code, attempts in arrived.items() if len(attempts) > 1))


def attempts(ways: Ways, name: str) -> Found:
    """How often a call that always fails is sent."""
    arrived = ways[name].call("tried", 10, codes=["UNAVAILABLE"])[1]
    return ", ".join(sorted({f"{len(found)} times" for found in arrived.values()}))


def last_word(ways: Ways, name: str) -> Found:
    """What such a call ends with, if its attempts fail differently."""
    codes = ["UNAVAILABLE", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNAVAILABLE"]
    ended = ways[name].call("tried", codes=codes)[0][0]
    return f"{ended.status}: {ended.answer}"


def gap(nth: int, of: Callable[[list[float]], float]) -> Callable[[Ways, str], Found]:
    """A figure of the waits before the nth retry, as shares of the backoff's base."""

    def measure(ways: Ways, name: str) -> Found:
        arrived = ways[name].call("waited", 24, workers=6, codes=["UNAVAILABLE"])[1]
        gaps = [found[nth][0] - found[nth - 1][0] for found in arrived.values()]
        return of(gaps) / BACKOFF

    return measure


def pushed_back(ways: Ways, name: str) -> Found:
    """The longest wait after answers that ask for 400 ms. They arrive when the machine lets them."""
    arrived = ways[name].call("waited", 5, workers=5, codes=["UNAVAILABLE", "OK"], pushback="400")[1]
    return max(found[1][0] - found[0][0] for found in arrived.values()) * 1000


def forbidden(ways: Ways, name: str) -> Found:
    """How often a call is sent whose answer forbids further ones."""
    return float(len(ways[name].call("tried", codes=["UNAVAILABLE"], pushback="-1")[1][0]))


def timed_out(ways: Ways, name: str) -> Found:
    """What comes of a call whose first attempt takes longer than `perTryTimeout`, and the second does not."""
    ended, arrived = ways[name].call("timed", late=2.5)
    return f"{ended[0].status}, attempts: {len(arrived[0])}"


def too_long(ways: Ways, name: str) -> Found:
    """The status of a call that takes longer than its route's timeout."""
    return ways[name].call("late", seconds=2.5)[0][0].status


# -- outlier ejection -------------------------------------------------------------------------------------------------


def streak(ways: Ways, name: str) -> Found:
    """How many calls an endpoint that always fails gets, of 100 made one after the other."""
    failed = Counter(one.status for one in ways[name].call("streak", 100, bad={"e0": "UNAVAILABLE"})[0])
    return float(failed["UNAVAILABLE"])


def crowd(ways: Ways, name: str) -> Found:
    """How many of three endpoints that always fail are out at most."""
    bad = dict.fromkeys(("e0", "e1", "e2"), "UNAVAILABLE")
    most, end = 0, time.monotonic() + _WATCHED
    while time.monotonic() < end:
        asked = ways[name].call("crowd", 60, bad=bad)[1]
        most = max(most, 3 - len({attempt[1] for found in asked.values() for attempt in found} & bad.keys()))
    return float(most)


def away(ways: Ways, name: str) -> Found:
    """Seconds from the last call that an endpoint got, at which it was ejected, to the next one."""
    way = ways[name]
    asked = [attempt for found in way.call("away", 100, bad={"e4": "INTERNAL"})[1].values() for attempt in found]
    if [where for _, where in asked[-20:]].count("e4"):
        return _NEVER
    out = max(when for when, where in asked if where == "e4")

    def back() -> float:
        found = way.call("away", 10)[1].values()
        return min((when for one in found for when, where in one if where == "e4"), default=0.0)

    return until(back, f"{name} to take e4 back") - out


def by_share(ways: Ways, name: str) -> Found:
    """Which endpoints are out, if one fails always and another one time in four."""
    way = ways[name]

    def out() -> set[str]:
        way.call("share", 100, bad={"e0": "UNAVAILABLE"}, at_times={"e1": "UNAVAILABLE"})
        return set(NAMES) - set(way.answers("share", 60))

    return ", ".join(sorted(until(out, f"{name} to eject by failure percentage")))


# -- ring hash --------------------------------------------------------------------------------------------------------

_KEYS = [f"user-{number}" for number in range(500)]


def _placed(way: Way) -> list[str]:
    return [one.answer for one in way.call("ring", len(_KEYS), workers=4, keys=_KEYS)[0]]


def as_envoy(ways: Ways, name: str) -> Found:
    """The percentage of keys that go where Envoy sends them."""
    theirs = _placed(ways[ENVOY])
    same = sum(ours == other for ours, other in zip(_placed(ways[name]), theirs, strict=True))
    return 100.0 * same / len(_KEYS)


def busiest(ways: Ways, name: str) -> Found:
    """The percentage of keys on the endpoint that has most of them."""
    return 100.0 * max(Counter(_placed(ways[name])).values()) / len(_KEYS)


# -- faults -----------------------------------------------------------------------------------------------------------


def aborted(ways: Ways, name: str) -> Found:
    """The percentage of calls that are aborted."""
    ended = ways[name].call("aborted", 1000, workers=4)[0]
    return 100.0 * sum(one.status == "DATA_LOSS" for one in ended) / len(ended)


def delayed(ways: Ways, name: str) -> Found:
    """The percentage of calls that are delayed, beyond their deadline."""
    ended = ways[name].call("delayed", 256, workers=64, deadline=1.5)[0]
    return 100.0 * sum(one.status == "DEADLINE_EXCEEDED" for one in ended) / len(ended)


def as_status(ways: Ways, name: str) -> Found:
    """What an HTTP status of 404 becomes."""
    return ways[name].call("unheard")[0][0].status


# -- load reports, limits ---------------------------------------------------------------------------------------------


def weighted(ways: Ways, name: str) -> Found:
    """The most by which an endpoint's share of the calls is off what its weight asks for, in per cent of that."""
    way = ways[name]
    weights = {name: 1 / load for name, load in LOADS.items()}
    asked = {name: weight / sum(weights.values()) for name, weight in weights.items()}

    def off() -> float:
        found = way.answers("weighted", 400, load=LOADS)
        return max(abs(found[name] / 400 / share - 1) for name, share in asked.items())

    deadline = time.monotonic() + 20.0
    while (least := off()) > 0.15 and time.monotonic() < deadline:
        pass  # reports come, and weights follow
    return 100.0 * least


def running(ways: Ways, name: str) -> Found:
    """How many of 20 calls at a time get through; the others fail UNAVAILABLE."""
    ended = Counter(one.status for one in ways[name].call("full", 20, workers=20, seconds=1.5)[0])
    assert set(ended) <= {"OK", "UNAVAILABLE"}, ended
    return float(ended["OK"])


_TRIED = ", ".join(RETRY_ON)
_NO_PUSHBACK = "Envoy does not read `grpc-retry-pushback-ms`."
_JITTER = "gRPC's core draws from 0.8 to 1.2 of the backoff (gRFC A6 as amended); ours and Envoy draw from 0 to 1."
_NO_PER_TRY = "gRPC has no timeout of an attempt: gRFC A44 leaves `per_try_timeout` out."
_NO_STREAKS = "gRPC counts no failures in a row (gRFC A50): `failurePercentage` and `successRate` are for its callers."

ROWS = (
    Row("retries", f"`retryOn: {_TRIED.lower()}`: tried again after", retried, Exactly(_TRIED)),
    Row("retries", f"`attempts: {RETRIES}`: calls that fail are sent", attempts, Exactly(f"{RETRIES + 1} times")),
    Row("retries", "and end with the words of", last_word, Exactly("UNAVAILABLE: as asked, attempt 4")),
    Row(
        "retries",
        "`backoff`: the shortest of 24 waits before retry 1, of the base",
        gap(1, min),
        Between(0.0, 0.8),
        others={XDS: Between(0.4)},
        why=_JITTER,
    ),
    Row(
        "retries",
        "the middle one of 24 waits before retry 3, of the base",
        gap(3, statistics.median),
        Between(0.4),
        others={XDS: Between(3.2)},
        why=_JITTER,
    ),
    Row(
        "retries",
        "`grpc-retry-pushback-ms: 400`: waits",
        pushed_back,
        Between(400.0),
        "ms",
        others={ENVOY: Between(0.0)},
        why=_NO_PUSHBACK,
    ),
    Row(
        "retries",
        "`grpc-retry-pushback-ms: -1`: attempts",
        forbidden,
        Exactly(1.0),
        others={ENVOY: Exactly(4.0)},
        why=_NO_PUSHBACK,
    ),
    Row(
        "deadlines",
        "`perTryTimeout: 500ms`, the first attempt takes 2.5 s",
        timed_out,
        Exactly("OK, attempts: 2"),
        others={XDS: Exactly("OK, attempts: 1")},
        why=_NO_PER_TRY,
    ),
    Row("deadlines", "`timeout: 500ms`, the call takes 2.5 s", too_long, Exactly("DEADLINE_EXCEEDED")),
    Row(
        "ejection",
        f"`consecutive5xxErrors: {STREAK}`: of 100 calls in turn, an endpoint that always fails gets",
        streak,
        Between(STREAK, STREAK + 1.0),
        others={XDS: Exactly(20.0)},
        why=_NO_STREAKS,
    ),
    Row(
        "ejection",
        f"`maxEjectionPercent: {EJECTED}`: three of five fail, out are",
        crowd,
        Exactly(2.0),
        others={XDS: Exactly(0.0)},
        why=_NO_STREAKS,
    ),
    Row(
        "ejection",
        f"`baseEjectionTime: {EJECTION:g}s`: comes back after",
        away,
        Between(EJECTION * 0.95),
        "s",
        others={XDS: Exactly(_NEVER)},
        why=_NO_STREAKS,
    ),
    Row("ejection", "`failurePercentage: 50`: one fails always, one at times; out is", by_share, Exactly("e0")),
    Row("ring hash", "500 keys: go where Envoy sends them", as_envoy, Exactly(100.0), "%"),
    Row("ring hash", "500 keys: on the busiest of five endpoints", busiest, Between(20.0, 35.0), "%"),
    Row("faults", f"`abort` {ABORTED} %: of 1,000 calls", aborted, Between(ABORTED - 6.0, ABORTED + 6.0), "%"),
    Row("faults", f"`delay` {DELAYED} %: of 256 calls", delayed, Between(DELAYED - 10.0, DELAYED + 10.0), "%"),
    Row("faults", "`abort` with `httpStatus: 404`", as_status, Exactly("UNIMPLEMENTED")),
    Row(
        "weighted round robin",
        "utilization 0.9, 0.45, 0.3, 0.3, 0.3: off the share of the weight by at most",
        weighted,
        Between(0.0, 15.0),
        "%",
    ),
    Row(
        "breaker", f"`http2MaxRequests: {RUNNING}`: of 20 calls at a time get through", running, Exactly(float(RUNNING))
    ),
)
