"""What stands in for a picker while nothing is connected, with the reason in words for the error of a call."""

from __future__ import annotations

from dataclasses import dataclass

from meshsdk.lb.selection import Selection
from meshsdk.lb.survey import Survey


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing is connected yet, but attempts are under way or due: calls wait, at most until their deadline."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failing:
    """Nothing can be used: calls fail UNAVAILABLE with `reason`, unless they wait for ready."""

    reason: str


def outage(selection: Selection, seen: Survey) -> Waiting | Failing:
    """Tells why `selection` has no picker, and whether that may change by itself soon."""
    name = f"cluster {selection.cluster!r}"
    localities = [view for group in seen.groups for view in group.localities]
    pending = sum(view.pending for view in localities)
    failed = sum(view.failed for view in localities)
    if pending:
        others = f"; {failed} failed to connect" if failed else ""
        return Waiting(f"{name}: connecting to {pending} endpoint{'s' * (pending > 1)}{others}")
    ejected = sum(len(view.ejected) for view in localities)
    if failed:
        whole = failed + ejected
        count = f"{failed} of {whole} endpoints" if whole > 1 else "its only endpoint"
        others = f"; {ejected} ejected as outliers" if ejected else ""
        return Failing(f"{name}: {count} failed to connect{others}")
    return Failing(f"{name} {_why_none(selection, ejected)}")


def _why_none(selection: Selection, ejected: int) -> str:
    tallies = [members.tally for group in selection.groups for members in group.localities]
    kinds = {
        "unhealthy": sum(tally.unhealthy for tally in tallies),
        "draining": sum(tally.draining for tally in tallies),
        "ejected as outliers": ejected,
    }
    if not any(kinds.values()):
        return "; ".join(("has no endpoints", *selection.problems))
    words = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
    return "; ".join((f"has no usable endpoint: {words}", *selection.problems))
