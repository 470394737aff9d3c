"""The traffic table of `meshctl status`: what the calls to each service came to in the last minute. Pure.

From the same counts as `report`: those that clients report over LRS to this control plane.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from controlplane.loads.book import Page
from controlplane.loads.buckets import FIELDS
from controlplane.loads.report import service_of

SPAN = 60.0  # seconds
_MOST = 100  # services that are listed, the busiest; the others are summed up


def traffic(page: Page) -> list[dict[str, Any]]:
    """Returns a row for each service that was called, the busiest first.

    `per_second`: calls; `success`: the share (0-1) of those that the caller did not cancel, 1 if there is none of them.
    """
    seconds = max(page.end - page.begin, 1.0)
    sums: dict[str, Counter[str]] = {}
    clients: dict[str, set[str]] = {}
    for (node, cluster), counted in page.counted.items():
        name = service_of(cluster)
        sums.setdefault(name, Counter()).update(dict(zip(FIELDS, counted.numbers(), strict=True)))
        clients.setdefault(name, set()).add(node)
    rows = [_row(name, counts, len(clients[name]), seconds) for name, counts in sums.items()]
    rows.sort(key=lambda row: (-row["calls"], row["service"]))
    return [*rows[:_MOST], *_rest(rows[_MOST:], seconds)]


def _row(name: str, counts: Mapping[str, int], clients: int, seconds: float) -> dict[str, Any]:
    decided = counts["succeeded"] + counts["failed"]
    calls = decided + counts["cancelled"]
    return {
        "service": name,
        "clients": clients,
        "calls": calls,
        "per_second": round(calls / seconds, 1),
        "success": round(counts["succeeded"] / decided, 6) if decided else 1.0,
        **{field: counts[field] for field in FIELDS if field != "succeeded"},
    }


def _rest(rows: Iterable[Mapping[str, Any]], seconds: float) -> list[dict[str, Any]]:
    listed = list(rows)
    if not listed:
        return []
    counts: Counter[str] = Counter()
    for row in listed:
        for field in FIELDS:
            if field != "succeeded":
                counts[field] += row[field]
        counts["succeeded"] += row["calls"] - row["failed"] - row["cancelled"]
    return [_row(f"({len(listed)} more)", counts, 0, seconds)]
