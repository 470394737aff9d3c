"""Round robin that honours endpoint weights (envoy.load_balancing_policies.round_robin; order: see `sequence`)."""

from __future__ import annotations

from collections.abc import Sequence

from meshsdk.lb.backend import Backend, Connectivity
from meshsdk.lb.sequence import smooth
from meshsdk.lb.stand_in import Pick, StandIn

_READY = Connectivity.READY


def round_robin(backends: Sequence[Backend], weights: Sequence[float], start: int, other: StandIn) -> Pick:
    """Returns a pick that takes turns; `start` is the first turn. Safe for any number of threads, without a lock."""
    upcoming = smooth(backends, weights, start)

    def pick(_hash_key: int | None) -> Backend:
        backend = upcoming()
        return backend if backend.state is _READY else other(backend)

    return pick
