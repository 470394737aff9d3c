"""Smooth weighted sequences: which of several items comes next, so that each comes in proportion to its weight.

Called by `round_robin` for backends and by `locality` for localities. A sequence holds one counter and constants, no
lock: `itertools.count` gives each caller its own number. (Free-threaded 3.13 may give a number twice under contention;
that costs one repeated turn.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, count
from math import gcd
from typing import TypeVar

T = TypeVar("T")

_LONGEST_TABLE = 1024  # turns written out; building that many takes about 0.3 ms
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: the step whose multiples fill the circle most evenly
_CIRCLE = 1 << 64
_MASK = _CIRCLE - 1


def smooth(items: Sequence[T], weights: Sequence[float], start: int) -> Callable[[], T]:
    """Returns a function that gives the next of `items` (at least one), each in proportion to its weight (> 0).

    `start` is the first position, so that many clients do not all begin with the same item. Equal weights take turns;
    small whole weights follow an earliest-deadline-first schedule, exact within each round; any others follow the
    golden ratio's sequence, in which an item's count is never off by more than a few turns.
    """
    turn = count(start).__next__
    if len(set(weights)) == 1:
        return _cycle(tuple(items), turn)
    if all(isinstance(weight, int) for weight in weights):
        divisor = gcd(*(int(weight) for weight in weights))
        turns = [int(weight) // divisor for weight in weights]
        if sum(turns) <= _LONGEST_TABLE:
            return _cycle(_schedule(items, turns), turn)
    return _golden(tuple(items), weights, turn)


def _cycle(table: tuple[T, ...], turn: Callable[[], int]) -> Callable[[], T]:
    size = len(table)

    def upcoming() -> T:
        return table[turn() % size]

    return upcoming


def _schedule(items: Sequence[T], turns: Sequence[int]) -> tuple[T, ...]:
    """One round by earliest deadline: the k-th turn of an item with n turns is due at (k + 1/2) / n of the round."""
    due = [((k + 0.5) / n, index) for index, n in enumerate(turns) for k in range(n)]
    due.sort()
    return tuple(items[index] for _, index in due)


def _golden(items: tuple[T, ...], weights: Sequence[float], turn: Callable[[], int]) -> Callable[[], T]:
    total = sum(weights)
    bounds = [int(part / total * _CIRCLE) for part in accumulate(weights)]
    bounds[-1] = _CIRCLE  # whatever the rounding, the last item owns the rest of the circle

    def upcoming() -> T:
        return items[bisect_right(bounds, turn() * _GOLDEN & _MASK)]

    return upcoming
