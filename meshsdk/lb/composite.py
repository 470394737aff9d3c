"""Picks made of picks: over the localities of a priority, and over priorities.

Called by `picker.build` only where there is more than one; a single pick stays what it is and costs nothing more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from meshsdk.lb.backend import Backend
from meshsdk.lb.sequence import smooth
from meshsdk.lb.stand_in import Pick

_LOW = (1 << 32) - 1


def in_turn(picks: Sequence[Pick], shares: Sequence[float], start: int) -> Pick:
    """Returns a pick that asks each of `picks` in proportion to its share (> 0), smoothly."""
    if len(picks) == 1:
        return picks[0]
    upcoming = smooth(picks, shares, start)

    def pick(hash_key: int | None) -> Backend:
        chosen = upcoming()
        return chosen(hash_key)

    return pick


def by_draw(picks: Sequence[Pick], loads: Sequence[float], draw: Callable[[], float], *, by_hash: bool) -> Pick:
    """Returns a pick that draws one of `picks` by its load (> 0, adding up to 1), as Envoy chooses priorities.

    `by_hash`: the call's hash takes the place of the draw, so that a key keeps its priority too. Its low half decides:
    rings go by the high one, and the keys of a priority must not crowd in one part of its ring.
    """
    if len(picks) == 1:
        return picks[0]
    choices = tuple(picks)
    bounds = list(accumulate(loads))[:-1]

    def drawn(hash_key: int | None) -> Backend:
        return choices[bisect_right(bounds, draw())](hash_key)

    def keyed(hash_key: int | None) -> Backend:
        if hash_key is None:
            return drawn(None)
        return choices[bisect_right(bounds, (hash_key & _LOW) / (_LOW + 1))](hash_key)

    return keyed if by_hash else drawn
