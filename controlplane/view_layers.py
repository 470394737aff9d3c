"""What views see otherwise than all do: layers of routes and of clusters, shared by the views for which they are equal.

Owned by `publication`. A layer belongs to one *combined projection*: what of a view makes a difference to any service's
routes, or clusters. So memory and the cost of a change of configuration follow the distinct projections that clients
have, not the number of clients or of their labels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controlplane import endpoint_sets
from controlplane.model.configuration import Configuration
from controlplane.model.shims import Order
from controlplane.snapshot import Packed, ResourceCache, pack
from controlplane.steering import Steering
from controlplane.translate import names
from controlplane.translate.clusters import clusters
from controlplane.translate.routes import route_configuration
from controlplane.translate.view import (
    DEFAULT_VIEW,
    View,
    cluster_view,
    clusters_vary,
    counting_pairs,
    endpoint_view,
    route_view,
)


@dataclass(frozen=True, slots=True)
class _Kind:
    """One type of resource that depends on the view.

    `project`: what of a view counts for a host. `make`: its resources. `varies`: no view sees what all see.
    """

    name: str
    type_url: str
    project: Callable[[str, Configuration, View], View]
    make: Callable[[str, Configuration, View], Iterable[object]]
    varies: Callable[[str, Configuration], bool]


_KINDS = (
    _Kind("clusters", names.CLUSTER, cluster_view, clusters, clusters_vary),
    _Kind(
        "routes",
        names.ROUTE,
        route_view,
        lambda host, configuration, view: (route_configuration(host, configuration, view),),
        lambda host, configuration: False,  # noqa: ARG005 - the default view's routes are everybody's
    ),
)
_Made = tuple[str, str, View]  # kind, host, projection


@dataclass(slots=True)
class _Layer:
    """`view`: the combined projection it is for. `made`: what it is put together from, by host."""

    kind: _Kind
    view: View
    made: dict[str, _Made] = field(default_factory=dict)


class ViewLayers:
    """Not thread-safe: its owner holds a lock."""

    def __init__(self, cache: ResourceCache) -> None:
        self._cache = cache
        self._steering = Steering(cache)
        self._configuration = Configuration()
        self._hosts: set[str] = set()
        self._pairs: Collection[tuple[str, str]] = ()  # labels that make a difference to anything
        self._views: dict[str, View] = {}  # by key
        self._nodes: dict[str, set[str]] = {}  # keys of the views that are a node's own, by node
        self._layers: dict[str, _Layer] = {}  # by key in the cache
        self._made: dict[_Made, tuple[Packed, ...]] = {}
        self._stacks: dict[View, Sequence[str]] = {}  # memo, by view with the labels alone that count

    def __len__(self) -> int:
        return len(self._views)

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def configure(self, configuration: Configuration, hosts: Iterable[str]) -> None:
        """Makes all layers anew."""
        self._configuration = configuration
        self._steering.configure(configuration)
        self._hosts = set(hosts)
        self._pairs = counting_pairs(configuration)
        self._made = {}
        self._restack()

    def add_host(self, host: str) -> None:
        """Adds a service; it may matter to views for which nothing made a difference so far."""
        self._hosts.add(host)
        for view in {self._counting(view) for view in self._views.values()}:
            for layer in filter(None, map(self._layers.get, self._stack(view))):
                if not _covers(layer.view, layer.kind.project(host, self._configuration, view)):
                    self._restack()
                    return
        for key, layer in self._layers.items():
            self._cache.set(self._own(layer, host), node=key)

    def remove_hosts(self, hosts: Collection[str]) -> None:
        """Removes services."""
        self._hosts.difference_update(hosts)
        for key, layer in self._layers.items():
            gone = [layer.made.pop(host) for host in hosts if host in layer.made]
            listed = [packed.name for made in gone for packed in self._made.get(made, ())]
            if listed:
                self._cache.delete(layer.kind.type_url, listed, node=key)

    def add(self, key: str, view: View) -> None:
        """Makes sure that a view is served."""
        if key not in self._views:
            self._views[key] = view
            if view.node is not None:
                self._nodes.setdefault(view.node, set()).add(key)
            with self._cache.batch():
                self._cache.compose({key: self._stack_of(view)})

    def find(self, key: str) -> View | None:
        """Returns the view of a key."""
        return self._views.get(key)

    def remove(self, keys: Collection[str]) -> None:
        """Forgets views, and layers that no other view sees."""
        for key in keys:
            view = self._views.pop(key)
            if view.node is not None:
                self._nodes[view.node].discard(key)
                if not self._nodes[view.node]:
                    del self._nodes[view.node]
        self._stacks = {}
        used = {layer for view in self._views.values() for layer in self._stack_of(view)}
        with self._cache.batch():
            self._cache.compose(dict.fromkeys(keys))
            for key in [key for key in self._layers if key not in used]:
                del self._layers[key]
                self._cache.clear(node=key)
            self._steering.keep(used)
        kept = {made for layer in self._layers.values() for made in layer.made.values()}
        self._made = {made: packed for made, packed in self._made.items() if made in kept}

    def order(self, orders: Mapping[str, Order]) -> None:
        """Has the nodes with views of their own told what their shims are to run, by node id."""
        changed = self._steering.order(orders)
        with self._cache.batch():
            keys = [key for node in changed for key in self._nodes.get(node, ())]
            if keys:
                self._cache.compose({key: self._stack_of(self._views[key]) for key in keys})

    # -- layers -----------------------------------------------------------------------------------------------------

    def _restack(self) -> None:
        before = set(self._layers)
        self._layers, self._stacks = {}, {}
        with self._cache.batch():
            stacks = {key: self._stack_of(view) for key, view in self._views.items()}
            for key in before - self._layers.keys():
                self._cache.clear(node=key)
            self._steering.keep({layer for stack in stacks.values() for layer in stack})
            if stacks:
                self._cache.compose(stacks)

    def _counting(self, view: View) -> View:
        return replace(view, labels=view.narrowed(self._pairs), node=None)

    def _stack_of(self, view: View) -> Sequence[str]:
        """Returns the layers of a view: those it shares, and what its node alone is told."""
        return (*self._stack(view), *self._steering.stack(view))

    def _stack(self, view: View) -> Sequence[str]:
        """Returns the layers of a view, made if there are none yet."""
        counting = self._counting(view)
        known = self._stacks.get(counting)
        if known is None:
            layers = [endpoint_sets.LAYER] if endpoint_view(view).leds else []
            layers += [self._layer(kind, counting) for kind in _KINDS]
            known = self._stacks[counting] = tuple(layers)
        return known

    def _layer(self, kind: _Kind, view: View) -> str:
        combined = self._combined(kind, view)
        key = f"{kind.name}:{combined.key}"
        if key not in self._layers:
            layer = self._layers[key] = _Layer(kind, combined)
            own = [packed for host in self._hosts for packed in self._own(layer, host)]
            self._cache.replace(own, node=key)
        return key

    def _combined(self, kind: _Kind, view: View) -> View:
        """Returns what of a view counts for any host: its projection on each host follows from that."""
        found = {kind.project(host, self._configuration, view) for host in self._hosts}
        labels = {pair for each in found for pair in each.labels}
        return View(
            labels=view.narrowed(labels),
            request_fields=any(each.request_fields for each in found),
            unit=view.unit if any(each.unit for each in found) else "",
            registry_clusters=any(each.registry_clusters for each in found),
            load_reports=any(each.load_reports for each in found),
        )

    def _own(self, layer: _Layer, host: str) -> Iterable[Packed]:
        """Returns what a layer has of a host. Equal projections share the packed resources."""
        kind = layer.kind
        narrow = kind.project(host, self._configuration, layer.view)
        if narrow == DEFAULT_VIEW and not kind.varies(host, self._configuration):
            return ()
        made = layer.made[host] = (kind.name, host, narrow)
        if made not in self._made:
            self._made[made] = tuple(pack(each) for each in kind.make(host, self._configuration, narrow))  # type: ignore[arg-type]
        return self._made[made]


def _covers(combined: View, narrow: View) -> bool:
    """Tells whether a projection on one more host adds nothing to a combined one."""
    return (
        set(narrow.labels) <= set(combined.labels)
        and narrow.request_fields <= combined.request_fields
        and narrow.unit in ("", combined.unit)
        and narrow.registry_clusters <= combined.registry_clusters
        and narrow.load_reports <= combined.load_reports
    )
