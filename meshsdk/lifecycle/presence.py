"""How a service is seen from outside: by the registry, by callers in trailing metadata, by health probes.

Held by a service, sync or aio, and moved by its `course`. Nothing here waits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import MappingProxyType

from meshsdk.interceptors.activity import Sight
from meshsdk.lifecycle.health_table import HealthTable
from meshsdk.lifecycle.keeper import Keeper
from meshsdk.lifecycle.offer import Offer
from meshsdk.model.instance import Instance, InstanceState

_LOG = logging.getLogger("meshsdk.lifecycle")
_NOTHING = Sight(0, 0)


class Presence:
    """Tells the outside. `health` is told by the shell, in its own way.

    Thread rules: `_labels` and `_came_up` are the course's, which one thread or task drives; the rest is for any.
    """

    def __init__(self, offer: Offer, ttl: float) -> None:
        self.instance: Instance = offer.instance
        self.health = HealthTable(offer.services)
        self.has_own_health = not offer.has_health
        self._registry = offer.registry if offer.opened else None
        self._activity = offer.activity
        self._labels = offer.instance.labels
        self._came_up: float | None = None  # unix seconds of the first `online`
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
        """Peers may call. The first time is the moment from which they warm it up (`started_at`)."""
        if self._came_up is None:
            self._came_up = time.time()
            self._keeper.amend(self._labels, self._came_up)
        self._set_draining(draining=False)
        self._keeper.want(InstanceState.ONLINE)

    def draining(self) -> None:
        """Peers shall send no more."""
        self._set_draining(draining=True)
        self._keeper.want(InstanceState.DRAINING)

    def relabel(self, labels: Mapping[str, str | None]) -> None:
        """Changes these labels of the instance; None removes one."""
        changed = {**self._labels, **labels}
        self._labels = MappingProxyType({name: text for name, text in changed.items() if text is not None})
        self._keeper.amend(self._labels, self.instance.started_at if self._came_up is None else self._came_up)

    def leave(self) -> None:
        """Takes the instance out of the registry, in the background."""
        self._keeper.leave()

    def sight(self) -> Sight:
        """Returns the server's calls, as far as they can be seen."""
        return self._activity.look() if self._activity is not None else _NOTHING

    def cut(self, details: str) -> int:
        """Ends the calls in flight UNAVAILABLE; returns how many there were. For asyncio, on the server's loop."""
        return self._activity.cut(details) if self._activity is not None else 0

    def wait_online(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds for the registry to hold the instance ONLINE; returns whether it does."""
        return self._keeper.wait_told(InstanceState.ONLINE, timeout)

    def close(self) -> None:
        """Ends the background thread, and the registry if the service opened it."""
        self._keeper.close()
        if self._registry is not None:
            self._registry.close()

    def _set_draining(self, *, draining: bool) -> None:
        if self._activity is not None:
            self._activity.draining = draining
