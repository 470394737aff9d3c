"""Slow start: endpoints that have just appeared get less than their weight, more with every second.

envoy.config.cluster.v3.Cluster.SlowStartConfig, for round_robin, random and least_request. Called by `picker.build`,
which is called again when the weights it got have `expired`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meshsdk.lb.backend import Backend, Connectivity
from meshsdk.model.endpoints import Endpoint
from meshsdk.model.policy import SlowStart

_STEPS = 20  # rebuilds per window: weights move by steps of about a twentieth
_SHORTEST_STEP = 0.1  # seconds
_LEAST = 1e-3  # schedulers take no weight of 0, and an endpoint without calls would never warm up


@dataclass(frozen=True, slots=True)
class Warmed:
    """Weights as of now, and when they should be computed again (unix seconds); None: all endpoints are warm."""

    weights: tuple[float, ...]
    expires: float | None


def note_appearance(members: Iterable[tuple[Endpoint, Backend]], now: float) -> None:
    """Notes when each endpoint was first seen READY; after a failure or with a new start time it begins anew."""
    for endpoint, backend in members:
        if backend.state is Connectivity.FAILED:
            backend.appeared = None
        elif backend.state is Connectivity.READY and (
            backend.appeared is None or backend.incarnation != endpoint.started_at
        ):
            backend.appeared, backend.incarnation = now, endpoint.started_at


def warmed(members: Sequence[tuple[Endpoint, Backend]], config: SlowStart | None, now: float) -> Warmed:
    """Returns the weights of connected endpoints; their own ones where nothing is warming up."""
    weights = tuple(endpoint.weight for endpoint, _ in members)
    if config is None or config.window <= 0:
        return Warmed(weights, None)
    ages = [now - _start(endpoint, backend, now) for endpoint, backend in members]
    if all(age >= config.window for age in ages):
        return Warmed(weights, None)
    scaled = tuple(weight * warmth(age, config) for weight, age in zip(weights, ages, strict=True))
    return Warmed(scaled, now + max(_SHORTEST_STEP, config.window / _STEPS))


def warmth(age: float, config: SlowStart) -> float:
    """Returns the factor of an endpoint `age` seconds old: (age / window) ** (1 / aggression), min_weight to 1."""
    if age >= config.window:
        return 1.0
    grown: float = (max(age, 0.0) / config.window) ** (1 / config.aggression)
    return max(config.min_weight, grown, _LEAST)


def _start(endpoint: Endpoint, backend: Backend, now: float) -> float:
    """When it began: by its own account, but no later than we saw it (clocks differ, and would keep it cold)."""
    seen = now if backend.appeared is None else backend.appeared
    return min(endpoint.started_at, seen) if endpoint.started_at > 0 else seen
