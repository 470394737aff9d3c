"""Weighted round robin: each endpoint in proportion to what it says it can carry (gRFC A58).

Called by `picker.build`, which builds again each `update_period`. The weights become a smooth sequence (`sequence`)
where A58 describes a static stride scheduler: the same proportions, without turns that are skipped. While fewer than
two endpoints have a usable weight, the configured weights count, as in plain round robin.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshsdk.lb.backend import Backend
from meshsdk.lb.endpoint_load import usable
from meshsdk.model.policy import WeightedRoundRobin

_ENOUGH = 2
_SHORTEST_PERIOD = 0.1  # seconds, A58
_LEAST, _MOST = 0.1, 10.0  # a weight counts as this part of the mean at least, and at most (gRPC's scheduler)


def load_weights(
    backends: Sequence[Backend], configured: Sequence[float], policy: WeightedRoundRobin, now: float
) -> Sequence[float]:
    """Returns the weight (> 0) of each backend; those that have not told one get the mean of those that have.

    `configured`: the endpoints' own weights, less for those in slow start, which lowers told weights likewise.
    """
    told = [usable(backend.load, policy, now) for backend in backends]
    known = [weight for weight in told if weight > 0]
    if len(known) < _ENOUGH:
        return configured
    mean = sum(known) / len(known)
    bounded = (min(max(weight, mean * _LEAST), mean * _MOST) if weight > 0 else mean for weight in told)
    return [
        weight * own / backend.endpoint.weight
        for weight, own, backend in zip(bounded, configured, backends, strict=True)
    ]


def update_after(policy: WeightedRoundRobin, now: float) -> float:
    """Returns when the weights are to be computed anew."""
    return now + max(policy.update_period, _SHORTEST_PERIOD)
