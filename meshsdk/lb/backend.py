"""A backend: one endpoint as calls see it, with its connectivity and its calls in flight.

Made and moved by the channel layer, read by pickers. It never connects and never closes anything.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, Protocol

from meshsdk.lb.endpoint_load import LoadWeight
from meshsdk.model.endpoints import Endpoint


class Connectivity(enum.Enum):
    """How far the connection to an endpoint is. FAILED lasts until READY, whatever is tried meanwhile (gRFC A62)."""

    IDLE = "idle"  # not tried yet, or closed by the peer
    CONNECTING = "connecting"  # first attempt under way
    READY = "ready"
    FAILED = "failed"  # the last attempt failed; the next one waits for its backoff or is under way


class AttemptWatch(Protocol):
    """Told how each attempt on one endpoint ended: what outlier ejection and weights by load go by.

    From any thread; never blocks, never raises. `code`: gRPC status name.
    """

    def succeeded(self) -> None:
        """The attempt ended OK."""

    def failed(self, code: str, *, local_origin: bool) -> None:
        """It ended otherwise; `local_origin`: not by word of the server (no connection, connection lost, no answer)."""

    def reported(self, trailing: Sequence[Any]) -> None:
        """It ended, well or not, with this trailing metadata ((key, value) pairs)."""


class Backend:
    """One endpoint with its state.

    Thread rules: `calls` and `load` aside, fields are written by the one thread (or lock) that builds this cluster's
    pickers, and read by any. `calls` is appended to when a call starts and popped from when it ends, by any thread:
    both are atomic with and without the GIL, which `in_flight += 1` would not be. A subclass may count elsewhere by
    overriding `in_flight`. `load` is a frozen value that any thread replaces.
    """

    __slots__ = ("appeared", "calls", "ejected", "endpoint", "incarnation", "load", "state", "watch")

    def __init__(self, endpoint: Endpoint, calls: list[None] | None = None) -> None:
        """Starts IDLE; `calls` may be shared with other backends over the same connection."""
        self.endpoint = endpoint
        self.state = Connectivity.IDLE
        self.appeared: float | None = None
        """When a picker first saw it READY (unix seconds, set by `picker.build`): the start of its slow start."""
        self.incarnation = 0.0
        """The endpoint's `started_at` when it appeared: with another one, another process serves the address."""
        self.ejected = False
        """An outlier: not picked, unless its priority panics."""
        self.load: LoadWeight | None = None
        """What it last reported of its load; None: nothing, since it was connected."""
        self.watch: AttemptWatch | None = None
        """Who is told how attempts end; None: nobody wants to know."""
        self.calls: list[None] = [] if calls is None else calls

    @property
    def in_flight(self) -> int:
        """The number of calls that run on this endpoint now, from this process."""
        return len(self.calls)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.endpoint.address} {self.state.value} in_flight={self.in_flight}>"
