"""The gradient controller: how many calls may run, learnt from how long they take.

Used by `adaptive_concurrency`, which counts the calls and holds the guard. Follows Envoy's gradient controller: at rest
(few calls at a time) a call takes the minimum RTT; every `interval` the limit is multiplied by
`minimum * (1 + buffer) / sample`, held to 0.5-2, and gets a headroom of its square root.

What differs, so that a server in good health refuses nothing and a slow one is not starved:
- Before anything is learnt `UNPROVEN` calls may run: the first minimum is measured with what comes; only if as many
  came is it measured again with few.
- Beyond that the limit grows only when half of it was in use: an idle server's is not at its highest when load comes.
- When the minimum is to be probed, and calls do not take longer than it with its buffer, they are at rest as they are:
  the minimum becomes what they take, if that is less, and none is refused for a probe.
- A window is at least as long as a call takes: before that, samples do not know of the last change.
- A probe ends after a second (10 intervals) if it has five samples, and not only after `min_rtt_requests`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from meshsdk.model.filters import AdaptiveConcurrency

UNPROVEN = 32  # calls that may run although no load has shown that they can, if `max_limit` lets them
_MAX_SAMPLES = 10_000  # of one window; more say nothing new
_MIN_WINDOWS = 5  # at the lowest limit, one after another: then the minimum itself is in doubt
_LOWEST = 2  # a limit of two, halved, with its headroom, is two
_FEWEST = 5  # samples of a probe that is cut short
_PROBE_INTERVALS = 10
_SHORTEST = 1e-9  # seconds; a clock may not move at all between two looks


class Gradient:
    """The controller of one limit.

    Thread rules: `limit`, `due` and `probing` are read by any thread; `samples` is appended to by any thread; all is
    otherwise guarded by the owner's guard. `peak` is a lone maximum: a lost write makes one window grow less.
    """

    __slots__ = (
        *("_config", "_deferred", "_draw", "_epoch", "_floors", "_last", "_lowest", "_probe_at", "_samples", "_slow"),
        *("_unproven", "due", "limit", "min_rtt", "peak", "probing"),
    )

    def __init__(self, config: AdaptiveConcurrency, draw: Callable[[], float]) -> None:
        """`draw`: floats in [0, 1), for the jitter of the probes. Raises ValueError for numbers that cannot be used."""
        if min(config.interval, config.min_rtt_requests, config.min_concurrency, config.max_limit) <= 0:
            raise ValueError(
                "adaptive concurrency: interval, min_rtt_requests, min_concurrency and max_limit must be more than 0"
            )
        self._lowest = min(config.min_concurrency, config.max_limit)
        self._config = config
        self._draw = draw
        self._unproven = max(self._lowest, min(UNPROVEN, config.max_limit))
        self.limit = self._deferred = self._unproven
        self.min_rtt: float | None = config.fixed_min_rtt
        self.probing = False
        self.due = -math.inf  # when `tick` has something to do
        self.peak = 0
        self._samples: list[float] = []
        self._epoch = -math.inf  # calls that began before are no samples
        self._probe_at = math.inf
        self._slow = False
        self._last = 0.0  # of the last window with enough samples, 0 for none since the probe
        self._floors = 0

    def tick(self, now: float) -> None:
        """Ends the window, or begins a probe, if it is time. Under the guard."""
        if now < self.due:
            return
        if self.min_rtt is None:
            self._probe(now)
            return
        samples, self._samples = self._samples, []
        peak, self.peak = self.peak, 0
        window = self._config.interval
        if samples:
            sample = _percentile(samples, self._config.sample_percentile)
            window = max(window, sample)
            if len(samples) >= _FEWEST:
                self._last = max(sample, _SHORTEST)
            self._adapt(sample, peak)
        if self._config.fixed_min_rtt is None and self._must_probe(now):
            self._probe(now)
            return
        self.due = now + window

    def sample(self, seconds: float, now: float) -> bool:
        """Counts a call that ended; returns whether a probe has seen enough, and `settle` is due, under the guard."""
        if now - seconds < self._epoch or len(self._samples) >= _MAX_SAMPLES:
            return False
        self._samples.append(seconds)
        if not self.probing:
            return False
        enough = _FEWEST if now >= self._epoch + _PROBE_INTERVALS * self._config.interval else math.inf
        return len(self._samples) >= min(enough, self._config.min_rtt_requests)

    def settle(self, now: float) -> None:
        """Ends the probe: its samples give the minimum. Under the guard; idempotent."""
        if not self.probing:
            return
        crowded = self.min_rtt is None and self.peak >= self._unproven
        self.min_rtt = max(_SHORTEST, _percentile(self._samples, self._config.sample_percentile))
        if crowded:  # the first calls may have waited for one another: measured anew, with few at a time
            self._probe(now)
            return
        self.limit = self._deferred
        self.probing = self._slow = False
        self._samples = []
        self._floors = self.peak = 0
        self._last = 0.0
        self._schedule(now)
        self.due = now + self._config.interval

    def _probe(self, now: float) -> None:
        self._deferred = self.limit
        if self.min_rtt is not None:
            self.limit = self._lowest
        self._samples = []
        self._epoch = now
        self.probing = True
        self.due = math.inf

    def _must_probe(self, now: float) -> bool:
        if self._floors >= _MIN_WINDOWS:
            return True
        if now < self._probe_at:
            return False
        if self._slow:
            return True
        if self.min_rtt is not None and self._last > 0.0:
            self.min_rtt = min(self.min_rtt, self._last)
        self._schedule(now)
        return False

    def _schedule(self, now: float) -> None:
        config = self._config
        self._probe_at = now + config.min_rtt_interval * (1.0 + config.min_rtt_jitter * self._draw())

    def _adapt(self, sample: float, peak: int) -> None:
        config = self._config
        assert self.min_rtt is not None  # noqa: S101 - tick
        at_rest = self.min_rtt * (1.0 + config.min_rtt_buffer)
        gradient = max(0.5, min(2.0, at_rest / max(sample, _SHORTEST)))
        self._slow = sample > at_rest
        before, scaled = self.limit, self.limit * gradient
        wanted = int(scaled + math.sqrt(scaled))
        if wanted > max(before, self._unproven) and peak * 2 < before:
            wanted = max(before, self._unproven)
        self.limit = max(self._lowest, min(config.max_limit, wanted))
        at_floor = self.limit == before <= max(self._lowest, _LOWEST)
        self._floors = self._floors + 1 if at_floor and self._slow else 0


def _percentile(samples: list[float], percentile: float) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percentile / 100.0))]
