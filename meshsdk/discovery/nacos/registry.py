"""Nacos as a `Registry`: one session, what is published on it, and the views of the services that are watched.

Opened by `open_url` of the package. Pushes are heard on the session's thread, questions that follow from them are asked
on the pulse's; watchers are told under the lock, on either.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from meshsdk.discovery import limits
from meshsdk.discovery.following import RegistryClosed
from meshsdk.discovery.mirror import Mirror
from meshsdk.discovery.nacos.configs import ConfigCatalog
from meshsdk.discovery.nacos.hosts import from_host
from meshsdk.discovery.nacos.place import Place
from meshsdk.discovery.nacos.published import Published
from meshsdk.discovery.nacos.pulse import Pulse
from meshsdk.discovery.nacos.services import listed_services
from meshsdk.discovery.nacos.session import Session
from meshsdk.discovery.nacos.views import Host, Taken, View, Watcher
from meshsdk.discovery.nacos.wire import JsonObject
from meshsdk.discovery.registry import Lease
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Increment, Instance, InstanceState, Revision

_HEALTH_CHECK = 5.0  # seconds, as Nacos' own clients
_DOUBT = 1.0  # seconds after which a service that seems to be empty is asked about again
_AGAIN = 1.0  # seconds after which a question that failed is asked again


class NacosWatch:
    """Implements `meshsdk.discovery.registry.Watch`."""

    def __init__(self, registry: NacosRegistry, watcher: Watcher) -> None:
        self._registry = registry
        self.watcher = watcher

    @property
    def problem(self) -> str:
        """Why the registry is not followed at present, "" while it is."""
        return self._registry.problem

    @property
    def skipped(self) -> int:
        """How many entries cannot be used at present."""
        return self.watcher.mirror.skipped

    def cancel(self) -> None:
        """See `Watch`."""
        self._registry.unwatch(self.watcher)


class NacosRegistry:
    """Implements `meshsdk.discovery.registry.Registry` on `place`."""

    def __init__(self, place: Place) -> None:
        self._session = Session(place, self._up, self._pushed)
        self._place = place
        self._catalog = ConfigCatalog(self._session, place)
        self._published = Published(self._session, place)
        self._pulse = Pulse(f"the pulse of {place.words}")
        self._lock = threading.RLock()  # a listener may begin a watch
        self._views: dict[str, View] = {}  # guarded by _lock, as is all below
        self._watchers_of_all: list[Watcher] = []
        self._polling = False  # the list of services is asked for every so often

    @property
    def problem(self) -> str:
        """Why there is no connection, "" while there is one."""
        return self._session.problem

    def register(self, instance: Instance, ttl: float) -> Lease:
        """See `Registrar`. The lease lasts as long as the connection; its ttl is how soon to look."""
        if problem := limits.instance_problem(instance):
            raise RegistryError(problem)
        (lease,) = self._published.add([instance])
        return Lease(lease.id, min(ttl, lease.ttl))

    def renew(self, lease: Lease) -> Lease:
        """See `Registrar`."""
        self._open()
        self._published.check(lease)
        return lease

    def set_state(self, lease: Lease, state: InstanceState) -> None:
        """See `Registrar`."""
        self._published.set_state(lease, state)

    def deregister(self, lease: Lease) -> None:
        """See `Registrar`."""
        self._published.remove(lease)

    def publish_revision(self, revision: Revision) -> None:
        """See `Catalog`."""
        self._catalog.publish_revision(revision)

    def get_revision(self, app: str, revision: str) -> Revision | None:
        """See `Catalog`."""
        return self._catalog.get_revision(app, revision)

    def map_service(self, service: str) -> tuple[str, ...]:
        """See `Catalog`."""
        return self._catalog.map_service(service)

    def watch(self, app: str, unit: str, on_increment: Callable[[Increment], None]) -> NacosWatch:
        """See `Feed`. Called on threads of the registry, one at a time."""
        self._open()
        mirror: Mirror[Host] = Mirror(self._place.words, app, unit, _decode, on_increment)
        watcher = Watcher(app, unit, mirror)
        with self._lock:
            if app:
                view = self._views.setdefault(app, View(app))
                view.watchers.append(watcher)
            else:
                self._watchers_of_all.append(watcher)
        self._session.start()
        if app:
            self._pulse.later(0, lambda: self._begin(watcher))
        else:
            self._pulse.later(0, self._services)
        return NacosWatch(self, watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Tells it no more; idempotent."""
        with self._lock:
            if watcher in self._watchers_of_all:
                self._watchers_of_all.remove(watcher)
            for view in list(self._views.values()):
                if watcher in view.watchers:
                    view.watchers.remove(watcher)
                    self._pulse.later(0, lambda app=view.app: self._follow(app))  # type: ignore[misc]

    def close(self) -> None:
        """See `Registry`."""
        with self._lock:
            self._views.clear()
            self._watchers_of_all.clear()
        self._session.close()
        self._pulse.close(self._place.timeout)

    # -- on the session's thread ------------------------------------------------------------------------------------

    def _up(self, epoch: int) -> None:
        self._pulse.later(_HEALTH_CHECK, lambda: self._check(epoch))
        with self._lock:
            apps = list(self._views)
        for app in apps:
            self._pulse.later(0, lambda one=app: self._follow(one))  # type: ignore[misc]

    def _pushed(self, info: JsonObject) -> None:
        app = str(info.get("name") or "").rpartition("@@")[2]
        if info.get("groupName") in (None, self._place.group):
            self._take(app, info)

    # -- on the pulse's thread --------------------------------------------------------------------------------------

    def _check(self, epoch: int) -> None:
        """Asks whether the server is there; a connection that does not answer is given up."""
        if self._session.epoch != epoch:
            return
        self._pulse.later(_HEALTH_CHECK, lambda: self._check(epoch))
        try:
            self._session.ask("check the health of", "HealthCheckRequest", {"module": "internal"})
        except RegistryError:
            self._session.drop(epoch)

    def _begin(self, watcher: Watcher) -> None:
        """Gives a watcher its first listing: what is known, or what the subscription answers."""
        with self._lock:
            view = self._views.get(watcher.app)
            if view is None or watcher not in view.watchers:
                return
            fits = view.known and view.clusters in ("", view.wanted_clusters())
            if fits and not watcher.listed:
                watcher.listed = True
                watcher.mirror.reset(view.hosts)
        self._follow(watcher.app)

    def _follow(self, app: str) -> None:
        """Subscribes to a service as its watchers want it, or no longer; asked again where that fails."""
        with self._lock:
            view = self._views.get(app)
            if view is None:
                return
            wanted, epoch = view.wanted_clusters(), self._session.epoch
            if view.watchers and view.epoch == epoch != 0 and view.clusters == wanted:
                return
            leaving = not view.watchers
            if leaving:
                del self._views[app]
                if view.epoch != epoch or not epoch:
                    return
        asked: JsonObject = {"clusters": wanted, "subscribe": not leaving}
        try:
            answer = self._session.ask("follow a service of", "SubscribeServiceRequest", self._where(app) | asked)
        except RegistryError:
            if not leaving:
                self._pulse.later(_AGAIN, lambda: self._follow(app))
            raise
        with self._lock:
            if self._views.get(app) is view:
                view.subscribed(answer.epoch, wanted, time.monotonic(), self._place.grace)
                info = answer.body.body.get("serviceInfo")
                self._take(app, info if isinstance(info, dict) else {})

    def _services(self) -> None:
        """Asks for the list of services, follows them all, and tells those who watch all when they are listed."""
        with self._lock:
            watchers = list(self._watchers_of_all)
            if not watchers or self._polling:
                return
            self._polling = True
        try:
            apps = listed_services(self._session, self._place)
            for app in apps:
                with self._lock:
                    view = self._views.setdefault(app, View(app))
                    new = [watcher for watcher in watchers if watcher not in view.watchers]
                    view.watchers += new
                self._follow(app)
                with self._lock:
                    for watcher in new:
                        if watcher.listed:
                            watcher.mirror.change(view.hosts)
            with self._lock:
                for watcher in watchers:
                    if not watcher.listed and watcher in self._watchers_of_all:
                        watcher.listed = True
                        watched = [view for view in self._views.values() if watcher in view.watchers]
                        watcher.mirror.reset({key: host for view in watched for key, host in view.hosts.items()})
        finally:
            with self._lock:
                self._polling = False
            self._pulse.later(self._place.services_poll, self._services)

    def _ask_again(self, app: str) -> None:
        """The second look at a service: what the server says now is believed."""
        with self._lock:
            view = self._views.get(app)
            if view is None:
                return
            clusters = view.clusters
        asked: JsonObject = {"cluster": clusters, "healthyOnly": False, "udpPort": 0}
        try:
            answer = self._session.ask("look at a service of", "ServiceQueryRequest", self._where(app) | asked)
        except RegistryError:
            self._pulse.later(_AGAIN, lambda: self._ask_again(app))
            raise
        info = answer.body.body.get("serviceInfo")
        self._take(app, info if isinstance(info, dict) else {}, sure=True)

    # -- on both ----------------------------------------------------------------------------------------------------

    def _take(self, app: str, info: JsonObject, *, sure: bool = False) -> None:
        with self._lock:
            view = self._views.get(app)
            if view is None:
                return
            now = time.monotonic()
            taken = view.listing(info, now, sure=sure)
            left = view.keep_until - now
        if taken is Taken.DOUBTED:
            self._pulse.later(_DOUBT, lambda: self._ask_again(app))
        elif taken is Taken.KEPT:
            self._pulse.later(left + 0.01, lambda: self._ask_again(app))

    def _where(self, app: str) -> JsonObject:
        namespace, group = self._place.namespace, self._place.group
        return {"module": "naming", "namespace": namespace, "groupName": group, "serviceName": app}

    def _open(self) -> None:
        if not self._session.live:
            raise RegistryClosed(f"the registry at {self._place.words} is closed")


def _decode(_key: str, host: Host) -> Instance:
    return from_host(host.app, host.raw)
