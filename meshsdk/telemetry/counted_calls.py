"""Client calls that are only counted: the observer behind A66's client metrics, made for the least cost a call.

The innermost of the observers: spans and the access log stand around it.
"""

from __future__ import annotations

import time

from meshsdk.model.resources import Locality
from meshsdk.telemetry.counts import OTHER, Counts, MethodCounts
from meshsdk.telemetry.port import OBSERVING, AttemptObservation, Attributes, Metadata


class CountedAttempt:
    """See `port.AttemptObservation`."""

    __slots__ = ("_began", "_counts", "metadata")

    def __init__(self, counts: MethodCounts, metadata: Metadata | None, began: float) -> None:
        """`began`: seconds of `time.perf_counter`."""
        self._counts = counts
        self._began = began
        self.metadata = metadata
        counts.begin(None)

    def ended(self, code: str) -> None:
        """See `port.AttemptObservation`."""
        counts = self._counts
        counts.attempts.add(code, time.perf_counter() - self._began)
        counts.leave()


class CountedCall:
    """See `port.CallObservation`."""

    __slots__ = ("_began", "_counts")

    def __init__(self, counts: MethodCounts) -> None:
        self._counts = counts
        self._began = time.perf_counter()

    def attempt(
        self, number: int, address: str, cluster: str, locality: Locality | None, metadata: Metadata | None
    ) -> CountedAttempt:
        """A66: an attempt's time has that of its pick in it; the first one's began with the call."""
        del address, cluster, locality
        return CountedAttempt(self._counts, metadata, time.perf_counter() if number else self._began)

    def event(self, name: str, attributes: Attributes) -> None:
        """Metrics have no events."""

    def ended(self, code: str, details: str, route: str, cluster: str) -> None:
        """See `port.CallObservation`."""
        del details, route, cluster
        self._counts.calls.add(code, time.perf_counter() - self._began)


class CountedOnly:
    """See `port.Sight`: a call that nobody looks at otherwise, in one object; its own first attempt (`ended`) as well.

    Used by one thread at a time, like every sight.
    """

    __slots__ = ("_began", "_counts", "_over", "_started", "last", "metadata")

    def __init__(self, counts: MethodCounts) -> None:
        self._counts = counts
        self._over = self._started = False
        self.last: AttemptObservation | None = None
        self.metadata: Metadata | None = None
        self._began = time.perf_counter()

    def attempt(self, lane: object, backend: object, metadata: Metadata | None) -> Metadata | None:
        """See `port.Sight`; an attempt's time as in `CountedCall.attempt`."""
        del lane, backend
        if self._started:
            self.last = CountedAttempt(self._counts, metadata, time.perf_counter())
        else:
            self._started = True
            self._counts.begin(None)
            self.last = self
        return metadata

    def ended(self, code: str) -> None:
        """The first attempt has ended; see `port.AttemptObservation`."""
        self._counts.attempts.add(code, time.perf_counter() - self._began)
        self._counts.leave()

    def attempted(self, code: str) -> None:
        """See `port.Sight`."""
        last, self.last = self.last, None
        if last is not None:
            last.ended(code)

    def event(self, name: str, attributes: Attributes) -> None:
        """Metrics have no events."""

    def end(self, code: str, details: str) -> None:
        """See `port.Sight`."""
        del details
        if self._over:
            return
        self._over = True
        counts = self._counts
        if self.last is self and code == "OK":
            self.last = None
            counts.succeeded(time.perf_counter() - self._began)
            counts.leave()
        else:
            self.attempted(code)
            counts.calls.add(code, time.perf_counter() - self._began)


class CallCounter:
    """See `port.CallObserver`."""

    __slots__ = ("_counts",)

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def began(self, target: str, method: str) -> CountedCall:
        """A66: a method that no generated code registered is `other`."""
        return CountedCall(self._counts.of(target, method if method in OBSERVING.registered else OTHER))

    def only(self, target: str, method: str) -> CountedOnly:
        """See `port.Observing.counter`."""
        return CountedOnly(self._counts.of(target, method if method in OBSERVING.registered else OTHER))
