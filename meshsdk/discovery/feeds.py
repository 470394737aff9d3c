"""The registries of one mesh: one desk for each registry in use, and the migration modes of services.

Made by `meshsdk.channel.mesh` where the bootstrap has registries, and used by the xDS client through its own port
(`meshsdk.xds_client.feeds`): follow a source, stop following. Opens a registry when it is first named; decides nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from meshsdk.bootstrap import Bootstrap, RegistryConfig
from meshsdk.discovery.default_registry import open_registry_of
from meshsdk.discovery.desk import Desk
from meshsdk.discovery.last_known import LastKnown
from meshsdk.discovery.outage import DEFAULT_PERIOD
from meshsdk.discovery.shift import DeskSettings
from meshsdk.errors import ConfigurationError
from meshsdk.model.migration import Migration
from meshsdk.model.registry_url import shown_url
from meshsdk.model.resources import RegistrySource
from meshsdk.model.snapshot import Key
from meshsdk.model.told import Told

_STOPPING = 5.0  # seconds at most to wait for the threads of all registries


class RegistryFeeds:
    """All methods are for any thread. `_lock` guards all fields but `_modes`, whose entries are set atomically."""

    def __init__(self, bootstrap: Bootstrap) -> None:
        self._bootstrap = bootstrap
        self._lock = threading.RLock()
        self._desks: dict[str, Desk] = {}
        self._running: set[str] = set()
        self._tell: Callable[[Told], None] | None = None  # None while stopped
        self._followed: dict[Key, str] = {}  # key -> registry
        self._modes: dict[str, Migration] = {}  # what the application set, by service

    def open(self, registry: str) -> None:
        """Opens a registry of the bootstrap; dials nothing. Raises ConfigurationError that names its entry."""
        with self._lock:
            self._desk(registry).open()

    def migrate(self, service: str, mode: Migration | None) -> None:
        """Sets the migration mode of a gRPC service, above all other settings; None: as those say."""
        with self._lock:
            if mode is None:
                self._modes.pop(service, None)
            else:
                self._modes[service] = mode
            for desk in self._desks.values():
                desk.migrate()

    def start(self, tell: Callable[[Told], None]) -> None:
        """Begins to tell what is followed from now on, on threads of the desks."""
        with self._lock:
            self._tell = tell

    def follow(self, key: Key, source: RegistrySource) -> None:
        """Tells the instances of `source` under `key`; a key that is followed may change its migration mode only."""
        with self._lock:
            tell = self._tell
            if tell is None:
                return
            try:
                desk = self._desk(source.registry)
                if source.registry not in self._running:
                    desk.start(tell)
                    self._running.add(source.registry)
            except ConfigurationError as error:
                tell(Told(key, None, str(error), self.words(source.registry)))
                return
            self._followed[key] = source.registry
            desk.follow(key, source)

    def unfollow(self, key: Key) -> None:
        """Ends that."""
        with self._lock:
            registry = self._followed.pop(key, None)
            if registry is not None:
                self._desks[registry].unfollow(key)

    def stop(self) -> None:
        """Ends all threads and connections, of all registries at once; what is known is kept for the next `start`.

        A registry that does not let go of its threads in time is left to itself.
        """
        with self._lock:
            self._tell = None
            for desk in self._desks.values():
                desk.end()
            deadline = time.monotonic() + _STOPPING
            for desk in self._desks.values():
                desk.join(max(0.0, deadline - time.monotonic()))
            self._running.clear()
            self._followed.clear()

    def words(self, registry: str) -> str:
        """Names a registry to users, without what its URL may hold of secrets."""
        config = self._bootstrap.mesh.registries.get(registry)
        return f"registry {registry!r}" + (f" ({shown_url(config.url)})" if config is not None else "")

    def _desk(self, registry: str) -> Desk:
        desk = self._desks.get(registry)
        if desk is None:
            config = self._bootstrap.mesh.registries.get(registry)
            if config is None:
                known = ", ".join(sorted(self._bootstrap.mesh.registries)) or "none"
                raise ConfigurationError(
                    f"{self._bootstrap.origin}: meshsdk.registries has no {registry!r} (it has: {known})"
                )
            desk = self._desks[registry] = Desk(self._settings(registry, config))
        return desk

    def _settings(self, registry: str, config: RegistryConfig) -> DeskSettings:
        cache_dir = self._bootstrap.mesh.cache_dir
        return DeskSettings(
            name=registry,
            words=self.words(registry),
            open=partial(open_registry_of, self._bootstrap, registry),
            mode=self._mode,
            memory=LastKnown(cache_dir, config.url) if cache_dir else None,
            period=DEFAULT_PERIOD if config.protection is None else config.protection,
        )

    def _mode(self, source: RegistrySource) -> Migration:
        """The application's own word, the control plane's, the bootstrap's for the service, its default."""
        settings = self._bootstrap.mesh.migration
        return (
            self._modes.get(source.interface)
            or source.migration
            or settings.services.get(source.interface)
            or settings.default
        )
