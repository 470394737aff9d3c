"""From the model to the cache: which xDS resources there are, and which of them a change touches.

Called by the plane under its lock. A change of configuration translates everything anew and sends what differs; a
change of an instance costs that instance (`endpoint_sets`). Reads no files and no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from controlplane.endpoint_sets import EndpointSets
from controlplane.model.configuration import Configuration
from controlplane.model.shims import Order
from controlplane.registries.leases import Change
from controlplane.snapshot import Packed, ResourceCache, pack
from controlplane.translate import names
from controlplane.translate.clusters import clusters
from controlplane.translate.endpoints import Instances
from controlplane.translate.listener import listener
from controlplane.translate.routes import route_configuration
from controlplane.translate.targets import Target, targets
from controlplane.translate.view import DEFAULT_VIEW, View, clusters_vary, endpoint_view
from controlplane.view_layers import ViewLayers

_TYPES = (names.LISTENER, names.ROUTE, names.CLUSTER)  # set for all hosts; endpoints are made when asked for


class Publication:
    """Keeps `cache` equal to what configuration and instances say. Not thread-safe: its owner holds a lock.

    `instances` is the live view of all instances: application -> id -> instance.
    """

    def __init__(self, cache: ResourceCache, instances: Instances) -> None:
        self._cache = cache
        self._configuration = Configuration()
        self._sets = EndpointSets(cache, instances)
        self._layers = ViewLayers(cache)
        self._apps: set[str] = set()  # registered ones, and those whose last instance went a short while ago
        self._asked: dict[str, int] = {}  # view key -> stamp of the last time it was asked for
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
        hosts = self.hosts()
        with self._cache.batch():
            self._cache.replace((packed for host in hosts for packed in self._of_host(host)), types=_TYPES)
            every = (target for host in hosts for target in targets(host, configuration))
            self._sets.configure(every, (entry.workload for entry in configuration.workloads))
            self._layers.configure(configuration, hosts)

    def _of_host(self, host: str) -> Iterator[Packed]:
        yield pack(listener(host, self._configuration))
        yield pack(route_configuration(host, self._configuration, DEFAULT_VIEW))
        if not clusters_vary(host, self._configuration):
            yield from map(pack, clusters(host, self._configuration, DEFAULT_VIEW))

    # -- instances --------------------------------------------------------------------------------------------------

    def changed(self, changes: Iterable[Change]) -> None:
        """Notes what changed about instances; `flush` publishes it."""
        for change in changes:
            if change.instance.app not in self._apps:
                self._add_app(change.instance.app)
            self._sets.changed(change)

    def flush(self) -> bool:
        """Publishes the endpoints that changed; returns whether there were any."""
        return self._sets.flush()

    def _add_app(self, app: str) -> None:
        self._apps.add(app)
        if app in self._configuration.hosts():
            return
        with self._cache.batch():
            self._cache.set(self._of_host(app))
            self._sets.add(targets(app, self._configuration))
            self._layers.add_host(app)

    def drop_apps(self, apps: Collection[str]) -> None:
        """Stops serving applications that have no instance any more; what configuration names stays served."""
        self._apps.difference_update(apps)
        gone = [app for app in apps if app not in self._configuration.hosts()]
        with self._cache.batch():
            for app in gone:
                listed = [cluster.name for cluster in clusters(app, self._configuration, DEFAULT_VIEW)]
                self._cache.delete(names.CLUSTER, listed)
                self._sets.remove(targets(app, self._configuration))
            for type_url in (names.LISTENER, names.ROUTE):
                self._cache.delete(type_url, gone)
            self._layers.remove_hosts(gone)

    # -- views ------------------------------------------------------------------------------------------------------

    def view(self, view: View) -> str:
        """Makes sure that a view is served, and returns its key."""
        key = view.key
        self._asked[key] = self._stamp
        self._layers.add(key, view)
        return key

    def order(self, orders: Mapping[str, Order]) -> None:
        """Has shims told what to run, by node id; those not named are left as they are."""
        self._layers.order(orders)

    def stamp(self) -> int:
        """Returns a mark: views asked for from now on are younger than it (see `keep_views`)."""
        self._stamp += 1
        return self._stamp

    def keep_views(self, keys: Collection[str], stamp: int) -> None:
        """Forgets the views that are not in `keys` and were last asked for before `stamp`."""
        over = [key for key in self._layers if key not in keys and self._asked[key] < stamp]
        if over:
            self._layers.remove(over)
            for key in over:
                del self._asked[key]

    @property
    def views(self) -> int:
        """How many different views are served."""
        return len(self._layers)

    # -- endpoints that are asked for -------------------------------------------------------------------------------

    def knows(self, key: str, endpoints: Collection[str]) -> bool:
        """Tells whether a view asked for these EDS resources before. May be called without the lock."""
        return self._sets.knows(endpoints, leds=self._takes_leds(key))

    def ask(self, key: str, endpoints: Collection[str]) -> None:
        """Has EDS resources made that a client of a view asks for; `*` for all."""
        self._sets.ask(endpoints, leds=self._takes_leds(key))

    def asked(self) -> frozenset[str]:
        """Returns the EDS resources that were asked for."""
        return self._sets.asked()

    def withdrawn(self) -> frozenset[str]:
        """Returns the keys of the LEDS collections that are served only because clients may still ask for them."""
        return self._sets.withdrawn()

    def release(self, still: Callable[[str], Collection[str]], collected: Collection[str]) -> None:
        """Takes EDS resources and collections away that nobody asks for any more.

        `still`: the keys of the views that ask for an EDS resource. `collected`: those of `withdrawn` asked for.
        """
        self._sets.release(lambda name: {self._takes_leds(key) for key in still(name)}, collected)

    def _takes_leds(self, key: str) -> bool:
        view = self._layers.find(key)
        return view is not None and endpoint_view(view).leds

    # -- reading ----------------------------------------------------------------------------------------------------

    def assignments(self, host: str) -> list[Packed]:
        """Returns the EDS resources of a host and its subsets, with all endpoints in them."""
        wanted: Iterable[Target] = targets(host, self._configuration)
        return list(self._sets.assignments(wanted))
