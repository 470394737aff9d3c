"""The control plane without its doors: configuration, registration and publication under one lock.

Called by the registration service, the admin interface, the xDS server (views) and the keeper, each on its own thread.
Every public method takes the lock, and none waits for another process under it. Listens nowhere; what it knows of time
comes from `clock`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from controlplane.config.documents import Entry
from controlplane.config.problems import Problem
from controlplane.configured import Applied, Configured, Planned
from controlplane.model.identity import ResourceId, ResourceKind
from controlplane.model.rate_limits import RateLimit
from controlplane.model.shims import SHIM_APP
from controlplane.publication import Publication
from controlplane.registries.apart import Served
from controlplane.registries.feed import Feed
from controlplane.registries.layers import Layers
from controlplane.registries.leases import Change
from controlplane.registries.registrar import LocalRegistrar, Registrar
from controlplane.registries.registration import Registration
from controlplane.rollout.controller import Controller
from controlplane.rollout.status import ShimSetStatus
from controlplane.server.node import Node
from controlplane.server.type_urls import LB_ENDPOINT, RUNTIME
from controlplane.snapshot import ResourceCache
from controlplane.sources.offering import Offering
from controlplane.sources.upstream import Upstream
from controlplane.store.memory import MemoryStore
from controlplane.store.port import Store, StoreError
from controlplane.store.shared import SharedStore, StoreConflict
from controlplane.translate.describe import Row, endpoint_rows, route_rows
from controlplane.translate.names import ENDPOINT
from controlplane.translate.view import MAX_LABELS, View, counting_pairs, steered_pairs, view_of

_LOG = logging.getLogger(__name__)
LINGER = 300.0  # seconds a service stays known after its last instance went, so that a restart is no removal
SETTLING = 10.0  # seconds after a start with a store that forgets: shims register again within half of it
REGISTERED = "the registration service"  # the layer of the plane's own instances
_ATTEMPTS = 8  # times a change is planned anew because another control plane was faster


class Plane:
    """Owns `cache`, `registrar` and all that feeds them; `lock` guards everything but the cache.

    Args:
        directory: YAML files to follow, or None.
        store: closed by `close`.
        clock: monotonic seconds.
        wake: called, also under the lock, when there is something to flush or the next deadline may have changed.
        feeds: registries to follow, the highest first; closed by `close`.
        upstreams: control planes whose configuration is taken over, the highest first; closed by `close`.
        all_report: asks every client for the counts of its calls, not only those that say that they can tell.

    Raises:
        ConfigurationError: the files cannot be read or used.
        StoreError: the store cannot be read.
    """

    def __init__(
        self,
        directory: Path | None,
        store: Store | SharedStore,
        clock: Callable[[], float],
        wake: Callable[[], None],
        *,
        feeds: Sequence[Feed] = (),
        upstreams: Sequence[Upstream] = (),
        all_report: bool = False,
    ) -> None:
        self._all_report = all_report
        self.lock = threading.RLock()
        self.cache = ResourceCache(view=self._view, wanted=self._wanted, own=self._own)
        self.feeds, self.upstreams = tuple(feeds), tuple(upstreams)
        self._clock = clock
        self._wake = wake
        self._store = store
        self._writing = threading.Lock()  # held through a change of the store; taken before `lock`, never after
        self._registration: Registration | SharedStore
        self.registrar: Registrar
        if isinstance(store, SharedStore):
            self._registration, self.registrar = store, store.registrar
        else:
            self._registration = Registration(store, clock(), self._registered)
            self.registrar = LocalRegistrar(self._registration, self.lock, clock)
        layers = [(REGISTERED, self._registration.instances), *((feed.name, feed.instances) for feed in self.feeds)]
        self._layers = Layers(layers)
        self.instances = Served(self._layers)
        self._publication = Publication(self.cache, self.instances)
        self._offering = Offering(self.cache)
        settled = clock() + (SETTLING if isinstance(store, MemoryStore) else 0.0)
        self._shims = Controller(settled)
        self.configured = Configured(directory, store.resources(), [each.name for each in self.upstreams])
        self.configured.begin()
        self._empty_since: dict[str, float] = {}  # applications whose last instance went, and when
        self._publish()

    def close(self) -> None:
        """Closes the store, the feeds and the upstreams. Idempotent as far as the store is."""
        for feed in self.feeds:
            feed.close()
        for upstream in self.upstreams:
            upstream.close()
        with self._writing:
            if isinstance(self._store, SharedStore):
                self._store.close()
                return
            with self.lock:
                self._store.close()

    # -- configuration ----------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Follows the files if they changed."""
        with self.lock:
            before = self.configured.problems
            if self.configured.look():
                self._reconfigured(before)

    def apply(self, text: str, file: str) -> tuple[list[Applied], list[Problem]]:
        """Adds or replaces the resources of `text`; returns what was done and the warnings about them.

        Raises ConfigurationRefused, StoreError; nothing has changed then.
        """
        planned = self._write(lambda: self.configured.plan_apply(text, file))
        with self.lock:
            return list(planned.done), self.configured.warnings_about(file, self._publication.apps)

    def delete(self, identity: ResourceId) -> None:
        """Removes an applied resource. Raises NoSuchResource, ConfigurationRefused, StoreError."""
        self._write(lambda: self.configured.plan_delete(identity))

    def _write(self, plan: Callable[[], Planned]) -> Planned:
        with self._writing:
            if isinstance(self._store, SharedStore):
                return self._write_shared(self._store, plan)
            with self.lock:
                planned = plan()
                self._store.change_resources(list(planned.put), list(planned.removed))
                self.configured.change_applied(planned.put, planned.removed)
                self._publish()
                return planned

    def _write_shared(self, store: SharedStore, plan: Callable[[], Planned]) -> Planned:
        """Writes without the lock, and comes back by `drain`, in the order of everybody's changes."""
        for _ in range(_ATTEMPTS):
            with self.lock:
                self._drain_store()
                generation, planned = store.generation, plan()
            try:
                store.change_resources(list(planned.put), list(planned.removed), generation)
            except StoreConflict as conflict:
                _LOG.info("planned anew: %s", conflict)
                continue
            self.flush()
            return planned
        raise StoreError("other control planes change the configuration all the time; nothing was changed, try again")

    def resources(self, kind: ResourceKind | None = None) -> list[Entry]:
        """Returns the resources in force, by kind, namespace and name."""
        with self.lock:
            entries = self.configured.accepted.entries
        found = [entry for entry in entries if kind is None or entry.id.kind is kind]
        return sorted(found, key=lambda entry: (entry.id.kind.value, entry.id.namespace, entry.id.name))

    def _reconfigured(self, before: tuple[Problem, ...]) -> None:
        """Publishes, and logs what became of the newest state of a source that was not applied here."""
        after = self.configured.problems
        for problem in after:
            if problem not in before:
                _LOG.error("configuration refused, the last good one stays in force: %s", problem)
        if not after:
            again = " again" if before else ""
            _LOG.info("configuration in force%s: %d resources", again, len(self.configured.accepted.entries))
        self._publish()

    def _publish(self) -> None:
        apps = self._publication.apps | self.instances.keys()
        with self.cache.batch():
            self._publication.configure(self.configured.accepted.configuration, apps)
            self._shims.wake()
            self._offering.offer(self.configured.own())

    # -- instances and views ----------------------------------------------------------------------------------------

    def _registered(self, changes: Iterable[Change]) -> None:
        self._changed(REGISTERED, changes)
        self._wake()

    def _changed(self, layer: str, changes: Iterable[Change]) -> None:
        found = self._layers.changed(layer, changes)
        listed = [change for change in found if change.instance.app != SHIM_APP]
        if len(listed) < len(found):
            self._shims.wake()
        if not listed:
            return
        with self.cache.batch():
            self._publication.changed(listed)
        now = self._clock()
        for app in {change.instance.app for change in listed}:
            if app in self.instances:
                self._empty_since.pop(app, None)
            else:
                self._empty_since.setdefault(app, now)

    def flush(self) -> None:
        """Takes over what feeds, upstreams and a shared store told, and publishes what changed, as one commit."""
        with self.lock:
            for feed in self.feeds:
                self._changed(feed.name, feed.drain(self._clock()))
            self._drain_store()
            for upstream in self.upstreams:
                told = upstream.take(self._clock())
                if told is not None:
                    before = self.configured.problems
                    self.configured.told(upstream.name, told)
                    self._reconfigured(before)
            self._publication.flush()
            self._steer()

    def _steer(self) -> None:
        """Has the ShimSet controller look, if something changed or its time has come."""
        known = all(feed.wait_listed(0) for feed in self.feeds)
        sets = self.configured.accepted.configuration.shim_sets
        if self._shims.look(sets, self.instances.shims(), self._clock(), known=known):
            self._publication.order(self._shims.outcome.orders)

    def _drain_store(self) -> None:
        if not isinstance(self._store, SharedStore):
            return
        drained = self._store.drain(self._clock())
        self._changed(REGISTERED, drained.instances)
        if drained.put or drained.removed:
            before = self.configured.problems
            self.configured.change_applied(drained.put, drained.removed)
            self._reconfigured(before)

    def tick(self) -> float | None:
        """Drops what is over: leases, and applications that went for good. Returns the next deadline, if any."""
        now = self._clock()
        with self.lock:
            if isinstance(self._registration, Registration):
                try:
                    self._registration.expire(now)
                except StoreError as error:
                    _LOG.error("lapsed leases could not be removed from the store, and will lapse again: %s", error)
            over = [app for app, since in self._empty_since.items() if since + LINGER <= now]
            if over:
                for app in over:
                    del self._empty_since[app]
                self._publication.drop_apps(over)
            deadlines = [since + LINGER for since in self._empty_since.values()]
            waiting = (
                self._shims.due,
                self._registration.next_deadline(),
                *(upstream.next_deadline() for upstream in self.upstreams),
                *(feed.next_deadline() for feed in self.feeds),
            )
            return min((*deadlines, *(each for each in waiting if each is not None)), default=None)

    def _view(self, node: Node) -> str:
        with self.lock:
            return self._publication.view(self._seen(node))

    def _own(self, node: Node, type_url: str) -> Callable[[], str] | None:
        """Gives a node a view of its own once it asks what it is to do itself."""
        if type_url != RUNTIME:
            return None

        def find() -> str:
            with self.lock:
                return self._publication.view(replace(self._seen(node), node=node.id))

        return find

    def _seen(self, node: Node) -> View:
        many = len(node.labels) > MAX_LABELS
        configuration = self.configured.accepted.configuration
        counting = counting_pairs(configuration) | steered_pairs(configuration) if many else ()
        if many:
            what = "rules are matched against those they name now, then against `app` and the first by name"
            _LOG.warning("node %.200r has %d labels, %d are kept: %s", node.id, len(node.labels), MAX_LABELS, what)
        seen = view_of(node.labels, node.app, node.user_agent, node.features, node.metadata, counting)
        return replace(seen, load_reports=seen.load_reports or self._all_report)

    def _wanted(self, view: str, type_url: str, names: Collection[str]) -> Callable[[], None] | None:
        if type_url != ENDPOINT or self._publication.knows(view, names):
            return None
        return lambda: self._make_endpoints(view, names)

    def _make_endpoints(self, view: str, names: Collection[str]) -> None:
        with self.lock:
            self._publication.ask(view, names)

    def sweep(
        self,
        in_use: Callable[[], Iterable[str]],
        asking: Callable[[str, Iterable[str]], Mapping[str, frozenset[str]]],
    ) -> None:
        """Forgets views without a client, and endpoints that nobody asks for.

        `in_use` tells the keys of the views of connected clients. `asking`: by name, or key of a glob collection, those
        that ask for resources of a type. Both run outside the lock.
        """
        with self.lock:
            stamp, asked = self._publication.stamp(), self._publication.asked()
            withdrawn = self._publication.withdrawn()
        keys, still = frozenset(in_use()), asking(ENDPOINT, asked)
        collected = [key for key, views in asking(LB_ENDPOINT, withdrawn).items() if views] if withdrawn else ()
        with self.lock:
            self._publication.release(lambda name: still.get(name, ()), collected)
            self._publication.keep_views(keys, stamp)

    # -- reading ----------------------------------------------------------------------------------------------------

    def hosts(self) -> list[str]:
        """Returns every service there is."""
        with self.lock:
            return self._publication.hosts()

    def routes(self, host: str) -> list[Row]:
        """Returns the routes of a host in words, in the order in which they are tried."""
        with self.lock:
            configuration = self.configured.accepted.configuration
        return list(route_rows(host, configuration))

    def endpoints(self, host: str) -> list[Row]:
        """Returns the endpoints of a host and its subsets, as published."""
        self.flush()
        with self.lock:
            published = self._publication.assignments(host)
        return [row for packed in published for row in endpoint_rows(packed.body)]

    @property
    def apps(self) -> frozenset[str]:
        """The applications that are served as services of their own name."""
        with self.lock:
            return self._publication.apps

    @property
    def views(self) -> int:
        """How many different views are served."""
        return self._publication.views

    def rate_limits(self) -> Mapping[str, RateLimit]:
        """Returns the RateLimits in force by domain. Takes no lock: one reference, read at every question."""
        return self.configured.accepted.configuration.rate_limits

    def shim_sets(self) -> Mapping[ResourceId, ShimSetStatus]:
        """Returns how each ShimSet fares."""
        with self.lock:
            return self._shims.outcome.statuses

    def registered(self) -> dict[str, int]:
        """Returns the counts of the registration service."""
        with self.lock:
            return self._registration.counts()

    def shared_store(self) -> SharedStore | None:
        """Returns the store if other control planes share it."""
        return self._store if isinstance(self._store, SharedStore) else None
