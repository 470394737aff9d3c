"""Calls dropped before a pick, by configuration: EDS `policy.drop_overloads` (gRFC A32).

Each leaf of an aggregate has its own drops; a call meets those of a leaf as often as that leaf takes calls.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshsdk.lb.survey import GroupView

_MILLION = 1_000_000

Thresholds = tuple[tuple[float, str], ...]
"""Ascending (bound, category): a call that draws less than the bound, and not less than the one before, is dropped."""


def thresholds(loads: Iterable[tuple[float, GroupView]]) -> Thresholds:
    """Returns the drops of priorities by their shares of the calls (adding up to 1).

    Categories apply one after another, each to what the ones before have let through, as Envoy does.
    """
    found: list[tuple[float, str]] = []
    bound = 0.0
    for load, view in loads:
        passing = load
        for drop in view.group.drops:
            dropped = passing * min(drop.per_million / _MILLION, 1.0)
            passing -= dropped
            bound += dropped
            if dropped:
                found.append((bound, drop.category))
    return tuple(found)
