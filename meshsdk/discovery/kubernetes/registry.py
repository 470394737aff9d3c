"""Kubernetes as a `Registry`. Opened by `open_url` of the package.

Registering writes an EndpointSlice that the pod owns (`own_slice`); renewing asks whether it is still there and still
this lease's. There is nothing to prolong, so leases are granted for longer than asked. Watches are `SlicesWatch`es over
one shared table of pods.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable

from meshsdk.discovery import limits
from meshsdk.discovery.kubernetes.api import ApiServer, JsonObject, Refused
from meshsdk.discovery.kubernetes.catalog import ConfigMapCatalog
from meshsdk.discovery.kubernetes.own_slice import (
    LEASE,
    Owner,
    annotation_of,
    check_app,
    own_name,
    own_slice,
    with_state,
)
from meshsdk.discovery.kubernetes.place import Place
from meshsdk.discovery.kubernetes.pods import PodTable
from meshsdk.discovery.kubernetes.slices_watch import SLICES, SlicesWatch
from meshsdk.discovery.registry import Lease, LeaseLapsed
from meshsdk.discovery.watches import Watches
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Increment, Instance, InstanceState, Revision

_LEAST_TTL = 30.0  # seconds; a third of it lies between two looks at the slice
_CLOSING = 2.0  # seconds to wait for a watch that is in the middle of a request
_ATTEMPTS = 5  # at a write that another writer came before
_NOT_FOUND = 404
_CONFLICT = 409


class KubernetesRegistry:
    """Implements `meshsdk.discovery.registry.Registry` in the namespace of `place`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._api = ApiServer(place)
        self._catalog = ConfigMapCatalog(self._api, place.namespace)
        self._slices = SLICES.format(place.namespace)
        self._lock = threading.Lock()
        self._pods = PodTable(self._api, place)
        self._owner: Owner | None = None  # guarded by _lock; the pod, once it was asked for
        self._watches: Watches[SlicesWatch] = Watches(f"at {place.words}")

    def register(self, instance: Instance, ttl: float) -> Lease:
        """See `Registrar`. The lease lasts as long as the pod. RegistryError also outside of a pod."""
        if problem := limits.instance_problem(instance):
            raise RegistryError(problem)
        token = secrets.token_hex(16)
        body = own_slice(instance, token, self._pod())
        name = own_name(instance.app, instance.id)
        for _ in range(_ATTEMPTS):
            try:
                if not self._created(body):
                    found = self._find("register at", name)
                    if found is None:
                        continue
                    self._put("register at", name, body, found)
            except Refused as refused:
                if refused.status != _CONFLICT:
                    raise
                continue
            return Lease(f"{name}:{token}", max(ttl, _LEAST_TTL))
        raise RegistryError(f"cannot register at {self._place.words}: another writer of {name} came first every time")

    def renew(self, lease: Lease) -> Lease:
        """See `Registrar`."""
        self._held("renew at", lease)
        return lease

    def set_state(self, lease: Lease, state: InstanceState) -> None:
        """See `Registrar`."""
        for _ in range(_ATTEMPTS):
            name, _, found = self._held("set the state at", lease)
            try:
                self._put("set the state at", name, with_state(found, state), found)
            except Refused as refused:
                if refused.status != _CONFLICT:
                    raise
                continue
            return
        raise RegistryError(f"cannot set the state at {self._place.words}: another writer came first every time")

    def deregister(self, lease: Lease) -> None:
        """See `Registrar`."""
        for _ in range(_ATTEMPTS):
            try:
                name, _token, found = self._held("deregister from", lease)
            except LeaseLapsed:
                return
            exactly = {key: _metadata(found).get(key) for key in ("uid", "resourceVersion")}
            options: JsonObject = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": exactly}
            try:
                self._api.ask("deregister from", "DELETE", f"{self._slices}/{name}", body=options)
            except Refused as refused:
                if refused.status not in {_CONFLICT, _NOT_FOUND}:
                    raise
                continue
            return
        raise RegistryError(f"cannot deregister from {self._place.words}: another writer came first every time")

    def publish_revision(self, revision: Revision) -> None:
        """See `Catalog`."""
        self._catalog.publish_revision(revision)

    def get_revision(self, app: str, revision: str) -> Revision | None:
        """See `Catalog`."""
        return self._catalog.get_revision(app, revision)

    def map_service(self, service: str) -> tuple[str, ...]:
        """See `Catalog`."""
        return self._catalog.map_service(service)

    def watch(self, app: str, unit: str, on_increment: Callable[[Increment], None]) -> SlicesWatch:
        """See `Feed`. Called on threads of the registry, one at a time."""
        if app:
            check_app(app)
        return self._watches.begin(SlicesWatch(self._api, self._place, self._pods, (app, unit), on_increment))

    def close(self) -> None:
        """See `Registry`."""
        watches = self._watches.close()
        self._pods.close()
        for watch in watches:
            watch.join(_CLOSING)
        self._api.close()

    def _pod(self) -> Owner:
        """Returns the pod that this process runs in, asked for once."""
        with self._lock:
            if self._owner is not None:
                return self._owner
        name, namespace = self._place.pod, self._place.namespace
        if not name:
            raise RegistryError(
                f"cannot register at {self._place.words}: only pods register there, and this process does not know its "
                "own: set POD_NAME by the downward API, or pod=NAME in the URL"
            )
        found = self._api.ask("find this pod at", "GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
        owner = Owner(namespace, name, str(_metadata(found).get("uid")))
        with self._lock:
            self._owner = owner
        return owner

    def _created(self, body: JsonObject) -> bool:
        """Creates a slice; returns False where there is one of its name."""
        try:
            self._api.ask("register at", "POST", self._slices, body=body)
        except Refused as refused:
            if refused.status != _CONFLICT:
                raise
            return False
        return True

    def _find(self, verb: str, name: str) -> JsonObject | None:
        try:
            return self._api.ask(verb, "GET", f"{self._slices}/{name}")
        except Refused as refused:
            if refused.status == _NOT_FOUND:
                return None
            raise

    def _held(self, verb: str, lease: Lease) -> tuple[str, str, JsonObject]:
        """Returns name, token and slice of a lease; LeaseLapsed where it holds nothing."""
        name, _, token = lease.id.partition(":")
        found = self._find(verb, name) if name.startswith("meshsdk-") and token else None
        if found is None or annotation_of(found, LEASE) != token or _metadata(found).get("deletionTimestamp"):
            with self._lock:
                self._owner = None  # it may have been a pod of the same name that is gone, and its slices with it
            raise LeaseLapsed(f"lease {lease.id!r} holds no EndpointSlice at {self._place.words}")
        return name, token, found

    def _put(self, verb: str, name: str, body: JsonObject, found: JsonObject) -> None:
        """Replaces exactly the slice that was found; Refused (409) where another writer came first."""
        version = _metadata(found).get("resourceVersion")
        metadata = {**_metadata(body), "resourceVersion": version}
        self._api.ask(verb, "PUT", f"{self._slices}/{name}", body={**body, "metadata": metadata})


def _metadata(item: JsonObject) -> JsonObject:
    metadata = item.get("metadata")
    return metadata if isinstance(metadata, dict) else {}
