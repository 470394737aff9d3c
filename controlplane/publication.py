"""From the model to the cache: which xDS resources there are, and which of them a change touches.

Called by the plane under its lock. A change of configuration translates everything anew and sends what differs; a
change of an instance rebuilds the EDS resources it belongs to and nothing else. Reads no files and no clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from controlplane.model.configuration import Configuration
from controlplane.registries.leases import Change
from controlplane.snapshot import Packed, ResourceCache, pack
from controlplane.translate import names
from controlplane.translate.clusters import clusters
from controlplane.translate.endpoints import EndpointEncoder, Instances
from controlplane.translate.listener import listener
from controlplane.translate.routes import route_configuration
from controlplane.translate.targets import Target, targets
from controlplane.translate.view import DEFAULT_VIEW, View, depends_on_view, source_pairs

TYPES = (names.LISTENER, names.ROUTE, names.CLUSTER, names.ENDPOINT)


class Publication:
    """Keeps `cache` equal to what configuration and instances say. Not thread-safe: its owner holds a lock.

    `instances` is the live view of all instances: application -> id -> instance.
    """

    def __init__(self, cache: ResourceCache, instances: Instances) -> None:
        self._cache = cache
        self._instances = instances
        self._configuration = Configuration()
        self._encoder = EndpointEncoder()
        self._apps: set[str] = set()  # registered ones, and those whose last instance went a short while ago
        self._targets: dict[str, Target] = {}
        self._by_app: dict[str, list[Target]] = {}
        self._by_labels: list[Target] = []  # those that any application's instances may belong to
        self._dirty: dict[str, Target] = {}
        self._views: dict[str, View] = {}
        self._asked: dict[str, int] = {}  # view key -> stamp of the last time it was asked for
        self._overlaid: set[str] = set()  # keys of the views with resources of their own
        self._stamp = 0

    @property
    def apps(self) -> frozenset[str]:
        """The applications that are served as services of their own name."""
        return frozenset(self._apps)

    def hosts(self) -> list[str]:
        """Returns every service there is, by name."""
        return sorted(self._configuration.hosts() | self._apps)

    def configure(self, configuration: Configuration, apps: Iterable[str]) -> None:
        """Makes the cache follow another configuration, as one consistent change."""
        self._configuration = configuration
        self._apps = set(apps)
        self._dirty.clear()
        self._index()
        with self._cache.batch():
            self._cache.replace(self._everything(), types=TYPES)
            made: dict[tuple[str, View], Packed] = {}
            for view in self._views.values():
                self._publish_view(view, made)

    def _index(self) -> None:
        self._targets, self._by_app, self._by_labels = {}, {}, []
        for host in self._configuration.hosts() | self._apps:
            for target in targets(host, self._configuration):
                self._add_target(target)

    def _add_target(self, target: Target) -> None:
        self._targets[target.name] = target
        if target.app is not None:
            self._by_app.setdefault(target.app, []).append(target)
        elif target.selects:
            self._by_labels.append(target)

    def _everything(self) -> Iterator[Packed]:
        for host in self.hosts():
            yield from self._of_host(host)

    def _of_host(self, host: str) -> Iterator[Packed]:
        yield pack(listener(host))
        yield pack(route_configuration(host, self._configuration, DEFAULT_VIEW))
        for cluster in clusters(host, self._configuration):
            yield pack(cluster)
        for target in targets(host, self._configuration):
            yield self._assignment(target)

    def _assignment(self, target: Target) -> Packed:
        workloads = [entry.workload for entry in self._configuration.workloads] if target.selects else []
        return pack(self._encoder.assignment(target, workloads, self._instances), target.name)

    # -- instances --------------------------------------------------------------------------------------------------

    def changed(self, changes: Iterable[Change]) -> None:
        """Notes what changed about instances; `flush` publishes it."""
        for change in changes:
            instance = change.instance
            if change.after is None:
                self._encoder.forget(instance.app, instance.id)
            if instance.app not in self._apps:
                self._add_app(instance.app)
            for target in (*self._by_app.get(instance.app, ()), *self._by_labels):
                if any(target.has_instance(each) for each in (change.before, change.after) if each is not None):
                    self._dirty[target.name] = target

    def flush(self) -> bool:
        """Publishes the EDS resources that changed; returns whether there were any."""
        if not self._dirty:
            return False
        dirty, self._dirty = self._dirty, {}
        self._cache.set([self._assignment(target) for target in dirty.values()])
        return True

    def _add_app(self, app: str) -> None:
        self._apps.add(app)
        if app in self._configuration.hosts():
            return
        for target in targets(app, self._configuration):
            self._add_target(target)
        self._cache.set(list(self._of_host(app)))

    def drop_apps(self, apps: Collection[str]) -> None:
        """Stops serving applications that have no instance any more; what configuration names stays served."""
        self._apps.difference_update(apps)
        gone = [app for app in apps if app not in self._configuration.hosts()]
        for app in gone:
            target = self._targets.pop(app)
            self._by_app[app].remove(target)
            self._dirty.pop(target.name, None)
        with self._cache.batch():
            for type_url in TYPES:
                self._cache.delete(type_url, gone)

    # -- views ------------------------------------------------------------------------------------------------------

    def view(self, view: View) -> str:
        """Makes sure that a view is served, and returns its key."""
        key = view.key
        self._asked[key] = self._stamp
        if key not in self._views:
            self._views[key] = view
            self._publish_view(view, {})
        return key

    def stamp(self) -> int:
        """Returns a mark: views asked for from now on are younger than it (see `keep_views`)."""
        self._stamp += 1
        return self._stamp

    def keep_views(self, keys: Collection[str], stamp: int) -> None:
        """Forgets the views that are not in `keys` and were last asked for before `stamp`."""
        for key in [key for key in self._views if key not in keys and self._asked[key] < stamp]:
            del self._views[key], self._asked[key]
            if key in self._overlaid:
                self._overlaid.remove(key)
                self._cache.clear(node=key)

    @property
    def views(self) -> int:
        """How many different views are served."""
        return len(self._views)

    def _publish_view(self, view: View, made: dict[tuple[str, View], Packed]) -> None:
        """Sets the routes that this view sees otherwise than the default view does. `made` is filled and used."""
        own: list[Packed] = []
        for host, service in self._configuration.virtual_services.items():
            if not depends_on_view(service):
                continue
            narrow = view.narrowed(source_pairs(service))
            if narrow != DEFAULT_VIEW:
                known = made.get((host, narrow))
                if known is None:
                    known = made[host, narrow] = pack(route_configuration(host, self._configuration, narrow))
                own.append(known)
        if own or view.key in self._overlaid:
            self._overlaid.add(view.key)
            self._cache.replace(own, node=view.key)

    # -- reading ----------------------------------------------------------------------------------------------------

    def assignments(self, host: str) -> list[Packed]:
        """Returns the EDS resources of a host and its subsets, as published."""
        found = (self._cache.get(names.ENDPOINT, target.name) for target in targets(host, self._configuration))
        return [packed for packed in found if packed is not None]
