"""Several control planes as one registry: the first that answers is asked, in the order of the bootstrap.

Opened by `default_registry` where `xds_servers` has more than one, so that an instance stays registered when the
control plane that it registered with is gone, as its clients stay served (gRFC A71). Replicas that share a store know
each other's leases; of others one that does not know a lease says so, and the caller registers anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from meshsdk.discovery.controlplane import ControlPlaneAway, ControlPlaneRegistry
from meshsdk.discovery.following import Following
from meshsdk.discovery.registry import Lease
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Increment, Instance, InstanceState, Revision

_LOG = logging.getLogger("meshsdk.discovery")
_Answer = TypeVar("_Answer")
_RETURN = 4  # renewals between two looks whether a control plane that is preferred is back


class ControlPlaneReplicas:
    """Implements `meshsdk.discovery.registry.Registry` on `replicas`, the preferred one first; owns them."""

    def __init__(self, replicas: Sequence[ControlPlaneRegistry]) -> None:
        self._replicas = tuple(replicas)
        self._lock = threading.Lock()
        self._current = 0  # guarded by _lock
        self._renewals = 0  # guarded by _lock; with another than the first, since the last look at the first

    @property
    def server(self) -> str:
        """The control plane that is asked first now."""
        return self._replicas[self._current].server

    def register(self, instance: Instance, ttl: float) -> Lease:
        """See `Registrar`."""
        return self._first_to_answer(lambda replica: replica.register(instance, ttl))

    def renew(self, lease: Lease) -> Lease:
        """See `Registrar`. Now and then the preferred one is asked first again: clients return to it too (A71).

        Where it is back and does not share leases with the one in use, LeaseLapsed has the caller register with it.
        """
        if self._look_back():
            return self._first_to_answer(lambda replica: replica.renew(lease), start=0)
        return self._first_to_answer(lambda replica: replica.renew(lease))

    def set_state(self, lease: Lease, state: InstanceState) -> None:
        """See `Registrar`."""
        self._first_to_answer(lambda replica: replica.set_state(lease, state))

    def deregister(self, lease: Lease) -> None:
        """See `Registrar`."""
        self._first_to_answer(lambda replica: replica.deregister(lease))

    def publish_revision(self, revision: Revision) -> None:
        """See `Catalog`."""
        self._first_to_answer(lambda replica: replica.publish_revision(revision))

    def get_revision(self, app: str, revision: str) -> Revision | None:
        """See `Catalog`."""
        return self._first_to_answer(lambda replica: replica.get_revision(app, revision))

    def map_service(self, service: str) -> tuple[str, ...]:
        """See `Catalog`."""
        return self._first_to_answer(lambda replica: replica.map_service(service))

    def watch(self, app: str, unit: str, on_increment: Callable[[Increment], None]) -> Following:
        """See `Feed`. Follows the control plane in use now, and waits for that one through an outage."""
        return self._replicas[self._current].watch(app, unit, on_increment)

    def close(self) -> None:
        """See `Registry`."""
        for replica in self._replicas:
            replica.close()

    def _look_back(self) -> bool:
        with self._lock:
            if self._current == 0:
                return False
            self._renewals = (self._renewals + 1) % _RETURN
            return self._renewals == 0

    def _first_to_answer(self, ask: Callable[[ControlPlaneRegistry], _Answer], start: int | None = None) -> _Answer:
        """Asks from the one in use on, all round; a refusal is an answer. RegistryError where all are away."""
        first = self._current if start is None else start
        count = len(self._replicas)
        away: list[str] = []
        for place in ((first + step) % count for step in range(count)):
            try:
                answer = ask(self._replicas[place])
            except ControlPlaneAway as error:
                away.append(str(error))
                continue
            except RegistryError:
                self._settle(place)
                raise
            self._settle(place)
            return answer
        raise RegistryError("; ".join(away))

    def _settle(self, place: int) -> None:
        with self._lock:
            moved, self._current = self._current != place, place
        if moved:
            _LOG.warning("registered with control plane %s from now on", self._replicas[place].server)
