"""Medians of noisy rounds, with the interval that a bootstrap gives. Pure."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the 95 % interval of it."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Returns the median of `values` with its bootstrap interval; the same values give the same interval."""
    drawn = random.Random(len(values))
    medians = sorted(statistics.median(drawn.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    return Spread(
        statistics.median(values), medians[int(0.025 * (_RESAMPLES - 1))], medians[int(0.975 * (_RESAMPLES - 1))]
    )


def ratios(values: Sequence[float], against: Sequence[float]) -> Spread:
    """Returns the spread of the ratio per round: both sides of a pair ran side by side."""
    return spread([value / other for value, other in zip(values, against, strict=True)])


def quantile(values: Sequence[float], share: float) -> float:
    """Returns the value below which `share` (0 to 1) of `values` lie."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
