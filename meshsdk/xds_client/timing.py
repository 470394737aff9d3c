"""The client's waits in seconds, and the backoff between attempts. Pure: the jitter's number is drawn by the caller."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Defaults follow gRFC A57 and A88 and gRPC's connection backoff, whose cap of 120 s is 30 s here (as Envoy's).

    `connect_timeout` ends an attempt to reach a server that does not answer at all.
    """

    resource_timeout: float = 15.0
    slow_resource_timeout: float = 30.0
    backoff_initial: float = 1.0
    backoff_multiplier: float = 1.6
    backoff_max: float = 30.0
    backoff_jitter: float = 0.2
    connect_timeout: float = 10.0

    def backoff(self, attempt: int, draw: float) -> float:
        """Returns the wait after failed attempt number `attempt` (0 is the first); `draw` is in [0, 1)."""
        # The exponent is capped as well: after weeks without a server the power would leave the range of a float.
        delay = min(self.backoff_initial * self.backoff_multiplier ** min(attempt, 64), self.backoff_max)
        return delay * (1.0 + self.backoff_jitter * (2.0 * draw - 1.0))
