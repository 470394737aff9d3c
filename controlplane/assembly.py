"""A whole control plane in one object: plane, xDS server with registration, admin interface, keeper.

Made by `meshctl serve` and by `embedded`. The one place that knows all of them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from controlplane.admin.address import split_address
from controlplane.admin.api import Api
from controlplane.admin.server import AdminServer
from controlplane.keeper import Keeper
from controlplane.plane import REGISTERED, Plane
from controlplane.registries.feed import Feed
from controlplane.registries.service import RegistrationService
from controlplane.server.service import XdsServer
from controlplane.server.status import ClientInfo
from controlplane.sources.upstream import Upstream
from controlplane.store.open import open_store
from controlplane.store.shared import SharedStore
from meshsdk.discovery.opening import open_registry
from meshsdk.errors import ConfigurationError

_PATIENCE = 3.0  # seconds at the start for feeds and upstreams to tell what they have, all together
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Options:
    """What a control plane is made of.

    `directory`: YAML files to follow, or None. `store`: `memory`, `sqlite:PATH` or `etcd://HOST:PORT[,HOST:PORT]`.
    `xds`: `HOST:PORT` of xDS and registration; port 0 for any. `admin`: the same for the admin interface; None for
    none. `registries`: `NAME=URL`, the highest first. `sources`: `xds://HOST:PORT` of other control planes, the highest
    first. `debounce`: seconds of quiet, and at most, between a change and its push.
    """

    directory: Path | None = None
    store: str = "memory"
    xds: str = "127.0.0.1:0"
    admin: str | None = None
    registries: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    debounce: tuple[float, float] = (0.02, 0.5)


class ControlPlane:
    """Runs from `start` to `stop`. Owned by one thread; `plane` may be used from any.

    Raises:
        ConfigurationError: files, addresses or URLs cannot be used.
        StoreError: the store cannot be opened.
    """

    def __init__(self, options: Options) -> None:
        self._wanted = split_address(options.xds)
        self._keeper = Keeper(time.monotonic)
        with ExitStack() as undo:
            feeds = [undo.enter_context(closing(feed)) for feed in _feeds(options.registries, self._keeper)]
            upstreams = [Upstream(url, self._keeper.wake) for url in _distinct(options.sources)]
            store = open_store(options.store)
            undo.callback(store.close)
            if isinstance(store, SharedStore):
                store.start(self._keeper.wake)
            self.plane = Plane(
                options.directory, store, time.monotonic, self._keeper.wake, feeds=feeds, upstreams=upstreams
            )
            self._admin = AdminServer(options.admin) if options.admin is not None else None
            undo.pop_all()
        self._registration = RegistrationService(self.plane.registrar)
        self._xds = XdsServer(
            self.plane.cache,
            services=[self._registration.add_to],
            debounce=options.debounce,
        )
        self._about = {"config": str(options.directory) if options.directory else "", "store": options.store}
        self.xds_address = ""  # known once started

    @property
    def admin_address(self) -> str | None:
        """Where the admin interface listens; None without one."""
        return self._admin.address if self._admin else None

    def start(self) -> None:
        """Begins to serve, once feeds and upstreams have told what they have, or a few seconds have passed.

        Until then nobody is answered: an answer without their instances would take those away from clients that come
        from another control plane. Raises ConfigurationError where an address cannot be listened on; all is stopped.
        """
        host, port = self._wanted
        bound = f"[{host}]" if ":" in host else host
        try:
            self._keeper.start(self.plane, self._sweep)
            self._gather()
            self.xds_address = f"{bound}:{self._xds.start(f'{bound}:{port}')}"
        except BaseException:
            self.stop()
            raise
        if self._admin:
            about = {"xds": self.xds_address, "admin": self._admin.address, **self._about}
            self._admin.start(Api(self.plane, self._xds.clients, about, self._xds.counters))

    def stop(self, grace: float = 1.0) -> None:
        """Ends all of it: calls under way have `grace` seconds. Idempotent."""
        if self._admin:
            self._admin.stop()
        self._registration.close()
        self._xds.stop(grace)
        self._keeper.stop()
        self.plane.close()

    def clients(self) -> tuple[ClientInfo, ...]:
        """Returns the open xDS streams."""
        return self._xds.clients()

    def _sweep(self) -> None:
        self.plane.sweep(lambda: [client.view for client in self._xds.clients()], self._xds.asking)

    def _gather(self) -> None:
        for feed in self.plane.feeds:
            feed.start()
        for upstream in self.plane.upstreams:
            upstream.start()
        deadline = time.monotonic() + _PATIENCE
        for feed in self.plane.feeds:
            feed.wait_listed(max(0.0, deadline - time.monotonic()))
        for upstream in self.plane.upstreams:
            upstream.wait_told(max(0.0, deadline - time.monotonic()))


def _feeds(registries: Sequence[str], keeper: Keeper) -> Iterable[Feed]:
    names: set[str] = {REGISTERED}
    for text in registries:
        name, equals, url = text.partition("=")
        where = f"--registry {text}"
        if not equals or not _NAME.fullmatch(name):
            raise ConfigurationError(f"{where}: expected NAME=URL, such as default=etcd://127.0.0.1:2379")
        if name in names:
            raise ConfigurationError(f"{where}: the name {name} was given before")
        names.add(name)
        yield Feed(name, url, open_registry(url, where), keeper.wake)


def _distinct(sources: Sequence[str]) -> Sequence[str]:
    for source in sources:
        if sources.count(source) > 1:
            raise ConfigurationError(f"--source {source} was given twice")
    return sources
