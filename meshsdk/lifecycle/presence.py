"""How a service is seen from outside: by the registry, by callers in trailing metadata, by health probes.

Held by a service, sync or aio; `going_offline` is the way out that both drive. Nothing here waits.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Generator

from meshsdk.interceptors.activity import Sight
from meshsdk.lifecycle.drain import Drain, Leave, Look, Stop
from meshsdk.lifecycle.health_table import HealthTable
from meshsdk.lifecycle.keeper import Keeper
from meshsdk.lifecycle.offer import Offer
from meshsdk.model.instance import Instance, InstanceState

_LOG = logging.getLogger("meshsdk.lifecycle")
_NOTHING = Sight(0, 0)


class Asked(enum.Enum):
    """What a service can be asked while it serves or drains."""

    DRAIN = "drain"
    SIGNAL = "signal"  # the first drains, the second stops
    STOP = "stop"


class Presence:
    """Tells the outside. Methods may be called from any thread; `health` is told by the shell, in its own way."""

    def __init__(self, offer: Offer, ttl: float) -> None:
        self.instance: Instance = offer.instance
        self.health = HealthTable(offer.services)
        self.has_own_health = not offer.has_health
        self._registry = offer.registry if offer.opened else None
        self._activity = offer.activity
        self._keeper = Keeper(offer.registry, offer.instance, offer.revision, ttl)
        if offer.activity is None:
            _LOG.warning(
                "%s: the server was built without meshsdk.server_interceptors(): a drain cannot see its calls nor tell "
                "callers; pass interceptors=meshsdk.server_interceptors() to the server",
                offer.instance.app,
            )

    @property
    def state(self) -> InstanceState | None:
        """The state that the registry holds; None while it holds nothing."""
        return self._keeper.told

    @property
    def left(self) -> bool:
        """Whether the registry took the deregistration."""
        return self._keeper.gone

    def start(self) -> None:
        """Begins to register as STARTING, in the background."""
        self._keeper.start()

    def online(self) -> None:
        """The server takes calls."""
        self._keeper.want(InstanceState.ONLINE)

    def draining(self) -> None:
        """Peers shall send no more."""
        if self._activity is not None:
            self._activity.draining = True
        self._keeper.want(InstanceState.DRAINING)

    def leave(self) -> None:
        """Takes the instance out of the registry, in the background."""
        self._keeper.leave()

    def sight(self) -> Sight:
        """Returns the server's calls, as far as they can be seen."""
        return self._activity.look() if self._activity is not None else _NOTHING

    def wait_online(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for the registry to hold the instance ONLINE; returns whether it does."""
        return self._keeper.wait_told(InstanceState.ONLINE, timeout)

    def close(self) -> None:
        """Ends the background thread, and the registry if the service opened it."""
        self._keeper.close()
        if self._registry is not None:
            self._registry.close()


def going_offline(
    drain: Drain, presence: Presence, now: Callable[[], float]
) -> Generator[Look | Stop, Asked | None, None]:
    """Drains: yields what to wait for (`Look`, sent what was asked meanwhile) and, last, the `Stop` to perform."""
    drain.begin(now())
    presence.draining()
    decision: Look | Stop | Leave = Leave()
    while not isinstance(decision, Stop):
        sight = presence.sight()
        told = presence.state is InstanceState.DRAINING
        decision = drain.look(now(), arrived=sight.arrived, in_flight=sight.in_flight, told=told, left=presence.left)
        if isinstance(decision, Leave):
            presence.leave()
        elif (yield decision) in (Asked.SIGNAL, Asked.STOP):
            drain.hurry()
    drain.stopped()
