"""How long to wait before asking a registry again. Pure: the draw comes in, nothing sleeps here."""

from __future__ import annotations

_FIRST = 0.2  # seconds
_GROWTH = 1.6  # as gRPC's connection backoff
_CEILING = 5.0  # seconds; a control plane that restarted is found again within this


def delay(failures: int, draw: float) -> float:
    """Returns the seconds to wait after `failures` >= 1 failures in a row; `draw` in [0, 1) spreads them by +-20 %."""
    return min(_FIRST * _GROWTH ** min(failures - 1, 20), _CEILING) * (0.8 + 0.4 * draw)
