"""One call of a session (gRFC A55, A60): the endpoint that it asks for, and what its caller is told of where it was.

Made by a `Passage` for calls of a route with a `StatefulSession`, asked for each attempt before the picker is.
"""

from __future__ import annotations

import random
from typing import Any

from meshsdk.channel.pool import PooledBackend
from meshsdk.channel.stack import DROPPED, Hold, HoldKind, Lane, Metadata, Target
from meshsdk.lb.affinity import Seat, applies, seat, set_cookie
from meshsdk.lb.backend import Connectivity
from meshsdk.lb.picker import Picker, Waiting
from meshsdk.model.filters import StatefulSession

_CONNECTING = (Connectivity.IDLE, Connectivity.CONNECTING)


class Sitting:
    """Owned by whoever makes the call's next attempt; `told` is called by whoever reads the answer's first headers."""

    __slots__ = ("_asked", "_session", "_used")

    def __init__(self, session: StatefulSession, metadata: Metadata | None) -> None:
        """`metadata`: as the caller gave it."""
        self._session = session
        self._asked = seat(session, metadata)
        self._used: Seat | None = None

    def lane(self, target: Target, lane: Lane) -> Lane:
        """Returns the lane to the session's cluster, where the route splits its calls over several (A60)."""
        routes = target.routes
        if self._asked is None or self._asked.cluster in ("", lane.cluster) or routes is None:
            return lane
        return routes.lane_to(lane, self._asked.cluster) or lane

    def take(self, target: Target, lane: Lane, avoid: frozenset[str]) -> tuple[Lane, PooledBackend] | Hold | None:
        """Returns the session's endpoint, or a hold until it is connected; None if the picker is to be asked.

        A strict session waits for none but its own endpoint, and fails without it. One that is not strict leaves an
        endpoint that a retry is to `avoid`.
        """
        asked, strict = self._asked, self._session.strict
        if asked is None or (asked.address in avoid and not strict):
            return None
        backend = target.seated(lane.balancer, asked.address)
        if backend is not None and backend.connection.ready():
            category = _dropped(target, lane)
            return (lane, backend) if category is None else Hold(HoldKind.REFUSED, DROPPED + category)
        if backend is not None and backend.state in _CONNECTING:
            return Hold(HoldKind.CONNECTING, f"connecting to {asked.address}, which the call's session is bound to")
        if not strict:
            return None
        return Hold(HoldKind.FAILING, f"{asked.address}, which the call's session is strictly bound to, cannot be used")

    def seated(self, lane: Lane, backend: PooledBackend) -> None:
        """An attempt goes to `backend`."""
        self._used = Seat(backend.endpoint.address, "" if lane.route.single is not None else lane.cluster)

    def told(self, metadata: Any) -> Any:
        """Returns an answer's first headers with the cookie, where the call was not where it asked to go."""
        cookie = None if self._used is None else set_cookie(self._session, self._asked, self._used)
        return metadata if cookie is None else (*(metadata or ()), cookie)


def sitting(session: StatefulSession | None, method: str, metadata: Metadata | None) -> Sitting | None:
    """Returns a call's sitting; None where its route has no session, or none for this method."""
    return Sitting(session, metadata) if session is not None and applies(session, method) else None


def _dropped(target: Target, lane: Lane) -> str | None:
    """Returns the category under which the call is dropped, as any other of its cluster may be (A32)."""
    if isinstance(lane.balancer.picker, Waiting):
        target.refresh()  # its endpoint came up a moment before the picker that knows the drops
    picker = lane.balancer.picker
    return picker.dropped(random.random) if isinstance(picker, Picker) else None
