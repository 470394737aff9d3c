"""The control plane without its doors: configuration, registration and publication under one lock.

Called by the registration service, the admin interface, the xDS server (views) and the keeper, each on its own thread.
Every public method takes the lock. Listens nowhere; what it knows of time comes from `clock`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from controlplane.config.documents import Entry
from controlplane.config.problems import Problem
from controlplane.configured import Applied, Configured
from controlplane.model.identity import ResourceId, ResourceKind
from controlplane.model.service import Resolution
from controlplane.publication import Publication
from controlplane.registries.leases import Change
from controlplane.registries.registration import Registration
from controlplane.server.node import Node
from controlplane.snapshot import ResourceCache
from controlplane.store.port import Store, StoreError
from controlplane.translate.describe import Row, endpoint_rows, route_rows
from controlplane.translate.view import view_of

_LOG = logging.getLogger(__name__)
LINGER = 300.0  # seconds a service stays known after its last instance went, so that a restart is no removal


class Plane:
    """Owns `cache`, `registration` and all that feeds them; `lock` guards everything but the cache.

    Args:
        directory: YAML files to follow, or None.
        store: closed by `close`.
        clock: monotonic seconds.
        wake: called, under the lock, when there is something to flush or the next deadline may have changed.

    Raises:
        ConfigurationError: the files cannot be read or used.
        StoreError: the store cannot be read.
    """

    def __init__(
        self, directory: Path | None, store: Store, clock: Callable[[], float], wake: Callable[[], None]
    ) -> None:
        self.lock = threading.RLock()
        self.cache = ResourceCache(view=self._view)
        self._clock = clock
        self._wake = wake
        self._store = store
        self.registration = Registration(store, clock(), self._changed)
        self._publication = Publication(self.cache, self.registration.instances)
        self._configured = Configured(directory, store)
        self._configured.begin()
        self._empty_since: dict[str, float] = {}  # applications whose last instance went, and when
        self._publish()

    def close(self) -> None:
        """Closes the store. Idempotent as far as the store is."""
        with self.lock:
            self._store.close()

    # -- configuration ----------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Follows the files if they changed."""
        with self.lock:
            before = self._configured.problems
            if not self._configured.look():
                return
            if self._configured.problems:
                for problem in self._configured.problems:
                    _LOG.error("configuration refused, the last good one stays in force: %s", problem)
            else:
                again = " again" if before else ""
                _LOG.info("configuration in force%s: %d resources", again, len(self._configured.accepted.entries))
            self._publish()

    def apply(self, text: str, file: str) -> tuple[list[Applied], list[Problem]]:
        """See Configured.apply."""
        with self.lock:
            done = self._configured.apply(text, file, self._publication.apps)
            self._publish()
            return done

    def delete(self, identity: ResourceId) -> None:
        """See Configured.delete."""
        with self.lock:
            self._configured.delete(identity)
            self._publish()

    def resources(self, kind: ResourceKind | None = None) -> list[Entry]:
        """Returns the resources in force, by kind, namespace and name."""
        with self.lock:
            entries = self._configured.accepted.entries
        found = [entry for entry in entries if kind is None or entry.id.kind is kind]
        return sorted(found, key=lambda entry: (entry.id.kind.value, entry.id.namespace, entry.id.name))

    def _publish(self) -> None:
        apps = self._publication.apps | self.registration.instances.keys()
        self._publication.configure(self._configured.accepted.configuration, apps)

    # -- instances and views ----------------------------------------------------------------------------------------

    def _changed(self, changes: Iterable[Change]) -> None:
        listed = list(changes)
        self._publication.changed(listed)
        now = self._clock()
        for app in {change.instance.app for change in listed}:
            if app in self.registration.instances:
                self._empty_since.pop(app, None)
            else:
                self._empty_since.setdefault(app, now)
        self._wake()

    def flush(self) -> None:
        """Publishes what changed about instances since the last time."""
        with self.lock:
            self._publication.flush()

    def tick(self) -> float | None:
        """Drops what is over: leases, and applications that went for good. Returns the next deadline, if any."""
        now = self._clock()
        with self.lock:
            try:
                self.registration.expire(now)
            except StoreError as error:
                _LOG.error("lapsed leases could not be removed from the store, and will lapse again: %s", error)
            over = [app for app, since in self._empty_since.items() if since + LINGER <= now]
            if over:
                for app in over:
                    del self._empty_since[app]
                self._publication.drop_apps(over)
            deadlines = [since + LINGER for since in self._empty_since.values()]
            lease = self.registration.next_deadline()
            return min(deadlines if lease is None else [*deadlines, lease], default=None)

    def _view(self, node: Node) -> str:
        with self.lock:
            return self._publication.view(view_of(node.labels, node.app, node.user_agent))

    def sweep_views(self, in_use: Callable[[], Iterable[str]]) -> None:
        """Forgets views without a client. `in_use` tells the keys of the connected ones; it runs outside the lock."""
        with self.lock:
            stamp = self._publication.stamp()
        keys = frozenset(in_use())
        with self.lock:
            self._publication.keep_views(keys, stamp)

    # -- reading ----------------------------------------------------------------------------------------------------

    def hosts(self) -> list[str]:
        """Returns every service there is."""
        with self.lock:
            return self._publication.hosts()

    def routes(self, host: str) -> list[Row]:
        """Returns the routes of a host in words, in the order in which they are tried."""
        with self.lock:
            configuration = self._configured.accepted.configuration
        return list(route_rows(host, configuration))

    def endpoints(self, host: str) -> list[Row]:
        """Returns the endpoints of a host and its subsets, as published."""
        with self.lock:
            self._publication.flush()
            published = self._publication.assignments(host)
        return [row for packed in published for row in endpoint_rows(packed.body)]

    def warnings(self) -> tuple[Problem, ...]:
        """Returns what is in force and has no effect, or waits for something."""
        with self.lock:
            return (*self._configured.accepted.warnings(self._publication.apps), *self._unused())

    def _unused(self) -> Iterator[Problem]:
        """Yields a warning for each application whose instances register and get no calls."""
        for app, group in self.registration.instances.items():
            service = self._configured.accepted.configuration.services.get(app)
            if service and (service.workloads or service.resolution is Resolution.DNS):
                what = "lists its endpoints" if service.workloads else "is resolved by DNS"
                yield Problem(
                    service.origin, f"{len(group)} registered instances of {app} get no calls: {service.id} {what}"
                )

    def status(self) -> dict[str, object]:
        """Returns counts, problems and warnings as JSON-like values."""
        with self.lock:
            accepted = self._configured.accepted
            kinds = {kind.value: 0 for kind in ResourceKind}
            for entry in accepted.entries:
                kinds[entry.id.kind.value] += 1
            return {
                "resources": kinds,
                "services": len(self._publication.hosts()),
                "views": self._publication.views,
                **self.registration.counts(),
                "problems": [str(problem) for problem in self._configured.problems],
                "warnings": [str(warning) for warning in self.warnings()],
            }
