"""What metrics look like before they are written in anybody's format: families of points, as read at one moment.

Made by `counts` and by those who have numbers of their own (`meshsdk.channel.mesh_metrics`); written by `otel_metrics`
and `prometheus`. Values only.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

Labels = Mapping[str, str]


class Kind(enum.Enum):
    """What the points of a family are."""

    COUNTER = enum.auto()  # only ever grows, while the process lives
    GAUGE = enum.auto()
    HISTOGRAM = enum.auto()


@dataclass(frozen=True, slots=True)
class Spread:
    """A histogram's state: `counts` has one more entry than the family's `bounds`, the last for what is above them."""

    counts: tuple[int, ...]
    total: float

    def __add__(self, other: Spread) -> Spread:
        """Returns both together; of the same bounds."""
        counts = tuple(mine + its for mine, its in zip(self.counts, other.counts, strict=True))
        return Spread(counts, self.total + other.total)

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class Point:
    """One combination of labels and its value."""

    labels: Labels
    value: float | Spread


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `name` and `unit` as OpenTelemetry writes them; `bounds`: of a histogram, upper and inclusive."""

    name: str
    kind: Kind
    unit: str
    words: str
    points: tuple[Point, ...]
    bounds: tuple[float, ...] = ()


Source = Callable[[], Iterable[Family]]
"""Reads numbers at collection time, on the reader's thread; must not block for long, and may be called at any time."""

LATENCY_BOUNDS = (
    *(0.0, 0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01),
    *(0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8),
    *(1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0),
)
"""Seconds; gRFC A66."""
