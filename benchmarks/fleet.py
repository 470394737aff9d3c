"""A fleet far beyond one machine: who exists, who calls whom, and an hour of its deployments. Pure, drawn from a seed.

`scale` multiplies what happens here by unit costs that were measured. Nothing in here is measured.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

_CHANGES = 3  # of one restart, as watchers see them: DRAINING, gone, there again


@dataclass(frozen=True, slots=True)
class Plan:
    """How large the fleet is and how it lives. Spans in seconds."""

    clients: int = 100_000
    endpoints: int = 1_000_000
    applications: int = 10_000
    dependencies: int = 20  # applications that a client calls
    interfaces: int = 10  # of an application
    units: int = 5
    deployments: int = 1_000  # in the hour: every application once in a day of ten hours
    rollout: float = 600.0  # how long one takes, its instances restarting one after the other, evenly
    window: float = 0.02  # changes of one application within it are sent as one (the debounce's quiet time)
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Fleet:
    """`sizes`: endpoints by application. `subscribers`: clients by application. Largest first, as in any company."""

    plan: Plan
    sizes: tuple[int, ...]
    subscribers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Second:
    """What happens in one second. All are counts.

    `changes`: of instances. `told`: changes times those who watch the application. `pushes`: the same with changes in
    one window counted once. `pushed_endpoints`: pushes times the size of the whole set.
    """

    changes: int = 0
    told: int = 0
    pushes: int = 0
    pushed_endpoints: int = 0


def build(plan: Plan) -> Fleet:
    """Returns a fleet: sizes and popularity follow Zipf's law (exponent 1), independently of each other."""
    draw = random.Random(plan.seed)
    weights = [1 / rank for rank in range(1, plan.applications + 1)]
    total = sum(weights)
    sizes = [max(2, round(plan.endpoints * weight / total)) for weight in weights]
    popularity = weights[:]
    draw.shuffle(popularity)
    subscribers = [min(plan.clients, round(plan.clients * plan.dependencies * weight / total)) for weight in popularity]
    return Fleet(plan, tuple(sizes), tuple(subscribers))


def hour(fleet: Fleet) -> list[Second]:
    """Returns the 3,600 seconds of an hour in which `deployments` applications, drawn at random, are rolled out."""
    draw = random.Random(fleet.plan.seed + 1)
    counts = [[0, 0, 0, 0] for _ in range(3_600)]
    for application in draw.sample(range(fleet.plan.applications), fleet.plan.deployments):
        start = draw.uniform(0, 3_600 - fleet.plan.rollout)
        size, subscribers = fleet.sizes[application], fleet.subscribers[application]
        for second, changes, windows in _rollout(size * _CHANGES, start, fleet.plan):
            mine = counts[second]
            mine[0] += changes
            mine[1] += changes * subscribers
            mine[2] += windows * subscribers
            mine[3] += windows * subscribers * size
    return [Second(*mine) for mine in counts]


def _rollout(changes: int, start: float, plan: Plan) -> Iterator[tuple[int, int, int]]:
    """Yields (second, changes in it, windows with a change in it) of changes spread evenly over a rollout."""
    step = plan.rollout / changes
    times = (start + number * step for number in range(changes))
    for second, group in itertools.groupby(times, key=int):
        slots = [int(at / plan.window) for at in group]
        yield second, len(slots), len(set(slots))
