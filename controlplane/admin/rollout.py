"""`GET /v1/rollout-report`: reads the query, gathers what this control plane knows, and has it summed up. For `api`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from controlplane.loads.book import LoadBook
from controlplane.loads.report import LATEST, conclude, facts, service_of
from controlplane.loads.traffic import SPAN, traffic
from controlplane.plane import Plane
from controlplane.server.status import ClientInfo
from meshsdk.errors import ConfigurationError

_SPAN = 600.0  # seconds that a report is about, unless the query says otherwise
_KNOWN = ("app", "since", "until")


class RolloutReports:
    """Thread-safe as what it asks is. `clock`: unix seconds."""

    def __init__(
        self,
        book: LoadBook,
        plane: Plane,
        clients: Callable[[], Iterable[ClientInfo]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._book = book
        self._plane = plane
        self._clients = clients
        self._clock = clock

    def report(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        """Returns the report of `app` ("" for all) from `since` to `until`, unix seconds; the last ten minutes.

        Raises ConfigurationError for what is no such span.
        """
        if unknown := [name for name in query if name not in _KNOWN]:
            raise ConfigurationError(f"{unknown[0][:80]!r} is not known here; known are {', '.join(_KNOWN)}")
        now = self._clock()
        app = query.get("app", [""])[0][:253]
        until = _seconds(query, "until", now)
        since = _seconds(query, "since", max(0.0, until - _SPAN))
        if since >= until:
            raise ConfigurationError(f"since {since:.0f} is not before until {until:.0f}")
        page = self._book.page(since, until)
        concerns: dict[str, bool] = {}
        for client in self._clients():
            concerns[client.node.id] = concerns.get(client.node.id, False) or _may_call(client, app)
        found = facts(page, app, since, until, now, concerns, self._replicas())
        return {**found, **conclude([("", found)])}

    def traffic(self) -> list[dict[str, Any]]:
        """Returns what the calls of the last minute came to, by service."""
        now = self._clock()
        return traffic(self._book.page(max(0.0, now - SPAN), now))

    def _replicas(self) -> int:
        store = self._plane.shared_store()
        count = store.facts().get("replicas", 1) if store is not None else 1
        return count if isinstance(count, int) else 1


def _seconds(query: Mapping[str, list[str]], name: str, otherwise: float) -> float:
    text = query.get(name, [""])[0]
    try:
        value = float(text) if text else otherwise
    except ValueError:
        value = math.nan
    if not 0 <= value <= LATEST:  # nan is not either
        raise ConfigurationError(f"{name}={text[:40]!r}: expected unix seconds, from 0 to {LATEST}")
    return value


def _may_call(client: ClientInfo, app: str) -> bool:
    """Tells whether a client may call an application, as far as what it subscribed to says."""
    if not app:
        return True
    for each in client.subscriptions:
        if each.wildcard or each.collections or each.names > len(each.asked):
            return True  # all of it, or more names than are listed
        if any(service_of(name) == app for name in each.asked):
            return True
    return False
