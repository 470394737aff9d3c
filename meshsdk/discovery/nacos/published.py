"""The instances that this process has registered, as the server has them. Called by `registry`.

To Nacos a connection publishes for each service either one instance or a batch: every change of one publishes all of
that service's. When the connection ends the server forgets them; the leases of the old connection are void then.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from dataclasses import replace

from meshsdk.discovery.nacos.hosts import to_host
from meshsdk.discovery.nacos.place import Place
from meshsdk.discovery.nacos.session import Session
from meshsdk.discovery.nacos.wire import JsonObject
from meshsdk.discovery.registry import Lease, LeaseLapsed
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, InstanceState

_TTL = 3.0  # seconds; to renew costs nothing here, and a third of this is how late a lost connection is noticed


class Published:
    """Registrations on the session's connection. Usable from any thread; one change at a time."""

    def __init__(self, session: Session, place: Place) -> None:
        self._session = session
        self._place = place
        self._lock = threading.Lock()
        self._serial = itertools.count(1)
        self._held: dict[str, Instance] = {}  # by lease id; guarded by _lock, as is all below
        self._leases: dict[tuple[str, str], str] = {}  # (app, id) -> lease id
        self._epoch = 0  # the connection on which they are published

    def add(self, instances: Iterable[Instance]) -> list[Lease]:
        """Publishes instances, in the place of those of the same (app, id). RegistryError where the server refuses."""
        with self._lock:
            self._forget_lost()
            held, leases = dict(self._held), dict(self._leases)
            given: list[Lease] = []
            apps: set[str] = set()
            for instance in instances:
                to_host(instance)  # raises for what Nacos cannot have
                held.pop(leases.get((instance.app, instance.id), ""), None)
                lease = Lease(f"nacos-{next(self._serial)}", _TTL)
                held[lease.id] = instance
                leases[instance.app, instance.id] = lease.id
                apps.add(instance.app)
                given.append(lease)
            for app in apps:
                self._publish("register at", app, held)
            self._held, self._leases = held, leases
            return given

    def check(self, lease: Lease) -> None:
        """Raises LeaseLapsed for a lease that holds nothing on the present connection."""
        with self._lock:
            self._instance(lease)

    def set_state(self, lease: Lease, state: InstanceState) -> None:
        """Publishes an instance in another state. Raises LeaseLapsed."""
        with self._lock:
            instance = self._instance(lease)
            if instance.state is not state:
                held = {**self._held, lease.id: replace(instance, state=state)}
                self._publish("set the state at", instance.app, held)
                self._held = held

    def remove(self, lease: Lease) -> None:
        """Publishes no longer; a lease that is void is no error."""
        with self._lock:
            self._forget_lost()
            instance = self._held.get(lease.id)
            if instance is None:
                return
            held = {identity: other for identity, other in self._held.items() if identity != lease.id}
            self._publish("deregister from", instance.app, held, leaving=instance)
            self._held = held
            self._leases.pop((instance.app, instance.id), None)

    def _instance(self, lease: Lease) -> Instance:
        self._forget_lost()
        instance = self._held.get(lease.id)
        if instance is None:
            raise LeaseLapsed(f"lease {lease.id!r} is not of the present connection to {self._place.words}")
        return instance

    def _forget_lost(self) -> None:
        """What was published on a connection that ended is no longer there."""
        if self._session.epoch != self._epoch:
            self._held, self._leases, self._epoch = {}, {}, 0

    def _publish(self, verb: str, app: str, held: dict[str, Instance], leaving: Instance | None = None) -> None:
        """Tells the server all instances of `app` there are to be."""
        service: JsonObject = {
            "module": "naming",
            "namespace": self._place.namespace,
            "serviceName": app,
            "groupName": self._place.group,
        }
        hosts = [to_host(instance) for instance in held.values() if instance.app == app]
        if len(hosts) == 1:
            asked: JsonObject = {"type": "registerInstance", "instance": hosts[0]}
            answer = self._session.ask(verb, "InstanceRequest", service | asked)
        elif hosts:
            asked = {"type": "batchRegisterInstance", "instances": hosts}
            answer = self._session.ask(verb, "BatchInstanceRequest", service | asked)
        elif leaving is not None:
            asked = {"type": "deregisterInstance", "instance": to_host(leaving)}
            answer = self._session.ask(verb, "InstanceRequest", service | asked)
        else:
            return
        if self._epoch not in {0, answer.epoch}:
            self._session.drop(answer.epoch)  # it has this service's instances, and not the others' of before
            raise RegistryError(f"cannot {verb} {self._place.words}: the connection ended meanwhile")
        self._epoch = answer.epoch
