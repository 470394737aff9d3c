"""How load is spread over priorities, and when a priority panics. Numbers in, numbers out.

Envoy's documented rules ("Priority levels" and "Panic threshold" in its load balancing architecture overview), with
exact fractions where Envoy rounds to whole percents. Called by `survey`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_DUST = 1e-9  # what rounding leaves over is no load


@dataclass(frozen=True, slots=True)
class Headcount:
    """One priority in numbers of endpoints. `total` leaves out draining ones.

    `usable`: healthy and not failed to connect, or degraded ones where those stand in. `available`: the same, healthy
    and degraded together. Both need not be whole: what is seen of a subset is taken for the whole set.
    """

    total: int
    usable: float
    available: float
    overprovisioning: float


@dataclass(frozen=True, slots=True)
class Shares:
    """`loads` (0-1, one per priority) add up to 1, or are all 0 when no priority can take any; `panic` likewise.

    `reach`: how many priorities, from the first, are needed to carry full load; all of them if they cannot.
    """

    loads: tuple[float, ...]
    panic: tuple[bool, ...]
    reach: int


def shares(counts: Sequence[Headcount], panic_threshold: float) -> Shares:
    """Splits load over priorities.

    health(P) = min(1, overprovisioning * usable / total); load(P) = health(P) / min(1, sum of health), first come first
    served until 1 is spent. While the sum is below 1, a priority with available / total under `panic_threshold` panics:
    all its endpoints are used. If all panic, load follows the number of endpoints. Threshold 0: no panic.
    """
    health = [min(1.0, count.overprovisioning * count.usable / count.total) if count.total else 0.0 for count in counts]
    total = min(1.0, sum(health))
    panic = tuple(
        total < 1.0 and count.total > 0 and count.available / count.total < panic_threshold for count in counts
    )
    manned = [count.total for count in counts]
    if any(panic) and all(panics or not count for panics, count in zip(panic, manned, strict=True)):
        return Shares(tuple(count / sum(manned) for count in manned), panic, len(counts))
    loads: list[float] = []
    rest = 1.0
    for part in health:
        loads.append(min(rest, part / total) if total else 0.0)
        rest -= loads[-1]
        rest = rest if rest > _DUST else 0.0
    return Shares(tuple(loads), panic, _reach(health))


def _reach(health: Sequence[float]) -> int:
    carried = 0.0
    for index, part in enumerate(health):
        carried += part
        if carried >= 1.0 - _DUST:
            return index + 1
    return len(health)
