"""Which way a call of a woven program goes, from what the switch says and what the mesh knows of the host. Pure.

Called by `gate` with every piece of news.
"""

from __future__ import annotations

import enum

from meshsdk.model.snapshot import ResolvedCluster, Snapshot, Unresolvable


class Way(enum.Enum):
    """Where a call goes."""

    UNDECIDED = "undecided"  # nothing is known yet: the call may wait a little
    MESH = "mesh"
    DIRECT = "direct"  # the application's own channel: the mesh does not know the host, or is switched off
    FALLBACK = "fallback"  # the application's own channel, because the mesh cannot do its part


class Verdict(enum.Enum):
    """What the mesh knows of the host."""

    AWAITED = "awaited"
    SERVED = "served"
    ABSENT = "absent"
    FAILED = "failed"


def way(*, intercepted: bool, verdict: Verdict, patient: bool) -> Way:
    """Decides. `patient`: calls may still wait for the mesh's first word."""
    if not intercepted or verdict is Verdict.ABSENT:
        return Way.DIRECT
    if verdict is Verdict.SERVED:
        return Way.MESH
    return Way.UNDECIDED if verdict is Verdict.AWAITED and patient else Way.FALLBACK


def verdict_on(resolution: Snapshot | Unresolvable, before: Verdict) -> tuple[Verdict, str]:
    """Reads what the mesh says of a host: the verdict, and where it FAILED why.

    A registry answers for any name; it knows the host if there are, or were, instances.
    """
    if isinstance(resolution, Unresolvable):
        return (Verdict.ABSENT if resolution.absent else Verdict.FAILED), resolution.problem
    if resolution.target.startswith("mesh:") and not _has_instances(resolution):
        known = before in (Verdict.SERVED, Verdict.FAILED)
        return (Verdict.FAILED if known else Verdict.ABSENT), "the registry has no instances any more"
    return Verdict.SERVED, ""


def _has_instances(snapshot: Snapshot) -> bool:
    return any(
        locality.endpoints
        for cluster in snapshot.clusters.values()
        if isinstance(cluster, ResolvedCluster)
        for leaf in cluster.leaves
        if leaf.endpoints is not None
        for locality in leaf.endpoints.localities
    )
