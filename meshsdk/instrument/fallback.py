"""Says that calls take the direct path because the mesh cannot: a counter, and one line in the log for each outage.

Called by gates and woven channels. OpenTelemetry is imported with the first such call; without an SDK it costs nothing.
"""

from __future__ import annotations

import enum
import functools
import logging
from typing import Any

_LOG = logging.getLogger("meshsdk.instrument")
COUNTER = "meshsdk.client.fallbacks"


class Reason(enum.Enum):
    """Why: attribute `reason` of the counter."""

    NO_CONFIGURATION = "no_configuration"
    ENGINE = "engine"


@functools.lru_cache(maxsize=1)
def _counter() -> Any:
    from opentelemetry import metrics  # noqa: PLC0415 - programs whose mesh works do not pay for it

    return metrics.get_meter("meshsdk").create_counter(
        COUNTER, unit="{call}", description="Calls that took the application's direct path because the mesh could not"
    )


class Fallbacks:
    """Of one target. `_out`: guarded by the gate that owns it."""

    def __init__(self, target: str) -> None:
        """`target`: as the application gave it."""
        self._target = target
        self._out = False
        self._raised: set[str] = set()  # any thread adds; said twice at worst

    def count(self, reason: Reason) -> None:
        """One call takes the direct path. Any thread."""
        _counter().add(1, {"target": self._target, "reason": reason.value})

    def began(self, problem: str) -> None:
        """The mesh cannot be used; said once until `ended`."""
        if not self._out:
            self._out = True
            _LOG.warning("%s: calls take the direct path: %s", self._target, problem)

    def raised(self, error: Exception) -> None:
        """The engine raised before a call had left; said once for each kind of error."""
        kind = type(error).__name__
        if kind not in self._raised:
            self._raised.add(kind)
            _LOG.warning("%s: the mesh raised; the call takes the direct path", self._target, exc_info=error)

    def ended(self) -> None:
        """The mesh can be used again, or is not wanted."""
        if self._out:
            self._out = False
            _LOG.info("%s: calls take the mesh's way again", self._target)
